//! The labels of one row while the stages work on it: three kinds with one precedence.
//!
//! ```text
//! stream labels (Arc, shared, some hidden) <- structured metadata <- parsed
//! ```
//!
//! All texts of a row lie one behind the other in one buffer that is emptied, not freed, between
//! rows. A name stands at most once among the entries; an entry hides the stream label of its name.

use std::sync::Arc;

use model::Labels;

use super::label_filter::{Condition, Place};
use super::names::{NameId, Names, is_label_name};

/// `__error__`
pub const ERROR_LABEL: &str = "__error__";
/// `__error_details__`
pub const ERROR_DETAILS_LABEL: &str = "__error_details__";
/// `__preserve_error__`
pub const PRESERVE_ERROR_LABEL: &str = "__preserve_error__";

/// Where a label comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// The stream's labels.
    Stream,
    /// The record's structured metadata.
    Metadata,
    /// A stage of the pipeline.
    Parsed,
}

/// What a key of a line is, without making a name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A parser may set this label.
    Name(NameId),
    /// Nobody wants the label, or a stage of this row made it already.
    Unwanted,
    /// Unknown until it is made a name: it has characters that names lack, or was not seen before.
    Unclean,
}

/// What a stage could not do; shown as `__error__`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StageError {
    Json,
    Logfmt,
    SampleExtraction,
    LabelFilter,
    TemplateFormat,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) name: NameId,
    pub(super) category: Category,
    start: u32,
    end: u32,
    deleted: bool,
}

/// What is known of one name: each part counts only if its number is that of the current row or
/// stream, so that nothing is cleared between rows.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    row: u32,
    entry: u32,
    /// The row in which a stage made this label, even if it was dropped again.
    parsed: u32,
    /// The row in which a stage took this label away, even if it was set again.
    deleted: u32,
    stream: u32,
    base: u32,
}

/// Which names parsers may leave out; the same for all rows of a runner.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    /// `None`: all are wanted.
    pub(super) wanted: Option<Vec<NameId>>,
    /// A stage may look at any label that there is, though parsers leave out what is not wanted.
    pub(super) any_read: bool,
    /// Somebody looks at `__error__`: rows with an error are counted, not refused.
    pub(super) preserve_error: bool,
    /// Conditions on one label, wherever they stand in the pipeline: a parser that sets the label
    /// tries them at once, and a row that fails is left out.
    pub(super) early: Arc<[(Place, Condition)]>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) names: Names,
    pub(super) hints: Hints,
    stream: Arc<Labels>,
    /// The id of each stream label, in order.
    base: Vec<NameId>,
    /// Whether a stream label is dropped or replaced in this row.
    hidden: Vec<bool>,
    any_hidden: bool,
    entries: Vec<Entry>,
    text: String,
    error: String,
    details: String,
    /// How many of `hints.wanted` stages made in this row.
    found: usize,
    /// A stage took a label away in this row, whether the row had it or not.
    any_deleted: bool,
    /// A condition that was tried early failed.
    stopped: bool,
    /// By name.
    slots: Vec<Slot>,
    /// Numbers of the current row and stream, from 1.
    row_number: u32,
    stream_number: u32,
    preserve: NameId,
}

impl StageError {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            StageError::Json => "JSONParserErr",
            StageError::Logfmt => "LogfmtParserErr",
            StageError::SampleExtraction => "SampleExtractionErr",
            StageError::LabelFilter => "LabelFilterErr",
            StageError::TemplateFormat => "TemplateFormatErr",
        }
    }
}

impl Row {
    pub(super) fn new(mut names: Names, hints: Hints) -> Self {
        let preserve = names.id(PRESERVE_ERROR_LABEL);
        Row {
            names,
            hints,
            stream: Arc::default(),
            base: Vec::new(),
            hidden: Vec::new(),
            any_hidden: false,
            entries: Vec::new(),
            text: String::new(),
            error: String::new(),
            details: String::new(),
            found: 0,
            any_deleted: false,
            stopped: false,
            slots: Vec::new(),
            row_number: 1,
            stream_number: 1,
            preserve,
        }
    }

