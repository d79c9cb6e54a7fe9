//! Expressions over several lines, for people: what `/loki/api/v1/format_query` answers.
//!
//! The layout is Loki's, to the space. What fits into [`WIDTH_MAX`] bytes stays on one line,
//! however far it is indented. What does not is opened: calls put each argument on a line of its
//! own, pipelines each stage (line filters that follow each other share one), binary operations the
//! operator between the sides; each level is indented by two spaces.
//!
//! In a few places Loki's long form reads as another query: it forgets parentheses around an opened
//! side of a binary operation, `on ()`, and empty groupings. There, and only there, the text differs.

use std::fmt::{Display, Write as _};

use super::ast::{
    Binary, Expr, LogExpr, LogRange, MetricExpr, RangeAggregation, RangeInput, Stage, Variants,
    VectorAggregation,
};
use super::deep;
use super::parse::{ParseError, format_duration, parse_form, parse_variants, quote};
use super::print::{
    GoDuration, Plain, Unwrapped, binary_op_name, parentheses, range_op_name, subquery_window,
    vector_op_name, vector_param,
};

/// Longest expression that is left on one line, bytes.
pub const WIDTH_MAX: usize = 100;
const INDENT: &str = "  ";
/// Between the labels of a grouping in an opened expression.
const SEPARATOR: &str = ", ";

/// A query in its long form. As in Loki, a stage whose template, path or address is wrong is no
/// reason to refuse: the query has a form, though it cannot run.
///
/// # Errors
/// [`ParseError`] in Loki's words.
pub fn format_query(text: &str) -> Result<String, ParseError> {
    match parse_variants(text) {
        Some(variants) => Ok(pretty_variants(&variants?)),
        None => Ok(pretty(&parse_form(text)?)),
    }
}

/// Never on one line.
fn pretty_variants(variants: &Variants) -> String {
    let mut page = Page {
        text: "variants(".to_owned(),
    };
    for (at, variant) in variants.variants.iter().enumerate() {
        page.text.push_str(if at == 0 { "" } else { "," });
        page.metric(variant, 1);
    }
    page.line(0, ") of (");
    page.log_range(&variants.of, 1);
    page.line(0, ")");
    page.text
}

/// The expression over as many lines as it needs. It parses to the same expression.
pub fn pretty(expr: &Expr) -> String {
    let mut page = Page {
        text: String::new(),
    };
    match expr {
        Expr::Log(log) => page.log(log, 0),
        Expr::Metric(metric) => page.metric(metric, 0),
    }
    page.text
}

struct Page {
    text: String,
}

impl Page {
    /// Starts a line.
    fn line(&mut self, level: usize, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        for _ in 0..level {
            self.text.push_str(INDENT);
        }
        self.text.push_str(text);
    }

    fn log(&mut self, log: &LogExpr, level: usize) {
        if let Some(whole) = short(log) {
            self.line(level, &whole);
            return;
        }
        let selector = LogExpr {
            selector: log.selector.clone(),
            stages: Vec::new(),
        };
        self.line(level, &selector.to_string());
        let mut filters = false;
        for stage in &log.stages {
            let text = stage.to_string();
            let filter = matches!(stage, Stage::LineFilter(_));
            if filter && filters {
                self.text.push(' ');
                self.text.push_str(&text);
            } else if *stage == Stage::Decolorize {
                // Loki does not indent it.
                self.line(0, &text);
            } else {
                self.line(level + 1, &text);
            }
            filters = filter;
        }
    }

    fn metric(&mut self, metric: &MetricExpr, level: usize) {
        if let Some(whole) = short(metric) {
            self.line(level, &whole);
            return;
        }
        deep(|| match metric {
            MetricExpr::Range(range) => self.range(range, level),
            MetricExpr::Vector(vector) => self.vector(vector, level),
            MetricExpr::Binary(binary) => self.binary(binary, level),
            MetricExpr::LabelReplace {
                expr,
                dst,
                replacement,
                src,
                regex,
            } => {
                self.line(level, "label_replace(");
                self.metric(expr, level + 1);
                for text in [dst, replacement, src, regex] {
                    self.text.push(',');
                    self.line(level + 1, &quote(text));
                }
                self.line(level, ")");
            }
            // Too long for a line, but there is nothing to open.
            MetricExpr::ToVector(_) | MetricExpr::Number(_) => {
                self.line(level, &metric.to_string());
            }
        });
    }

