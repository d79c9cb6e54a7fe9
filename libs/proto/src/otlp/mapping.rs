use model::{Timestamp, is_valid_label_name};

use super::INDEXED_ATTRIBUTES;
use super::value::{Value, write_display};
use crate::{Flaw, Receiver};

/// A record but for its attributes, which the mapper has been given before.
#[derive(Debug, Default)]
pub(super) struct RecordFields<'a> {
    pub(super) time: u64,
    pub(super) observed_time: u64,
    pub(super) severity_number: i32,
    pub(super) severity_text: &'a str,
    pub(super) body: Value<'a>,
    pub(super) dropped_attributes: u32,
    pub(super) flags: u32,
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) event_name: &'a str,
}

/// The fields of a scope but for its attributes.
#[derive(Debug, Default)]
pub(super) struct ScopeFields<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) dropped_attributes: u32,
}

/// Turns resources, scopes and records into streams and records of a receiver. Attributes are kept
/// in one stack: those of the resource at the bottom, then the scope's, then the record's.
pub(super) struct Mapper<'r, R> {
    receiver: &'r mut R,
    arrival: Timestamp,
    labels: Pairs,
    metadata: Pairs,
    resource_end: Mark,
    scope_end: Mark,
    line: Vec<u8>,
    name: String,
    /// Empty between records; only its memory is used again.
    slices: Vec<(&'static str, &'static [u8])>,
}

impl<'r, R: Receiver> Mapper<'r, R> {
    pub(super) fn new(arrival: Timestamp, receiver: &'r mut R) -> Self {
        Mapper {
            receiver,
            arrival,
            labels: Pairs::default(),
            metadata: Pairs::default(),
            resource_end: Mark::default(),
            scope_end: Mark::default(),
            line: Vec::new(),
            name: String::new(),
            slices: Vec::new(),
        }
    }

    /// Forgets the resource before; its attributes are given next.
    pub(super) fn begin_resource(&mut self) {
        self.labels.truncate(Mark::default());
        self.metadata.truncate(Mark::default());
    }

    pub(super) fn resource_attribute(&mut self, key: &str, value: &Value<'_>) {
        let pairs = if INDEXED_ATTRIBUTES.contains(&key) {
            &mut self.labels
        } else {
            &mut self.metadata
        };
        add_attribute(pairs, &mut self.name, key, value);
    }

    /// All attributes of the resource have been given: names the stream.
    pub(super) fn end_resource(&mut self) {
        self.resource_end = self.metadata.mark();
        self.scope_end = self.resource_end;
        let labels: Vec<(&str, &str)> = self.labels.texts().collect();
        self.receiver.stream_pairs(&labels);
    }

    /// Forgets the scope before; its attributes are given next.
    pub(super) fn begin_scope(&mut self) {
        self.metadata.truncate(self.resource_end);
    }

    /// An attribute of the scope or of the record at hand.
    pub(super) fn attribute(&mut self, key: &str, value: &Value<'_>) {
        add_attribute(&mut self.metadata, &mut self.name, key, value);
    }

    pub(super) fn end_scope(&mut self, scope: &ScopeFields<'_>) {
        let pairs = &mut self.metadata;
        pairs.push_text("scope_name", scope.name);
        pairs.push_text("scope_version", scope.version);
        pairs.push_number(
            "scope_dropped_attributes_count",
            u64::from(scope.dropped_attributes),
        );
        self.scope_end = pairs.mark();
    }