    /// Rows of this stream follow.
    pub(super) fn stream(&mut self, labels: &Arc<Labels>) {
        self.stream = Arc::clone(labels);
        self.stream_number = self.stream_number.wrapping_add(1);
        if self.stream_number == 0 {
            self.slots.clear();
            self.stream_number = 1;
        }
        self.base.clear();
        for (at, (name, _)) in labels.iter().enumerate() {
            let id = self.names.id(name);
            self.base.push(id);
            let number = self.stream_number;
            let slot = self.slot_mut(id);
            slot.stream = number;
            slot.base = at as u32;
        }
        self.hidden.clear();
        self.hidden.resize(self.base.len(), false);
        self.any_hidden = false;
    }

    /// Forgets the row before. True if names were forgotten, so that ids that are not pinned have
    /// no meaning any more.
    pub(super) fn begin(&mut self) -> bool {
        self.entries.clear();
        self.text.clear();
        self.error.clear();
        self.details.clear();
        if self.any_hidden {
            self.hidden.fill(false);
            self.any_hidden = false;
        }
        self.found = 0;
        self.any_deleted = false;
        self.stopped = false;
        self.row_number = self.row_number.wrapping_add(1);
        let forgot = self.names.forget_if_many();
        if forgot || self.row_number == 0 {
            self.slots.clear();
            self.row_number = 1;
            let stream = Arc::clone(&self.stream);
            self.stream(&stream);
        }
        forgot
    }

    /// Adds the record's structured metadata; a name that the stream has gets `_extracted`.
    pub(super) fn add_metadata(&mut self, pairs: &[(&str, &str)]) {
        for (name, value) in pairs {
            self.add_metadata_pair(name, value);
        }
    }

    pub(super) fn add_metadata_pair(&mut self, name: &str, value: &str) {
        // With a list of wanted names, all names that any stage or the consumer reads are pinned, if that is known.
        let id = match self.hints.wanted.is_none() || self.hints.any_read {
            true => self.names.id(name),
            false => match self.names.find(name) {
                Some(id) => id,
                None => return,
            },
        };
        match name {
            ERROR_LABEL => self.error.push_str(value),
            ERROR_DETAILS_LABEL => self.details.push_str(value),
            _ => {
                let id = match self.base_has(id) {
                    true => self.names.extracted(id),
                    false => id,
                };
                self.set(Category::Metadata, id, value);
            }
        }
    }

    /// Whether the stream has the label, dropped or not.
    pub(super) fn base_has(&self, id: NameId) -> bool {
        self.base_at(id).is_some()
    }

    /// The value, from wherever it counts.
    pub(super) fn get(&self, id: NameId) -> Option<&str> {
        if let Some(at) = self.entry_at(id) {
            return Some(self.entry_value(&self.entries[at]));
        }
        let at = self.base_at(id)?;
        (!self.hidden[at]).then(|| self.base_value(at))
    }

    /// Sets a label. Parsed labels win over metadata, metadata over stream labels; what loses is
    /// not set at all.
    pub(super) fn set(&mut self, category: Category, id: NameId, value: &str) {
        let start = self.text.len();
        self.text.push_str(value);
        self.set_from(category, id, start);
    }

    /// Sets a label to the text that was appended to [`text_mut`](Self::text_mut) since `start`.
    pub(super) fn set_from(&mut self, category: Category, id: NameId, start: usize) {
        let entry = Entry {
            name: id,
            category,
            start: start as u32,
            end: self.text.len() as u32,
            deleted: false,
        };
        match self.entry_at(id) {
            Some(at) if rank(category) >= rank(self.entries[at].category) => {
                self.entries[at] = entry;
            }
            Some(_) => return,
            None => {
                if let Some(at) = self.base_at(id) {
                    self.hide(at);
                }
                let (number, at) = (self.row_number, self.entries.len() as u32);
                let slot = self.slot_mut(id);
                slot.row = number;
                slot.entry = at;
                self.entries.push(entry);
            }
        }
        if category == Category::Parsed && !self.was_parsed(id) {
            let number = self.row_number;
            self.slot_mut(id).parsed = number;
            let wanted = self.hints.wanted.as_ref();
            self.found += usize::from(wanted.is_some_and(|wanted| wanted.contains(&id)));
        }
    }

