//! Outcomes of lines that are not put together: those of templates whose values all have the same
//! class are found once, the others once for each combination of classes that a chunk has.

mod look;

use model::{LineProperty, OutcomeSet, OutcomeTest};

use super::open_chunk::OpenChunk;
use super::undecided::Needed;
use super::{Selected, rebuild::Lines};
use crate::Error;
use crate::format::TEXTS;
use crate::metadata::MetadataColumns;
use crate::outcomes::{LineOutcomes, OfTemplate};
use crate::plan::PlannedStream;
use crate::template::RAW;
use look::{ALONE, Look, text};

/// In place of an outcome: rows of the template differ, or its values were not looked at yet.
const OF_ROWS: u8 = u8::MAX;
const UNFOUND: u8 = u8::MAX - 1;
/// Where fewer of a template's rows than one of so many are asked about, these are looked at one by one.
const FEW: usize = 16;

/// Outcomes of the rows of a chunk, as far as they were asked for. Kept from chunk to chunk.
#[derive(Debug, Default)]
pub(crate) struct OutcomeTable {
    /// Of each template of the list: the outcome, [`OF_ROWS`] or [`UNFOUND`].
    templates: Vec<u8>,
    /// Where the outcomes of each template's rows start, if they differ.
    bases: Vec<usize>,
    rows: Vec<u8>,
    /// Of the rows asked about last.
    outcomes: Vec<u8>,
    /// Those of them that are of use.
    useful: Vec<u32>,
    /// How many of each template are asked about.
    asked: Vec<u32>,
    look: Look,
}

impl OutcomeTable {
    /// Forgets the chunk before.
    pub(super) fn begin(&mut self) {
        self.templates.clear();
        self.bases.clear();
        self.rows.clear();
    }

    /// The outcomes of the rows asked about last; empty if nobody asks in their stream.
    pub(super) fn outcomes(&self) -> &[u8] {
        &self.outcomes
    }

    /// Those of the rows asked about last that are of use, if these are not all.
    pub(super) fn useful(&self) -> &[u32] {
        &self.useful
    }

    fn get(&self, lines: &Lines<'_>, row: usize) -> u8 {
        let local = usize::from(lines.index.locals[row]);
        match self.templates[local] {
            OF_ROWS => {
                let row = lines.index.occurrences[row] as usize;
                self.rows[self.bases[local] + row]
            }
            outcome => outcome,
        }
    }
}

impl OpenChunk<'_> {
    /// Finds the outcomes of selected rows of a stream, and which rows are of use: true if that are
    /// not all.
    pub(super) fn sort_out(
        &mut self,
        asked: &LineOutcomes,
        stream: &PlannedStream,
        selected: &Selected<'_>,
        table: &mut OutcomeTable,
    ) -> Result<bool, Error> {
        table.outcomes.clear();
        table.useful.clear();
        let test = asked.asked.test.as_deref();
        let useful = test.map_or(OutcomeSet::ALL, |test| test.useful(&stream.labels, &[]));
        let may_be_told = match test {
            Some(test) => self.may_be_told(test)?,
            None => false,
        };
        if useful == OutcomeSet::NONE && !may_be_told {
            return Ok(true);
        }
        let tells = may_be_told || useful != OutcomeSet::ALL;
        if asked.property().is_asked(&stream.labels) && (self.wanted.outcomes || tells) {
            self.find_outcomes(asked, selected, table)?;
        }
        let Some(test) = test.filter(|_| tells) else {
            return Ok(false);
        };
        let record = UsefulRecords {
            test,
            stream,
            useful,
            metadata: self.known.metadata().filter(|_| may_be_told),
        };
        let OutcomeTable {
            outcomes, useful, ..
        } = table;
        let (mut at, mut kept) = (0, 0);
        selected.for_each(|row| {
            let outcome = outcomes.get(at).copied();
            if record.is_useful(row, outcome) {
                useful.push(row as u32);
                if let Some(outcome) = outcome {
                    outcomes[kept] = outcome;
                }
                kept += 1;
            }
            at += 1;
        });
        outcomes.truncate(kept);
        Ok(kept < at)
    }

    /// Whether metadata of the chunk may matter to a test.
    fn may_be_told(&mut self, test: &dyn OutcomeTest) -> Result<bool, Error> {
        if !self.wanted.columns.metadata {
            return Ok(false);
        }
        self.load(Needed {
            metadata: true,
            ..Needed::default()
        })?;
        let keys = self.known.metadata().into_iter();
        Ok(keys
            .flat_map(MetadataColumns::keys)
            .any(|key| test.reads(key)))
    }

    fn find_outcomes(
        &mut self,
        asked: &LineOutcomes,
        selected: &Selected<'_>,
        table: &mut OutcomeTable,
    ) -> Result<(), Error> {
        self.load(Needed {
            templates: true,
            ..Needed::default()
        })?;
        let (templates, chunk) = (&self.parts.segment.footer().templates, self.parts.chunk);
        if table.templates.is_empty() {
            let of = |template: &u32| match asked.of_template(templates, *template) {
                OfTemplate::Same(outcome) => outcome,
                OfTemplate::Open(_) => UNFOUND,
            };
            table.templates.extend(chunk.templates.iter().map(of));
            table.bases.resize(chunk.templates.len(), 0);
        }
        let any_open = table.take_known(selected, &self.index.locals);
        if !any_open {
            return Ok(());
        }
        self.load(Needed {
            variables: true,
            ..Needed::default()
        })?;
        // Of other templates of the chunk nothing may have been read.
        let asked_of = chunk.templates.iter().zip(&table.asked);
        let asked_of = asked_of.filter(|(_, rows)| **rows > 0);
        let texts = asked.texts_of(templates, asked_of.map(|(template, _)| *template));
        for (class, block) in TEXTS.iter().enumerate() {
            if texts >> class & 1 == 1 {
                self.blocks.load(&self.parts, &[*block])?;
            }
        }
        table.fill_open(&self.lines(), asked.property(), selected);
        Ok(())
    }
}

