//! Properties of lines, found without the lines: what the dictionary and the stamps of slots tell of the
//! lines of a template.

use std::sync::atomic::{AtomicU8, Ordering};

use model::{LineProperty, OUTCOMES_MAX, Outcomes, ValueBounds};

use crate::footer::Templates;
use crate::format::TEXTS;
use crate::template::{HEX_MASK, NUMBER_MASK, RAW, Stamp};

/// A question about a property, and what is known of each template so far.
#[derive(Debug)]
pub(crate) struct LineOutcomes {
    pub(crate) asked: Outcomes,
    /// [`UNKNOWN`], the outcome of all its lines, or [`OPEN`] and a bit for each class of text.
    templates: Box<[AtomicU8]>,
}

const UNKNOWN: u8 = u8::MAX;
const OPEN: u8 = OUTCOMES_MAX;
/// The bits of all classes of text.
const ALL_TEXTS: u8 = (1 << TEXTS.len()) - 1;

/// What is known of the lines of a template in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfTemplate {
    /// All have this outcome.
    Same(u8),
    /// Values tell, of these classes of text (a bit for each).
    Open(u8),
}

/// The bytes that values of a class of text may have.
fn class_bytes(class: usize) -> u64 {
    [u64::MAX, HEX_MASK, NUMBER_MASK][class]
}

/// The bounds of the values of a slot whose column is of a class.
pub(crate) fn bounds(stamp: &Stamp, class: usize) -> ValueBounds {
    ValueBounds {
        bytes: stamp.mask & class_bytes(class),
        shortest: 1,
        longest: stamp.longest,
    }
}

impl LineOutcomes {
    pub(crate) fn new(asked: Outcomes, templates: &Templates) -> Self {
        let unknown = (0..templates.len()).map(|_| AtomicU8::new(UNKNOWN));
        LineOutcomes {
            asked,
            templates: unknown.collect(),
        }
    }

    pub(crate) fn property(&self) -> &dyn LineProperty {
        &*self.asked.property
    }

    /// What is known of the lines of a template.
    pub(crate) fn of_template(&self, templates: &Templates, template: u32) -> OfTemplate {
        let known = &self.templates[template as usize];
        // Whoever comes first finds out what all others would.
        let stored = match known.load(Ordering::Relaxed) {
            UNKNOWN => {
                let stored = match self.find(templates, template) {
                    OfTemplate::Same(outcome) => outcome,
                    OfTemplate::Open(texts) => OPEN | texts,
                };
                known.store(stored, Ordering::Relaxed);
                stored
            }
            stored => stored,
        };
        match stored < OPEN {
            true => OfTemplate::Same(stored),
            false => OfTemplate::Open(stored - OPEN),
        }
    }

    /// The classes of text (a bit for each) whose values tell the outcomes of lines of these templates.
    /// What is read for a chunk and what is opened of it are both found here: who asks about some of
    /// the templates that another asked about needs no more than that one.
    pub(crate) fn texts_of(
        &self,
        templates: &Templates,
        asked_of: impl Iterator<Item = u32>,
    ) -> u8 {
        let texts = asked_of.map(|template| match self.of_template(templates, template) {
            OfTemplate::Same(_) => 0,
            OfTemplate::Open(texts) => texts,
        });
        texts.fold(0, |all, texts| all | texts)
    }

    fn find(&self, templates: &Templates, template: u32) -> OfTemplate {
        if template == RAW {
            return OfTemplate::Open(ALL_TEXTS);
        }
        let property = self.property();
        let (text, slots) = (templates.text(template), templates.slots(template));
        let mut places = Vec::with_capacity(slots.len());
        property.places(text, slots, &mut places);
        let mut line = Vec::with_capacity(text.len() + 8 * slots.len());
        let (mut at, mut texts) = (0, 0);
        for ((slot, stamp), place) in slots.iter().zip(templates.stamps(template)).zip(places) {
            let first = stamp.class();
            if let Some(class) = property.class_of_all(place, &bounds(stamp, first)) {
                line.extend_from_slice(&text[at..*slot as usize]);
                line.extend_from_slice(property.stand_in(class));
                at = *slot as usize;
                continue;
            }
            for class in first..TEXTS.len() {
                let same = property.class_of_all(place, &bounds(stamp, class));
                texts |= u8::from(same.is_none()) << class;
            }
        }
        if texts != 0 {
            return OfTemplate::Open(texts);
        }
        line.extend_from_slice(&text[at..]);
        OfTemplate::Same(property.of_line(&line))
    }
}