    /// The buffer of the row's texts: only to be appended to.
    pub(super) fn text_mut(&mut self) -> &mut String {
        &mut self.text
    }

    /// Takes a label away, wherever it stands.
    pub(super) fn delete(&mut self, id: NameId) {
        self.any_deleted = true;
        let number = self.row_number;
        self.slot_mut(id).deleted = number;
        if let Some(at) = self.entry_at(id) {
            self.entries[at].deleted = true;
            self.slot_mut(id).row = 0;
        }
        if let Some(at) = self.base_at(id) {
            self.hide(at);
        }
    }

    /// Renames a label, which counts as parsed from then on.
    pub(super) fn rename(&mut self, from: NameId, to: NameId) {
        let Some(value) = self.get(from) else {
            return;
        };
        let value = value.to_owned();
        self.set(Category::Parsed, to, &value);
        self.delete(from);
    }

    /// Whether a stage took the label away in this row, even if another set it again: as in Loki,
    /// `by` leaves such a label out.
    pub(super) fn was_deleted(&self, id: NameId) -> bool {
        self.slot(id).deleted == self.row_number
    }

    /// To be called by parsers when they have set a label: false if the row is left out for it, so
    /// that the rest of the line need not be read.
    pub(super) fn passes_early(&mut self, place: Place) -> bool {
        let found = self.hints.early.iter().position(|(p, _)| *p == place);
        if let Some(at) = found {
            let early = Arc::clone(&self.hints.early);
            self.stopped |= !early[at].1.passes(self);
        }
        !self.stopped
    }

    /// Whether a parser found that the row is left out.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The name under which a parser may set `id`: with `_extracted` if the stream or the metadata
    /// has it. `None` if nobody wants it, or a stage of this row made it already.
    pub(super) fn parsed_name(&mut self, id: NameId) -> Option<NameId> {
        let id = match self.is_taken(id) {
            true => self.names.extracted(id),
            false => id,
        };
        self.may_parse(id).then_some(id)
    }

    /// Whether the stream or the metadata has the label.
    pub(super) fn is_taken(&self, id: NameId) -> bool {
        let metadata = |at: usize| self.entries[at].category == Category::Metadata;
        self.base_has(id) || self.entry_at(id).is_some_and(metadata)
    }

    /// Whether somebody wants the label, and no stage of this row made it already.
    pub(super) fn may_parse(&self, id: NameId) -> bool {
        let wanted = self.hints.wanted.as_ref();
        wanted.is_none_or(|wanted| wanted.contains(&id)) && !self.was_parsed(id)
    }

    /// Whether somebody wants the label and no stage of this row made it already.
    pub(super) fn wants_name(&self, name: &str) -> bool {
        match self.names.find(name) {
            Some(id) => self.may_parse(id),
            None => self.hints.wanted.is_none(),
        }
    }

    /// As [`parsed_name`](Self::parsed_name), for a text; names that nobody wants are not even
    /// remembered.
    pub(super) fn parsed_name_of(&mut self, name: &str) -> Option<NameId> {
        let id = match &self.hints.wanted {
            Some(_) => self.names.find(name)?,
            None => self.names.id(name),
        };
        self.parsed_name(id)
    }

    /// As [`parsed_name_of`](Self::parsed_name_of), for a key as it stands in a line.
    pub(super) fn parsed_key(&mut self, key: &[u8]) -> Key {
        match self.names.find_key(key) {
            Some(id) => match self.parsed_name(id) {
                Some(id) => Key::Name(id),
                None => Key::Unwanted,
            },
            // All wanted names have had a number since before the first row: what has none is not wanted.
            None if self.hints.wanted.is_some() && is_label_name(key) => Key::Unwanted,
            None => Key::Unclean,
        }
    }

