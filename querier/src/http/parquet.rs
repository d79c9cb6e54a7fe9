//! Answers as Parquet files, with the columns that Loki's have: one row for each entry or sample.
//!
//! ```text
//! lines    timestamp (nanoseconds, UTC)   labels (map of texts)  line (text)
//! numbers  timestamp (milliseconds, UTC)  labels (map of texts)  value (double)
//! ```

use std::sync::{Arc, LazyLock};

use axum::response::Response;
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};
use query::logql::engine::{Value, merged};

use crate::Error;

/// What a client must accept, and nothing beside it, to get such an answer; as in Loki.
pub(super) const KIND: &str = "application/vnd.apache.parquet";
/// A row group is gathered in memory.
const GROUP_ROWS_MAX: usize = 1 << 17;

const LINES: &str = "message LogStreamRowType {
    required int64 timestamp (TIMESTAMP(NANOS, true));
    required group labels (MAP) {
        repeated group key_value { required binary key (STRING); required binary value (STRING); }
    }
    required binary line (STRING);
}";
const NUMBERS: &str = "message MetricRowType {
    required int64 timestamp (TIMESTAMP(MILLIS, true));
    required group labels (MAP) {
        repeated group key_value { required binary key (STRING); required binary value (STRING); }
    }
    required double value;
}";

/// Rows under way, column by column.
struct Rows {
    times: Vec<i64>,
    labels: Labels,
    last: Last,
}

/// The last column.
enum Last {
    Lines(Vec<ByteArray>),
    Numbers(Vec<f64>),
}

/// A map column: a row without labels has no entry and the definition level 0.
#[derive(Default)]
struct Labels {
    names: Vec<ByteArray>,
    values: Vec<ByteArray>,
    defined: Vec<i16>,
    repeated: Vec<i16>,
}

/// The labels of a stream or a series, which all its rows share.
type Shared = Vec<(ByteArray, ByteArray)>;

impl Labels {
    fn push(&mut self, labels: &Shared) {
        if labels.is_empty() {
            self.defined.push(0);
            self.repeated.push(0);
        }
        for (at, (name, value)) in labels.iter().enumerate() {
            self.names.push(name.clone());
            self.values.push(value.clone());
            self.defined.push(1);
            self.repeated.push(i16::from(at > 0));
        }
    }
}

/// Writes a file into memory.
struct File {
    writer: SerializedFileWriter<Vec<u8>>,
    rows: Rows,
}

impl File {
    fn new(schema: &str, last: Last) -> Result<File> {
        let schema: TypePtr = Arc::new(parse_message_type(schema)?);
        let writer = SerializedFileWriter::new(Vec::new(), schema, Arc::clone(&PROPERTIES))?;
        Ok(File {
            writer,
            rows: Rows {
                times: Vec::new(),
                labels: Labels::default(),
                last,
            },
        })
    }

    fn line(&mut self, at: i64, labels: &Shared, line: &str) -> Result<()> {
        if let Last::Lines(lines) = &mut self.rows.last {
            lines.push(ByteArray::from(line));
        }
        self.row(at, labels)
    }

    fn number(&mut self, at: i64, labels: &Shared, value: f64) -> Result<()> {
        if let Last::Numbers(values) = &mut self.rows.last {
            values.push(value);
        }
        self.row(at.div_euclid(1_000_000), labels)
    }

    fn row(&mut self, at: i64, labels: &Shared) -> Result<()> {
        self.rows.times.push(at);
        self.rows.labels.push(labels);
        match self.rows.times.len() < GROUP_ROWS_MAX {
            true => Ok(()),
            false => self.end_group(),
        }
    }