    /// The record at hand is complete.
    pub(super) fn end_record(&mut self, record: &RecordFields<'_>) {
        // Every record repeats the attributes of its resource, so a small body may say a lot.
        if self.receiver.is_full() {
            self.metadata.truncate(self.scope_end);
            return;
        }
        if self.metadata.overflow {
            self.flawed(Flaw::Shape(format!(
                "the names of its attributes need more than {NAME_BYTES_MAX} bytes once flattened"
            )));
            return;
        }
        let time = [record.time, record.observed_time]
            .into_iter()
            .find(|time| *time != 0);
        match time.map_or(Ok(self.arrival), i64::try_from) {
            Ok(time) => self.take(time, record),
            Err(_) => self.flawed(Flaw::Timestamp(format!(
                "{} ns since 1970",
                time.unwrap_or_default()
            ))),
        }
        self.metadata.truncate(self.scope_end);
    }

    /// The record at hand cannot be taken.
    pub(super) fn flawed(&mut self, flaw: Flaw) {
        self.metadata.truncate(self.scope_end);
        self.receiver.flawed(flaw);
    }

    fn take(&mut self, time: Timestamp, record: &RecordFields<'_>) {
        let pairs = &mut self.metadata;
        if record.time != 0 {
            pairs.push_number("observed_timestamp", record.observed_time);
        }
        pairs.push_number("severity_number", record.severity_number.max(0) as u64);
        pairs.push_text("severity_text", record.severity_text);
        pairs.push_number(
            "dropped_attributes_count",
            u64::from(record.dropped_attributes),
        );
        pairs.push_number("flags", u64::from(record.flags));
        pairs.push_id("trace_id", record.trace_id, 16);
        pairs.push_id("span_id", record.span_id, 8);
        pairs.push_text("event_name", record.event_name);

        let mut slices = recycle(std::mem::take(&mut self.slices));
        slices.extend(self.metadata.iter());
        if let Value::Text(line) = &record.body {
            self.receiver.record(time, line.as_bytes(), &mut slices);
        } else {
            self.line.clear();
            record.body.write_text(&mut self.line);
            self.receiver.record(time, &self.line, &mut slices);
        }
        self.slices = recycle(slices);
    }
}

/// Most bytes that names may need together: flattening repeats the name of a map for each of its
/// leaves, which can be many and long.
const NAME_BYTES_MAX: usize = 1 << 20;

/// Names and values in two strings, so that a pair costs no allocation.
#[derive(Debug, Default)]
struct Pairs {
    names: String,
    values: Vec<u8>,
    /// End of each pair in `names` and in `values`.
    ends: Vec<(usize, usize)>,
    /// Set when a pair was left out, for the names were more than [`NAME_BYTES_MAX`].
    overflow: bool,
}

/// A height of the stack [`Pairs`].
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    pairs: usize,
    names: usize,
    values: usize,
    overflow: bool,
}

impl Pairs {
    fn mark(&self) -> Mark {
        Mark {
            pairs: self.ends.len(),
            names: self.names.len(),
            values: self.values.len(),
            overflow: self.overflow,
        }
    }

    fn truncate(&mut self, mark: Mark) {
        self.ends.truncate(mark.pairs);
        self.names.truncate(mark.names);
        self.values.truncate(mark.values);
        self.overflow = mark.overflow;
    }

    /// Adds a pair, if its name has room.
    fn push(&mut self, name: &str, value: &Value<'_>) {
        if self.names.len() + name.len() > NAME_BYTES_MAX {
            self.overflow = true;
            return;
        }
        write_name(name, &mut self.names);
        value.write_text(&mut self.values);
        self.end();
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let starts = std::iter::once((0, 0)).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| {
            let name = &self.names[start.0..end.0];
            (name, &self.values[start.1..end.1])
        })
    }

    /// The pairs as texts: what was written is always UTF-8.
    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter()
            .map(|(name, value)| (name, std::str::from_utf8(value).unwrap_or_default()))
    }

    /// Ends the pair whose name and value have been appended.
    fn end(&mut self) {
        self.ends.push((self.names.len(), self.values.len()));
    }

    fn push_text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.names.push_str(name);
            self.values.extend_from_slice(value.as_bytes());
            self.end();
        }
    }

    fn push_number(&mut self, name: &str, value: u64) {
        if value != 0 {
            self.names.push_str(name);
            write_display(value, &mut self.values);
            self.end();
        }
    }

    /// An id as hex; one of another length, or of zeros alone, counts as absent, as the
    /// specification of OTLP asks.
    fn push_id(&mut self, name: &str, id: &[u8], length: usize) {
        if id.len() == length && id.iter().any(|byte| *byte != 0) {
            self.names.push_str(name);
            for byte in id {
                for digit in [byte >> 4, byte & 0xf] {
                    self.values.push(b"0123456789abcdef"[usize::from(digit)]);
                }
            }
            self.end();
        }
    }
}