    /// Whether no parser can add anything that somebody wants.
    pub(super) fn wants_no_more(&self) -> bool {
        self.hints
            .wanted
            .as_ref()
            .is_some_and(|wanted| wanted.len() == self.found)
    }

    /// Whether any wanted name starts so.
    pub(super) fn wants_prefix(&self, prefix: &str) -> bool {
        self.hints.wanted.as_ref().is_none_or(|wanted| {
            wanted
                .iter()
                .any(|id| self.names.text(*id).starts_with(prefix))
        })
    }

    /// A stage failed; the last one is shown. Details stay if there are no newer ones.
    pub(super) fn set_error(&mut self, error: StageError, details: &str) {
        self.error.clear();
        self.error.push_str(error.as_str());
        if !details.is_empty() {
            self.details.clear();
            self.details.push_str(details);
        }
    }

    /// As [`set_error`](Self::set_error), for parsers: such rows may be counted on purpose.
    pub(super) fn set_parser_error(&mut self, error: StageError, details: &str) {
        self.set_error(error, details);
        if self.hints.preserve_error {
            self.set(Category::Parsed, self.preserve, "true");
        }
    }

    pub(super) fn has_error(&self) -> bool {
        !self.error.is_empty()
    }

    pub(super) fn error(&self) -> &str {
        &self.error
    }

    pub(super) fn error_details(&self) -> &str {
        &self.details
    }

    /// `__error_details__`, where the row shows it. As in Loki, when the error itself was dropped
    /// it is only shown beside other changes of the labels.
    pub(super) fn shown_details(&self) -> &str {
        let changed = self.has_error() || self.any_deleted || self.entries().next().is_some();
        if changed { &self.details } else { "" }
    }

    pub(super) fn reset_error(&mut self) {
        self.error.clear();
    }

    pub(super) fn reset_error_details(&mut self) {
        self.details.clear();
    }

    /// Whether the row has exactly its stream's labels.
    pub(super) fn is_plain(&self) -> bool {
        !self.any_hidden && !self.has_error() && self.entries().next().is_none()
    }

    /// Whether the row has any label, an error included.
    pub(super) fn has_labels(&self) -> bool {
        self.has_error() || self.entries().next().is_some() || self.visible_base().next().is_some()
    }

    pub(super) fn any_hidden(&self) -> bool {
        self.any_hidden
    }

    /// Stream labels that are neither dropped nor replaced: position, id, value.
    pub(super) fn visible_base(&self) -> impl Iterator<Item = (usize, NameId, &str)> {
        self.stream
            .iter()
            .enumerate()
            .filter(|(at, _)| !self.hidden[*at])
            .map(|(at, (_, value))| (at, self.base[at], value))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.deleted)
    }

    pub(super) fn entry_value(&self, entry: &Entry) -> &str {
        &self.text[entry.start as usize..entry.end as usize]
    }

    fn slot(&self, id: NameId) -> Slot {
        self.slots.get(id.index()).copied().unwrap_or_default()
    }

    fn slot_mut(&mut self, id: NameId) -> &mut Slot {
        if self.slots.len() <= id.index() {
            self.slots.resize(id.index() + 1, Slot::default());
        }
        &mut self.slots[id.index()]
    }

    fn entry_at(&self, id: NameId) -> Option<usize> {
        let slot = self.slot(id);
        (slot.row == self.row_number).then_some(slot.entry as usize)
    }

    fn base_at(&self, id: NameId) -> Option<usize> {
        let slot = self.slot(id);
        (slot.stream == self.stream_number).then_some(slot.base as usize)
    }

    fn was_parsed(&self, id: NameId) -> bool {
        self.slot(id).parsed == self.row_number
    }

    fn base_value(&self, at: usize) -> &str {
        self.stream.iter().nth(at).map_or("", |(_, value)| value)
    }

    fn hide(&mut self, at: usize) {
        self.hidden[at] = true;
        self.any_hidden = true;
    }
}

fn rank(category: Category) -> u8 {
    match category {
        Category::Stream => 0,
        Category::Metadata => 1,
        Category::Parsed => 2,
    }
}