    fn range(&mut self, range: &RangeAggregation, level: usize) {
        self.line(level, &format!("{}(", range_op_name(range.op)));
        if let Some(param) = range.param {
            self.line(level + 1, &format!("{},", Plain(param)));
        }
        match &range.over {
            RangeInput::Logs(logs) => self.log_range(logs, level + 1),
            RangeInput::Subquery {
                expr,
                range,
                step,
                offset,
            } => {
                let wrapped = matches!(**expr, MetricExpr::Binary(_) | MetricExpr::Number(_));
                self.side(expr, wrapped, level + 1);
                self.written(|text| subquery_window(text, *range, *step));
                self.offset(*offset);
            }
        }
        self.line(level, ")");
        if let Some(grouping) = &range.grouping {
            self.text.push(' ');
            self.written(|text| grouping.write(text, SEPARATOR));
        }
    }

    fn log_range(&mut self, logs: &LogRange, level: usize) {
        self.log(&logs.log, level);
        if let Some(unwrap) = &logs.unwrap {
            self.line(level + 1, &Unwrapped(unwrap).to_string());
            for filter in &unwrap.filters {
                self.line(level + 1, &format!("| {filter}"));
            }
        }
        let range = format_duration(logs.range);
        self.written(|text| write!(text, " [{range}]"));
        self.offset(logs.offset);
    }

    fn offset(&mut self, offset: i64) {
        match offset {
            0 => {}
            offset if offset % 1_000_000 == 0 => {
                let offset = format_duration(offset);
                self.written(|text| write!(text, " offset {offset}"));
            }
            offset => self.written(|text| write!(text, " offset {}", GoDuration(offset))),
        }
    }

    fn vector(&mut self, vector: &VectorAggregation, level: usize) {
        self.line(level, vector_op_name(&vector.op));
        if let Some(grouping) = &vector.grouping {
            self.text.push(' ');
            self.written(|text| grouping.write(text, SEPARATOR));
        }
        self.text.push('(');
        if let Some(param) = vector_param(&vector.op) {
            self.line(level + 1, &format!("{param},"));
        }
        self.metric(&vector.expr, level + 1);
        self.line(level, ")");
    }

    fn binary(&mut self, binary: &Binary, level: usize) {
        let (left, right) = parentheses(binary);
        self.side(&binary.lhs, left, level + 1);
        self.line(level, binary_op_name(binary.op));
        if binary.returns_bool {
            self.text.push_str(" bool");
        }
        if let Some(matching) = &binary.matching {
            self.written(|text| matching.write(text, SEPARATOR, &binary.rhs));
        }
        self.side(&binary.rhs, right, level + 1);
    }

    /// A side of an operation. What fits into a line has its parentheses already.
    fn side(&mut self, metric: &MetricExpr, wrapped: bool, level: usize) {
        let short = short(metric).is_some() && !matches!(metric, MetricExpr::Number(_));
        if !wrapped || short {
            self.metric(metric, level);
            return;
        }
        self.line(level, "(");
        self.metric(metric, level + 1);
        self.line(level, ")");
    }

    fn written(&mut self, write: impl FnOnce(&mut String) -> std::fmt::Result) {
        // A string takes everything.
        let _ = write(&mut self.text);
    }
}

/// The text if it fits into a line. No more of it is made than would fit, for this is asked at
/// each level of a tree.
fn short(shown: &impl Display) -> Option<String> {
    struct Line(String);

    impl std::fmt::Write for Line {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            if self.0.len() + text.len() > WIDTH_MAX {
                return Err(std::fmt::Error);
            }
            self.0.push_str(text);
            Ok(())
        }
    }

    let mut line = Line(String::new());
    write!(line, "{shown}").ok()?;
    Some(line.0)
}
