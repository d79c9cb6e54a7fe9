//! Which records a log query without side effects passes: what a delete request means.

use std::sync::Arc;

use model::{Columns, Kind, Labels, LineColumn, LineFilter, Selector, Timestamp};

use super::super::ast::{LogExpr, Stage};
use super::super::pipeline::level::DETECTED_LEVEL;
use super::super::pipeline::{LabelNeed, Pipeline, Runner};
use super::super::{ParseError, parse_log};
use super::leaf::selector;

/// A compiled log query of which only matters whether a record passes. Immutable; each worker takes
/// a [`RecordTest`] of its own.
///
/// A record that carries an error when all stages are done does not pass, unless all of them are line
/// filters: these look at nothing but the line. Whether a record passes depends on the record alone:
/// neither on the time of asking nor on other records.
#[derive(Clone, Debug)]
pub struct RecordFilter {
    selector: Selector,
    line_filter: LineFilter,
    pipeline: Pipeline,
    columns: Columns,
    /// Every record of the streams passes.
    whole: bool,
    only_lines: bool,
}

/// A worker's memory for a [`RecordFilter`].
#[derive(Debug)]
pub struct RecordTest {
    filter: Arc<RecordFilter>,
    runner: Runner,
}

/// Why a text is not a record filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFilterError {
    /// Not a log query.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A stage that shows records differently, or that looks at other records.
    #[error("stage {0} does not only filter; use line filters, parsers and label filters")]
    Stage(&'static str),
    /// A stage that does not compile.
    #[error("{0}")]
    Compile(String),
}

impl RecordFilterError {
    /// Always the text's fault.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl RecordFilter {
    /// Compiles a log query.
    ///
    /// # Errors
    /// [`RecordFilterError`] says which part cannot be used.
    pub fn parse(text: &str) -> Result<Self, RecordFilterError> {
        let expr = parse_log(text)?;
        if let Some(name) = expr.stages.iter().find_map(refused) {
            return Err(RecordFilterError::Stage(name));
        }
        Self::compile(&expr, text.contains(DETECTED_LEVEL))
    }

    fn compile(expr: &LogExpr, detect_level: bool) -> Result<Self, RecordFilterError> {
        let selector = selector(&expr.selector)
            .map_err(|error| RecordFilterError::Compile(error.to_string()))?;
        let pipeline = Pipeline::compile(&expr.stages, None)
            .map_err(|error| RecordFilterError::Compile(error.to_string()))?
            .with_detected_level(detect_level);
        let is_line_filter = |stage: &Stage| matches!(stage, Stage::LineFilter(_));
        let only_lines = expr.stages.iter().all(is_line_filter);
        let (lines, metadata) = pipeline.columns(&LabelNeed::All);
        let line_filter = pipeline.pushed_line_filter();
        let reads_lines = lines != LineColumn::None || !line_filter.is_empty();
        Ok(RecordFilter {
            columns: Columns {
                timestamps: true,
                lines: match reads_lines {
                    true => LineColumn::Bytes,
                    false => LineColumn::None,
                },
                metadata: metadata && !only_lines,
            },
            whole: expr.stages.is_empty(),
            only_lines,
            selector,
            line_filter,
            pipeline,
        })
    }

    /// The streams that may have records that pass.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// What a line must pass before anything else is looked at.
    pub fn line_filter(&self) -> &LineFilter {
        &self.line_filter
    }

    /// Whether every record of the streams passes.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether a record of the streams passes exactly if its line passes the
    /// [line filter](Self::line_filter).
    pub fn is_by_line(&self) -> bool {
        self.only_lines
    }

    /// What must be known of a record.
    pub fn columns(&self) -> Columns {
        self.columns
    }

    /// A test of records.
    pub fn test(self: &Arc<Self>) -> RecordTest {
        RecordTest {
            runner: self.pipeline.runner(&LabelNeed::All),
            filter: Arc::clone(self),
        }
    }
}

impl RecordTest {
    /// Records of this stream follow. `false`: none of them can pass, and none may be asked about.
    pub fn stream(&mut self, labels: &Arc<Labels>) -> bool {
        let selected = self.filter.selector.is_match(labels);
        if selected && !self.filter.only_lines {
            self.runner.stream(labels);
        }
        selected
    }

    /// Whether a record of the stream passes; `metadata` in order of key.
    pub fn is_match(&mut self, at: Timestamp, line: &[u8], metadata: &[(&str, &str)]) -> bool {
        if !self.filter.line_filter.is_match(line) {
            return false;
        }
        if self.filter.only_lines {
            return true;
        }
        let passed = self.runner.run(at, line, metadata);
        passed.is_some_and(|output| !output.labels.has_error())
    }
}

