use model::Timestamp;

/// Takes records as they are decoded. Name a stream, then give its records; a stream may be named
/// any number of times.
///
/// A receiver remembers what it refuses, and counts.
pub trait Receiver {
    /// The records that follow belong to the stream whose labels are written `{name="value", ...}`.
    /// Not checked in any way, not even for UTF-8.
    fn stream_text(&mut self, labels: &[u8]);

    /// Which labels [`stream_text`](Self::stream_text) will be given next, one call for each and in this
    /// order, unless the body turns out to be malformed: so that they can be looked up together. At most
    /// [`STREAMS_AHEAD`].
    fn streams_ahead(&mut self, labels: &[&[u8]]) {
        let _ = labels;
    }

    /// The records that follow belong to the stream with these labels. Names are not checked, and
    /// may stand twice; then the last one counts.
    fn stream_pairs(&mut self, labels: &[(&str, &str)]);

    /// One record. `line` and the metadata values are not checked to be UTF-8; names may be of any
    /// form and may stand twice, then the last one counts.
    fn record(&mut self, timestamp: Timestamp, line: &[u8], metadata: &mut [(&str, &[u8])]);

    /// A record that cannot be taken, although its neighbours can.
    fn flawed(&mut self, flaw: Flaw);

    /// Whether the records given so far are too much already, so that the body will be refused
    /// whatever follows. Asked where a few bytes of body can stand for many bytes of records.
    fn is_full(&self) -> bool {
        false
    }
}

/// How many streams are told of at once: enough that a core waits for memory once and not for each.
pub const STREAMS_AHEAD: usize = 64;

/// What is wrong with a single record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A text field holds bytes that are not UTF-8.
    #[error("{field} is not valid UTF-8 at byte {at}")]
    Utf8 {
        /// The field, by its name in the protocol.
        field: &'static str,
        /// First bad byte, counted from the start of the field.
        at: usize,
    },
    /// The time cannot be told in 64-bit nanoseconds since 1970 (years 1677 to 2262), or not at
    /// all.
    #[error("timestamp '{0}' is not a time between the years 1677 and 2262")]
    Timestamp(String),
    /// The record has another shape than the protocol's.
    #[error("{0}")]
    Shape(String),
    /// A record of a list cannot be read at all, not even whose stream it belongs to.
    #[error("logs[{index}]: {problem}")]
    Item {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong.
        problem: String,
    },
}