/// Adds the attribute, or one pair for each leaf if it is a map. `scratch` is only memory.
fn add_attribute(pairs: &mut Pairs, scratch: &mut String, key: &str, value: &Value<'_>) {
    let Value::Map(entries) = value else {
        pairs.push(key, value);
        return;
    };
    scratch.clear();
    scratch.push_str(key);
    add_entries(pairs, scratch, entries);
}

fn add_entries(
    pairs: &mut Pairs,
    prefix: &mut String,
    entries: &[(std::borrow::Cow<'_, str>, Value<'_>)],
) {
    let length = prefix.len();
    for (key, value) in entries {
        prefix.push('_');
        prefix.push_str(key);
        match value {
            Value::Map(inner) => add_entries(pairs, prefix, inner),
            leaf => pairs.push(prefix, leaf),
        }
        prefix.truncate(length);
    }
}

/// Makes a label name of any text, as Loki does: each run of `_` and of characters that a label name
/// cannot have becomes one `_`, but not the ends of `__name__`; a leading digit gets `key_` in front,
/// the empty text becomes `_`.
pub fn sanitize_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 4);
    write_name(text, &mut name);
    name
}

fn write_name(text: &str, out: &mut String) {
    if is_plain_name(text) {
        out.push_str(text);
        return;
    }
    match text.bytes().next() {
        None => out.push('_'),
        Some(first) if first.is_ascii_digit() => out.push_str("key_"),
        Some(_) => {}
    }
    let inner = text
        .strip_prefix("__")
        .and_then(|text| text.strip_suffix("__"));
    if inner.is_some() {
        out.push_str("__");
    }
    let mut run = false;
    for c in inner.unwrap_or(text).chars() {
        let plain = c.is_ascii_alphanumeric();
        if plain || !run {
            out.push(if plain { c } else { '_' });
        }
        run = !plain;
    }
    if inner.is_some() {
        out.push_str("__");
    }
}

/// Whether [`sanitize_name`] leaves a name as it is, told without making it: some of which it does
/// are not among them.
pub fn is_plain_name(name: &str) -> bool {
    is_valid_label_name(name) && !name.contains("__")
}

/// The vector's memory as an empty vector of slices that live otherwise.
fn recycle<'b>(mut slices: Vec<(&str, &[u8])>) -> Vec<(&'b str, &'b [u8])> {
    slices.clear();
    slices.into_iter().map(|_| ("", &[][..])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_label_names() {
        for (text, want) in [
            ("service.name", "service_name"),
            ("a-b/c d", "a_b_c_d"),
            ("already_fine", "already_fine"),
            ("_x", "_x"),
            ("1st", "key_1st"),
            ("größe", "gr_e"),
            ("a__b...c", "a_b_c"),
            ("__x", "_x"),
            ("__a.b__c__", "__a_b_c__"),
            ("___", "_"),
            ("____", "____"),
            ("", "_"),
        ] {
            assert_eq!(sanitize_name(text), want);
            assert!(is_valid_label_name(want));
        }
    }

    #[test]
    fn memory_of_slices_is_used_again() {
        let slices: Vec<(&str, &[u8])> = Vec::with_capacity(100);
        let again = recycle(slices);
        assert!(again.is_empty());
        assert!(again.capacity() >= 100);
    }
}