/// The name of a stage that a record filter may not have.
fn refused(stage: &Stage) -> Option<&'static str> {
    match stage {
        Stage::LineFormat(_) => Some("line_format"),
        Stage::LabelFormat(_) => Some("label_format"),
        Stage::Distinct(_) => Some("distinct"),
        Stage::Sort { .. } => Some("sort"),
        Stage::LineFilter(_)
        | Stage::Json(_)
        | Stage::Logfmt { .. }
        | Stage::Regexp(_)
        | Stage::Pattern(_)
        | Stage::Unpack
        | Stage::LabelFilter(_)
        | Stage::Decolorize
        | Stage::Drop(_)
        | Stage::Keep(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a record of `{app="a"}` with metadata `k="v"` passes.
    fn passes(query: &str, line: &str) -> bool {
        passes_with(query, line, &[("k", "v")])
    }

    fn passes_with(query: &str, line: &str, metadata: &[(&str, &str)]) -> bool {
        let filter = Arc::new(RecordFilter::parse(query).unwrap());
        let mut test = filter.test();
        let labels = Arc::new(Labels::new([("app", "a")]).unwrap());
        test.stream(&labels) && test.is_match(7, line.as_bytes(), metadata)
    }

    #[test]
    fn records_pass_as_the_query_would_show_them() {
        for (query, line, expected) in [
            (r#"{app="a"}"#, "x", true),
            (r#"{app="b"}"#, "x", false),
            (r#"{app="a"} |= "err""#, "an error", true),
            (r#"{app="a"} |= "err""#, "fine", false),
            (r#"{app="a"} != ip("10.0.0.0/8")"#, "from 10.1.1.1", false),
            (r#"{app="a"} |= "x" or "y""#, "y", true),
            (r#"{app="a"} | k="v""#, "x", true),
            (r#"{app="a"} | k="w""#, "x", false),
            (r#"{app="a"} | logfmt | status>=500"#, "status=503", true),
            (r#"{app="a"} | logfmt | status>=500"#, "status=200", false),
            (r#"{app="a"} | json | id="7""#, r#"{"id":7}"#, true),
            (r#"{app="a"} | detected_level="error""#, "level=error", true),
            (r#"{app="a"} | detected_level="error""#, "level=info", false),
            (r#"{app="a"} | drop k | k="v""#, "x", false),
        ] {
            assert_eq!(passes(query, line), expected, "{query} on {line}");
        }
    }

    #[test]
    fn a_record_with_which_a_stage_fails_does_not_pass() {
        assert!(!passes(r#"{app="a"} | json"#, "not json"));
        assert!(!passes(r#"{app="a"} | json | __error__!="""#, "not json"));
        assert!(!passes(r#"{app="a"} | logfmt | n>5"#, "n=many"));
    }

    #[test]
    fn stages_that_do_more_than_filter_are_refused() {
        for (query, name) in [
            (r#"{app="a"} | line_format "x""#, "line_format"),
            (r#"{app="a"} | label_format x=k | x="v""#, "label_format"),
            (r#"{app="a"} | distinct k"#, "distinct"),
        ] {
            let error = RecordFilter::parse(query).unwrap_err();
            assert_eq!(error, RecordFilterError::Stage(name), "{query}");
        }
        let error = RecordFilter::parse("rate({app=\"a\"}[1m])").unwrap_err();
        assert!(matches!(error, RecordFilterError::Parse(_)), "{error}");
    }

    #[test]
    fn line_filters_alone_decide_by_the_line() {
        for (query, by_line) in [
            (r#"{app="a"}"#, true),
            (r#"{app="a"} |= "x" !~ "y|z" |> "<_> x""#, true),
            (r#"{app="a"} != ip("10.0.0.0/8") |= "detected_level""#, true),
            (r#"{app="a"} |= "x" | k="v""#, false),
            (r#"{app="a"} | decolorize |= "x""#, false),
        ] {
            let filter = Arc::new(RecordFilter::parse(query).unwrap());
            assert_eq!(filter.is_by_line(), by_line, "{query}");
            if !by_line {
                continue;
            }
            for line in [
                "x",
                "a x",
                "xy",
                "",
                "y x 10.1.1.1",
                "detected_level",
                "10.2.2.2",
            ] {
                let passes = filter.line_filter().is_match(line.as_bytes());
                for metadata in [&[("k", "v")][..], &[("__error__", "x")], &[]] {
                    assert_eq!(
                        passes_with(query, line, metadata),
                        passes,
                        "{query} on {line} with {metadata:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_what_the_query_reads_is_asked_for() {
        let columns = |query| RecordFilter::parse(query).unwrap().columns();
        let stream = columns(r#"{app="a"}"#);
        assert_eq!((stream.lines, stream.metadata), (LineColumn::None, false));
        let line = columns(r#"{app="a"} |= "x""#);
        assert_eq!((line.lines, line.metadata), (LineColumn::Bytes, false));
        let metadata = columns(r#"{app="a"} | k="v""#);
        assert!(metadata.metadata);
    }
}
