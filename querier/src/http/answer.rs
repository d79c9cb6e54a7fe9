//! Loki's envelope around a result.

use query::logql::engine::{Answer, LabelSet, LogEntry, StreamResult, Value, merged};

use super::call::Call;
use super::json::Json;
use super::stats;
use crate::run::Effort;

/// `{"status":"success","data":{...}}`
pub(super) fn envelope(answer: &Answer, effort: &Effort, call: &Call) -> Json {
    let mut json = Json::with_capacity(size_hint(&answer.value));
    json.object(|json| {
        json.key("status").string("success");
        if !answer.warnings.is_empty() {
            json.key("warnings").array(|json| {
                for warning in &answer.warnings {
                    json.string(warning);
                }
            });
        }
        json.key("data").object(|json| {
            json.key("resultType").string(result_type(&answer.value));
            if matches!(answer.value, Value::Streams(_)) {
                encoding_flags(json, call);
            }
            result(json.key("result"), &answer.value, call.categorize_labels);
            let returned = entries(&answer.value);
            stats::write(json.key("stats"), &answer.stats, effort, returned);
        });
    });
    json
}

/// The result alone.
pub(super) fn result(json: &mut Json, value: &Value, categorize_labels: bool) {
    match value {
        Value::Streams(values) => streams(json, values, categorize_labels),
        Value::Matrix(series) => json.array(|json| {
            for series in series {
                json.object(|json| {
                    labels(json.key("metric"), &series.labels);
                    json.key("values").array(|json| {
                        for (at, value) in &series.points {
                            point(json, *at, *value);
                        }
                    });
                });
            }
        }),
        Value::Vector(samples) => json.array(|json| {
            for sample in samples {
                json.object(|json| {
                    labels(json.key("metric"), &sample.labels);
                    point(json.key("value"), sample.at, sample.value);
                });
            }
        }),
        Value::Scalar { at, value } => point(json, *at, *value),
    }
}

/// Streams with their entries, categories of labels told apart or not.
pub(super) fn streams(json: &mut Json, streams: &[StreamResult], categorize_labels: bool) {
    groups(json, &[streams], categorize_labels);
}

/// Groups of streams one after the other; a stream may be in several.
pub(super) fn groups(json: &mut Json, groups: &[&[StreamResult]], categorize_labels: bool) {
    json.array(|json| {
        for streams in groups {
            if categorize_labels {
                categorized(json, streams);
            } else {
                plain_streams(json, streams);
            }
        }
    });
}

/// The name of the kind of result.
pub(super) fn result_type(value: &Value) -> &'static str {
    match value {
        Value::Streams(_) => "streams",
        Value::Matrix(_) => "matrix",
        Value::Vector(_) => "vector",
        Value::Scalar { .. } => "scalar",
    }
}

/// What was asked of the encoding, such as a third item of values.
pub(super) fn encoding_flags(json: &mut Json, call: &Call) {
    if call.encoding_flags.is_empty() {
        return;
    }
    json.key("encodingFlags").array(|json| {
        for flag in &call.encoding_flags {
            json.string(flag);
        }
    });
}

fn plain_streams(json: &mut Json, streams: &[StreamResult]) {
    for stream in merged(streams) {
        json.object(|json| {
            labels(json.key("stream"), &stream.labels);
            json.key("values").array(|json| {
                for (at, line) in &stream.entries {
                    json.array(|json| {
                        json.nanos(*at);
                        json.line(line.as_bytes());
                    });
                }
            });
        });
    }
}

fn categorized(json: &mut Json, streams: &[StreamResult]) {
    for stream in streams {
        json.object(|json| {
            labels(json.key("stream"), &stream.labels);
            json.key("values").array(|json| {
                for entry in &stream.entries {
                    categorized_entry(json, entry);
                }
            });
        });
    }
}

fn categorized_entry(json: &mut Json, entry: &LogEntry) {
    json.array(|json| {
        json.nanos(entry.at);
        json.line(entry.line.as_bytes());
        json.object(|json| {
            for (name, set) in [
                ("structuredMetadata", &entry.metadata),
                ("parsed", &entry.parsed),
            ] {
                if set.iter().next().is_some() {
                    labels(json.key(name), set);
                }
            }
        });
    });
}

fn labels(json: &mut Json, labels: &LabelSet) {
    json.labels(labels.iter());
}

fn point(json: &mut Json, at: i64, value: f64) {
    json.array(|json| {
        json.seconds(at);
        json.sample(value);
    });
}

/// How many entries or samples a result has.
pub(super) fn entries(value: &Value) -> u64 {
    let entries: usize = match value {
        Value::Streams(streams) => streams.iter().map(|stream| stream.entries.len()).sum(),
        Value::Matrix(series) => series.iter().map(|series| series.points.len()).sum(),
        Value::Vector(samples) => samples.len(),
        Value::Scalar { .. } => 1,
    };
    entries as u64
}

fn size_hint(value: &Value) -> usize {
    let entries = match value {
        Value::Streams(streams) => streams
            .iter()
            .flat_map(|stream| &stream.entries)
            .map(|entry| entry.line.len() + 40)
            .sum(),
        _ => entries(value) as usize * 32,
    };
    4096 + entries
}
