use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use bytes::Bytes;
use query::logql::engine::{LabelSet, LogEntry, Sample, Series, StreamResult};

use super::*;

fn rows(file: Vec<u8>) -> Vec<Row> {
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// The columns of a row; labels as `a=1,b=2`.
fn fields(row: &Row) -> Vec<String> {
    let fields = row.get_column_iter();
    fields.map(|(_, field)| written(field)).collect()
}

fn written(field: &Field) -> String {
    match field {
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            let pairs =
                entries.map(|(name, value)| format!("{}={}", written(name), written(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        Field::Str(text) => text.clone(),
        Field::TimestampMillis(at) | Field::Long(at) => at.to_string(),
        other => other.to_string(),
    }
}

fn entry(at: i64, line: &str, trace: &str) -> LogEntry {
    let metadata = (!trace.is_empty()).then_some(("trace", trace));
    LogEntry {
        at,
        line: line.to_owned(),
        metadata: LabelSet::new(metadata),
        parsed: LabelSet::default(),
        place: None,
    }
}

#[test]
fn lines_have_their_labels_in_a_map() {
    let streams = Value::Streams(vec![StreamResult {
        labels: LabelSet::new([("app", "a")]),
        entries: vec![entry(1_700_000_000_000_000_007, "é", "t"), entry(2, "", "")],
    }]);
    let all = rows(file(&streams, false).unwrap());
    assert_eq!(
        all.iter().map(fields).collect::<Vec<_>>(),
        [
            ["2", "app=a", ""],
            ["1700000000000000007", "app=a,trace=t", "é"]
        ]
    );
    let index = rows(file(&streams, true).unwrap());
    assert_eq!(fields(&index[0]), ["1700000000000000007", "app=a", "é"]);
}

#[test]
fn numbers_have_milliseconds_and_may_have_no_labels() {
    let matrix = Value::Matrix(vec![
        Series {
            labels: LabelSet::default(),
            points: vec![(-1, 0.5), (1_500_000, f64::NAN)],
        },
        Series {
            labels: LabelSet::new([("a", "1"), ("b", "2")]),
            points: vec![(3_000_000, f64::INFINITY)],
        },
    ]);
    let all = rows(file(&matrix, false).unwrap());
    assert_eq!(
        all.iter().map(fields).collect::<Vec<_>>(),
        [["-1", "", "0.5"], ["1", "", "NaN"], ["3", "a=1,b=2", "inf"]]
    );
    let scalar = Value::Scalar {
        at: 9_000_000,
        value: 2.0,
    };
    assert_eq!(
        fields(&rows(file(&scalar, false).unwrap())[0]),
        ["9", "", "2.0"]
    );
}

#[test]
fn an_empty_answer_is_a_file_without_rows() {
    for empty in [Value::Streams(Vec::new()), Value::Vector(Vec::new())] {
        assert!(rows(file(&empty, false).unwrap()).is_empty());
    }
}

#[test]
fn many_rows_are_many_groups() {
    let samples = (0..GROUP_ROWS_MAX as i64 + 3).map(|n| Sample {
        labels: LabelSet::new([("n", (n % 5).to_string())]),
        at: n * 1_000_000,
        value: n as f64,
    });
    let file = file(&Value::Vector(samples.collect()), false).unwrap();
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let groups = reader.metadata().row_groups().iter();
    let counts: Vec<i64> = groups.map(|group| group.num_rows()).collect();
    assert_eq!(counts, [GROUP_ROWS_MAX as i64, 3]);
    let last = reader.get_row_iter(None).unwrap().last().unwrap().unwrap();
    assert_eq!(fields(&last), ["131074", "n=4", "131074.0"]);
}