/// Which records are of use, by the metadata of a chunk if that may matter.
struct UsefulRecords<'a> {
    test: &'a dyn OutcomeTest,
    stream: &'a PlannedStream,
    /// Without metadata.
    useful: OutcomeSet,
    metadata: Option<&'a MetadataColumns>,
}

impl UsefulRecords<'_> {
    fn is_useful(&self, row: usize, outcome: Option<u8>) -> bool {
        let told = |metadata: &MetadataColumns| {
            let pairs: Vec<(&str, &str)> = metadata.row_text(row).collect();
            let reads = pairs.iter().any(|(key, _)| self.test.reads(key));
            reads.then(|| self.test.useful(&self.stream.labels, &pairs))
        };
        let useful = self.metadata.and_then(told).unwrap_or(self.useful);
        match outcome {
            Some(outcome) => useful.has(outcome),
            None => useful != OutcomeSet::NONE,
        }
    }
}

impl OutcomeTable {
    /// Counts the selected rows of each template, and takes the outcomes that templates have; whether
    /// some are left.
    fn take_known(&mut self, selected: &Selected<'_>, locals: &[u16]) -> bool {
        self.asked.clear();
        self.asked.resize(self.templates.len(), 0);
        let mut any_open = false;
        selected.for_each(|row| {
            let local = usize::from(locals[row]);
            self.asked[local] += 1;
            let outcome = self.templates[local];
            any_open |= outcome >= UNFOUND;
            self.outcomes.push(outcome);
        });
        any_open
    }

    /// Replaces what is open among the outcomes of selected rows.
    fn fill_open(
        &mut self,
        lines: &Lines<'_>,
        property: &dyn LineProperty,
        selected: &Selected<'_>,
    ) {
        let locals = &lines.index.locals;
        for local in 0..self.templates.len() {
            let (asked, rows) = (self.asked[local] as usize, lines.index.counts[local]);
            if self.templates[local] == UNFOUND && asked > 0 && asked * FEW >= rows as usize {
                self.resolve(lines, property, local);
            }
        }
        let mut outcomes = std::mem::take(&mut self.outcomes);
        let mut at = 0;
        let mut prepared = None;
        selected.for_each(|row| {
            if outcomes[at] >= UNFOUND {
                outcomes[at] = match self.get(lines, row) {
                    UNFOUND => {
                        let local = usize::from(locals[row]);
                        if prepared != Some(local) {
                            self.look.prepare(lines, property, local, false);
                            prepared = Some(local);
                        }
                        let row = lines.index.occurrences[row] as usize;
                        self.look.outcome_of(lines, property, local, row)
                    }
                    outcome => outcome,
                };
            }
            at += 1;
        });
        self.outcomes = outcomes;
    }

    /// Finds the outcomes of all rows of a template.
    fn resolve(&mut self, lines: &Lines<'_>, property: &dyn LineProperty, local: usize) {
        let look = &mut self.look;
        look.prepare(lines, property, local, true);
        let rows = lines.index.counts[local] as usize;
        if look.is_same() {
            self.templates[local] = look.outcome_of(lines, property, local, 0);
            return;
        }
        self.templates[local] = OF_ROWS;
        self.bases[local] = self.rows.len();
        if lines.chunk.templates[local] == RAW {
            let column = &lines.index.columns(local)[0];
            let of_value = |value: usize| property.of_line(text(lines, column, value));
            let of_values: Vec<u8> = (0..column.values as usize).map(of_value).collect();
            let of_row = |row: usize| of_values[column.choice.value(row, lines.indices)];
            self.rows.extend((0..rows).map(of_row));
            return;
        }
        look.combine(lines, local, rows);
        look.look_at_firsts(lines, property, local);
        for row in 0..rows {
            let outcome = match look.combinations[row] {
                ALONE => look.outcome_of(lines, property, local, row),
                combination => look.outcomes[combination as usize],
            };
            self.rows.push(outcome);
        }
    }
}
