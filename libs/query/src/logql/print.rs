//! Expressions as text on one line: `parse(print(e)) == e`.
//!
//! The words and spaces are Loki's, so that texts may be compared with its own. Where Loki's text
//! would read as something else (a size is rounded, `ignoring () group_left (a)` left out), this
//! one is exact: queries travel in this form, so it loses nothing.

mod log;
mod values;

use std::fmt::{self, Display, Formatter};

use super::ast::{
    Binary, BinaryOp, CompareOp, Expr, GroupSide, Grouping, LogRange, MetricExpr, RangeAggregation,
    RangeInput, RangeOp, Variants, VectorAggregation, VectorMatching, VectorOp,
};
use super::deep;
use super::parse::{format_duration, quote};
pub(super) use log::Unwrapped;
pub(super) use values::{Bytes, GoDuration, Literal, Plain};

/// All range operators with their names.
pub(crate) const RANGE_OPS: &[(RangeOp, &str)] = &[
    (RangeOp::Rate, "rate"),
    (RangeOp::RateCounter, "rate_counter"),
    (RangeOp::Count, "count_over_time"),
    (RangeOp::BytesRate, "bytes_rate"),
    (RangeOp::Bytes, "bytes_over_time"),
    (RangeOp::Avg, "avg_over_time"),
    (RangeOp::Sum, "sum_over_time"),
    (RangeOp::Min, "min_over_time"),
    (RangeOp::Max, "max_over_time"),
    (RangeOp::Stdvar, "stdvar_over_time"),
    (RangeOp::Stddev, "stddev_over_time"),
    (RangeOp::Quantile, "quantile_over_time"),
    (RangeOp::First, "first_over_time"),
    (RangeOp::Last, "last_over_time"),
    (RangeOp::Absent, "absent_over_time"),
];

/// The name of a range operator.
pub(crate) fn range_op_name(op: RangeOp) -> &'static str {
    let found = RANGE_OPS.iter().find(|(known, _)| *known == op);
    found.map_or("", |(_, name)| name)
}

/// The name of a vector operator.
pub(crate) fn vector_op_name(op: &VectorOp) -> &'static str {
    match op {
        VectorOp::Sum => "sum",
        VectorOp::Avg => "avg",
        VectorOp::Count => "count",
        VectorOp::Max => "max",
        VectorOp::Min => "min",
        VectorOp::Stddev => "stddev",
        VectorOp::Stdvar => "stdvar",
        VectorOp::TopK(_) => "topk",
        VectorOp::BottomK(_) => "bottomk",
        VectorOp::ApproxTopK(_) => "approx_topk",
        VectorOp::Sort => "sort",
        VectorOp::SortDesc => "sort_desc",
        VectorOp::CountValues(_) => "count_values",
    }
}

/// The text of a comparison.
pub(crate) fn compare_op_name(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "==",
        CompareOp::NotEqual => "!=",
        CompareOp::Greater => ">",
        CompareOp::GreaterOrEqual => ">=",
        CompareOp::Less => "<",
        CompareOp::LessOrEqual => "<=",
    }
}

/// The text of a binary operator.
pub(crate) fn binary_op_name(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Mod => "%",
        BinaryOp::Pow => "^",
        BinaryOp::Compare(op) => compare_op_name(op),
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
        BinaryOp::Unless => "unless",
    }
}

/// How tightly a binary operator binds.
fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Compare(_) => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 5,
        BinaryOp::Pow => 6,
    }
}

/// Whether the left and the right side of a binary operation need parentheses for the order of
/// evaluation.
pub(super) fn parentheses(binary: &Binary) -> (bool, bool) {
    let own = precedence(binary.op);
    let power = binary.op == BinaryOp::Pow;
    let needs = |side: &MetricExpr, equal_needs: bool| match side {
        MetricExpr::Binary(inner) => {
            let inner = precedence(inner.op);
            inner < own || (inner == own && equal_needs)
        }
        _ => false,
    };
    (needs(&binary.lhs, power), needs(&binary.rhs, !power))
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Log(log) => log.fmt(f),
            Expr::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        deep(|| match self {
            MetricExpr::Range(range) => range.fmt(f),
            MetricExpr::Vector(vector) => vector.fmt(f),
            MetricExpr::Binary(binary) => binary.fmt(f),
            MetricExpr::LabelReplace {
                expr,
                dst,
                replacement,
                src,
                regex,
            } => {
                write!(f, "label_replace({expr}")?;
                for text in [dst, replacement, src, regex] {
                    write!(f, ",{}", quote(text))?;
                }
                f.write_str(")")
            }
            MetricExpr::ToVector(value) => write!(f, "vector({})", values::Six(*value)),
            MetricExpr::Number(value) => Literal(*value).fmt(f),
        })
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "({} {}", self.lhs, binary_op_name(self.op))?;
        if self.returns_bool {
            f.write_str(" bool")?;
        }
        if let Some(matching) = &self.matching {
            matching.write(f, ",", &self.rhs)?;
        }
        write!(f, " {})", self.rhs)
    }
}