    fn end_group(&mut self) -> Result<()> {
        let rows = &mut self.rows;
        if rows.times.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        let labels = std::mem::take(&mut rows.labels);
        let levels = Some((labels.defined.as_slice(), labels.repeated.as_slice()));
        column::<Int64Type>(&mut group, &std::mem::take(&mut rows.times), None)?;
        column::<ByteArrayType>(&mut group, &labels.names, levels)?;
        column::<ByteArrayType>(&mut group, &labels.values, levels)?;
        match &mut rows.last {
            Last::Lines(lines) => {
                column::<ByteArrayType>(&mut group, &std::mem::take(lines), None)?;
            }
            Last::Numbers(values) => {
                column::<DoubleType>(&mut group, &std::mem::take(values), None)?;
            }
        }
        group.close().map(drop)
    }

    fn end(mut self) -> Result<Vec<u8>> {
        self.end_group()?;
        self.writer.into_inner()
    }
}

static PROPERTIES: LazyLock<Arc<WriterProperties>> = LazyLock::new(|| {
    let column =
        |name: &str| ColumnPath::from(name.split('.').map(str::to_owned).collect::<Vec<_>>());
    let texts = ["labels.key_value.key", "labels.key_value.value"];
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("pharos ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_dictionary_enabled(column("timestamp"), false)
        .set_column_encoding(column("timestamp"), Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(column("value"), false)
        .set_column_dictionary_enabled(column("line"), false)
        .set_column_encoding(column("line"), Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_column_compression(column("line"), Compression::LZ4_RAW);
    for text in texts {
        // A few different texts on many rows.
        properties = properties.set_column_dictionary_enabled(column(text), true);
    }
    Arc::new(properties.build())
});

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: Option<(&[i16], &[i16])>,
) -> Result<()> {
    let missing = || ParquetError::General("the schema has fewer columns than the rows".into());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    let (defined, repeated) = levels.unzip();
    column.typed::<T>().write_batch(values, defined, repeated)?;
    column.close()
}

/// The file of a result. Streams have all kinds of labels in `labels`, or, with
/// `categorize_labels`, those of the index only.
pub(super) fn response(
    value: &Value,
    categorize_labels: bool,
) -> std::result::Result<Response, Error> {
    respond(file(value, categorize_labels))
}

/// The file of series of whole numbers.
pub(super) fn numbers<'a>(
    series: impl Iterator<Item = (&'a [(String, String)], &'a [(i64, u64)])>,
) -> std::result::Result<Response, Error> {
    let write = || {
        let mut file = File::new(NUMBERS, Last::Numbers(Vec::new()))?;
        for (labels, points) in series {
            let pairs = labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            let labels = shared(pairs);
            for (at, value) in points {
                file.number(*at, &labels, *value as f64)?;
            }
        }
        file.end()
    };
    respond(write())
}

fn respond(file: Result<Vec<u8>>) -> std::result::Result<Response, Error> {
    match file {
        Ok(bytes) => Ok(super::typed(KIND, bytes)),
        Err(error) => Err(Error::Internal(format!("cannot write Parquet: {error}"))),
    }
}

fn file(value: &Value, categorize_labels: bool) -> Result<Vec<u8>> {
    let mut file = match value {
        Value::Streams(_) => File::new(LINES, Last::Lines(Vec::new()))?,
        _ => File::new(NUMBERS, Last::Numbers(Vec::new()))?,
    };
    match value {
        Value::Streams(streams) if categorize_labels => {
            for stream in streams {
                let labels = shared(stream.labels.iter());
                for entry in &stream.entries {
                    file.line(entry.at, &labels, &entry.line)?;
                }
            }
        }
        Value::Streams(streams) => {
            for stream in merged(streams) {
                let labels = shared(stream.labels.iter());
                for (at, line) in &stream.entries {
                    file.line(*at, &labels, line)?;
                }
            }
        }
        Value::Matrix(series) => {
            for series in series {
                let labels = shared(series.labels.iter());
                for (at, value) in &series.points {
                    file.number(*at, &labels, *value)?;
                }
            }
        }
        Value::Vector(samples) => {
            for sample in samples {
                file.number(sample.at, &shared(sample.labels.iter()), sample.value)?;
            }
        }
        Value::Scalar { at, value } => file.number(*at, &Shared::new(), *value)?,
    }
    file.end()
}

fn shared<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Shared {
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[cfg(test)]
mod tests;
