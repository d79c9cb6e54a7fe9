use std::cmp::Reverse;

use hashbrown::HashMap;
use model::Timestamp;

use crate::ScanStats;

use super::labels::LabelSet;

/// What a query gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result.
    pub value: Value,
    /// What was read for it.
    pub stats: ScanStats,
    /// What the asker should know about it.
    pub warnings: Vec<String>,
}

/// The result, by kind of query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A log query: entries of each stream in the order asked for; streams by labels, or by their
    /// first entry if the query sorts.
    Streams(Vec<StreamResult>),
    /// A metric query over a range, by labels.
    Matrix(Vec<Series>),
    /// A metric query at one time: by labels, or by value if the query orders.
    Vector(Vec<Sample>),
    /// A number at one time.
    Scalar {
        /// The time asked for.
        at: Timestamp,
        /// The number.
        value: f64,
    },
}

/// Entries of one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamResult {
    /// Stream labels that the pipeline left.
    pub labels: LabelSet,
    /// In the order asked for.
    pub entries: Vec<LogEntry>,
}

/// One log entry, with the labels that are its own.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Time of the record.
    pub at: Timestamp,
    /// As the pipeline formatted it; bytes that are no UTF-8 are replaced.
    pub line: String,
    /// Structured metadata.
    pub metadata: LabelSet,
    /// Labels that the pipeline made.
    pub parsed: LabelSet,
    /// If the query sorts: where the entry stands among those of all streams, from 0. Then that is
    /// the order to show entries in, and not their time.
    pub place: Option<u32>,
}

/// Entries whose labels of all categories together are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedStream<'a> {
    /// Labels of all three categories.
    pub labels: LabelSet,
    /// Time and line, in the order asked for.
    pub entries: Vec<(Timestamp, &'a str)>,
}

/// Values over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Labels.
    pub labels: LabelSet,
    /// Ascending times; steps without a value are left out. At least one.
    pub points: Vec<(Timestamp, f64)>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels.
    pub labels: LabelSet,
    /// The time asked for.
    pub at: Timestamp,
    /// The value.
    pub value: f64,
}

/// The streams as clients see them that do not tell label categories apart: parsed labels win over
/// metadata, metadata over stream labels. Streams by labels, or by their first entry if the query sorts; entries in the order asked for, also where
/// several streams become one.
pub fn merged(streams: &[StreamResult]) -> Vec<MergedStream<'_>> {
    let mut index: HashMap<LabelSet, usize> = HashMap::new();
    let mut out: Vec<MergedStream<'_>> = Vec::new();
    let mut sorts = false;
    for (entry, labels) in in_place(streams) {
        sorts |= entry.place.is_some();
        let at = *index.entry(labels).or_insert_with_key(|labels| {
            out.push(MergedStream {
                labels: labels.clone(),
                entries: Vec::new(),
            });
            out.len() - 1
        });
        out[at].entries.push((entry.at, &entry.line));
    }
    if !sorts {
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        let forward = is_forward(streams);
        for stream in &mut out {
            match forward {
                true => stream.entries.sort_by_key(|(at, _)| *at),
                false => stream.entries.sort_by_key(|(at, _)| Reverse(*at)),
            }
        }
    }
    out
}

/// Whether the oldest entries come first; not, if that cannot be seen.
fn is_forward(streams: &[StreamResult]) -> bool {
    let ends = streams.iter().map(|stream| {
        let first = stream.entries.first().map(|entry| entry.at);
        (first, stream.entries.last().map(|entry| entry.at))
    });
    ends.into_iter().any(|(first, last)| first < last)
}

/// All entries with their labels of all categories: stream after stream, or in their places if the
/// query sorts.
pub fn in_place(streams: &[StreamResult]) -> Vec<(&LogEntry, LabelSet)> {
    let entries = streams.iter().flat_map(|stream| {
        stream.entries.iter().map(|entry| {
            let own = entry.metadata.iter().chain(entry.parsed.iter());
            (entry, LabelSet::new(stream.labels.iter().chain(own)))
        })
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|(entry, _)| entry.place);
    entries
}