impl VectorMatching {
    /// With a space before it, and as in Loki one behind it when there is no group. What `rhs`
    /// starts with must not be taken for the labels of the group.
    pub(super) fn write(
        &self,
        f: &mut impl fmt::Write,
        separator: &str,
        rhs: &MetricExpr,
    ) -> fmt::Result {
        let word = if self.on { "on" } else { "ignoring" };
        write!(f, " {word} ({}) ", self.labels.join(separator))?;
        let (word, include) = match &self.group {
            Some(GroupSide::Left(include)) => ("group_left", include),
            Some(GroupSide::Right(include)) => ("group_right", include),
            None => return Ok(()),
        };
        f.write_str(word)?;
        if include.is_empty() && !starts_with_parenthesis(rhs) {
            return Ok(());
        }
        write!(f, " ({})", include.join(separator))
    }
}

fn starts_with_parenthesis(expr: &MetricExpr) -> bool {
    match expr {
        MetricExpr::Binary(_) => true,
        MetricExpr::Number(value) => !value.is_finite(),
        _ => false,
    }
}

impl Grouping {
    /// `by (a, b)` without spaces around it.
    pub(super) fn write(&self, f: &mut impl fmt::Write, separator: &str) -> fmt::Result {
        let word = if self.without { "without" } else { "by" };
        write!(f, "{word} ({})", self.labels.join(separator))
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", range_op_name(self.op))?;
        if let Some(param) = self.param {
            write!(f, "{},", Plain(param))?;
        }
        write!(f, "{})", self.over)?;
        match &self.grouping {
            Some(grouping) => {
                f.write_str(" ")?;
                grouping.write(f, ",")
            }
            None => Ok(()),
        }
    }
}

impl Display for RangeInput {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            RangeInput::Logs(logs) => logs.fmt(f),
            RangeInput::Subquery {
                expr,
                range,
                step,
                offset,
            } => {
                if matches!(**expr, MetricExpr::Number(_)) {
                    write!(f, "({expr})")?;
                } else {
                    expr.fmt(f)?;
                }
                subquery_window(f, *range, *step)?;
                go_offset(f, *offset)
            }
        }
    }
}

/// `[1h:5m]`
pub(super) fn subquery_window(
    f: &mut impl fmt::Write,
    range: i64,
    step: Option<i64>,
) -> fmt::Result {
    let step = step.map(format_duration).unwrap_or_default();
    write!(f, "[{}:{step}]", format_duration(range))
}

impl Display for Variants {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("variants(")?;
        for (at, variant) in self.variants.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{variant}")?;
        }
        write!(f, ") of ({})", self.of)
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, "[{}]", format_duration(self.range))?;
        go_offset(f, self.offset)
    }
}

fn go_offset(f: &mut impl fmt::Write, offset: i64) -> fmt::Result {
    match offset {
        0 => Ok(()),
        offset => write!(f, " offset {}", GoDuration(offset)),
    }
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(vector_op_name(&self.op))?;
        if let Some(grouping) = &self.grouping {
            f.write_str(" ")?;
            grouping.write(f, ",")?;
        }
        f.write_str("(")?;
        if let Some(param) = vector_param(&self.op) {
            write!(f, "{param},")?;
        }
        write!(f, "{})", self.expr)
    }
}

/// What stands before the expression of a vector aggregation: `5` or `"label"`.
pub(super) fn vector_param(op: &VectorOp) -> Option<String> {
    match op {
        VectorOp::TopK(k) | VectorOp::BottomK(k) | VectorOp::ApproxTopK(k) => Some(k.to_string()),
        VectorOp::CountValues(label) => Some(quote(label)),
        _ => None,
    }
}
