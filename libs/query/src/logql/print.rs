//! Expressions as text on one line: `parse(print(e)) == e`.
//!
//! It prints no parentheses but those that the grammar needs, strings in double quotes, durations
//! as Prometheus does. Pushed-down queries travel in this form, so it loses nothing.

mod log;

use std::fmt::{self, Display, Formatter};

use super::ast::{
    Binary, BinaryOp, CompareOp, Expr, GroupSide, Grouping, LogRange, MetricExpr, RangeAggregation,
    RangeInput, RangeOp, VectorAggregation, VectorMatching, VectorOp,
};
use super::parse::{format_duration, quote};

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

/// Whether the left and the right side of a binary operation need parentheses.
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

/// Whether the expression of a subquery needs parentheses.
pub(super) fn subquery_parentheses(expr: &MetricExpr) -> bool {
    matches!(expr, MetricExpr::Binary(_) | MetricExpr::Number(_))
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
        match self {
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
                    write!(f, ", {}", quote(text))?;
                }
                f.write_str(")")
            }
            MetricExpr::ToVector(value) => write!(f, "vector({})", Number(*value)),
            MetricExpr::Number(value) => Number(*value).fmt(f),
        }
    }
}

/// A number; those that have no literal are written as the operation that gives them.
pub(super) struct Number(pub(super) f64);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("(0 / 0)"),
            f64::INFINITY => f.write_str("(1e308 * 10)"),
            f64::NEG_INFINITY => f.write_str("(-1e308 * 10)"),
            value => write!(f, "{value}"),
        }
    }
}

/// `(expr)` when `parentheses`, otherwise `expr`.
struct Wrapped<'a> {
    expr: &'a MetricExpr,
    parentheses: bool,
}

impl Display for Wrapped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.parentheses {
            write!(f, "({})", self.expr)
        } else {
            self.expr.fmt(f)
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (left, right) = parentheses(self);
        let lhs = Wrapped {
            expr: &self.lhs,
            parentheses: left,
        };
        let rhs = Wrapped {
            expr: &self.rhs,
            parentheses: right,
        };
        write!(f, "{lhs} {} {rhs}", Operator(self))
    }
}

/// A binary operator with its modifiers: `> bool on (a) group_left (b)`.
pub(super) struct Operator<'a>(pub(super) &'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(binary_op_name(self.0.op))?;
        if self.0.returns_bool {
            f.write_str(" bool")?;
        }
        match &self.0.matching {
            Some(matching) => write!(f, " {matching}"),
            None => Ok(()),
        }
    }
}

impl Display for VectorMatching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.on { "on" } else { "ignoring" };
        write!(f, "{word} ({})", self.labels.join(", "))?;
        match &self.group {
            Some(GroupSide::Left(include)) => write!(f, " group_left ({})", include.join(", ")),
            Some(GroupSide::Right(include)) => write!(f, " group_right ({})", include.join(", ")),
            None => Ok(()),
        }
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.without { "without" } else { "by" };
        write!(f, "{word} ({})", self.labels.join(", "))
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", range_op_name(self.op))?;
        if let Some(param) = self.param {
            write!(f, "{}, ", Number(param))?;
        }
        write!(f, "{})", self.over)?;
        match &self.grouping {
            Some(grouping) => write!(f, " {grouping}"),
            None => Ok(()),
        }
    }
}

impl Display for RangeInput {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            RangeInput::Logs(logs) => logs.fmt(f),
            RangeInput::Subquery { expr, .. } => {
                let parentheses = subquery_parentheses(expr);
                write!(f, "{}{}", Wrapped { expr, parentheses }, Window(self))
            }
        }
    }
}

/// The brackets of a range: `[5m] offset 1h` or `[5m:1m]`.
pub(super) struct Window<'a>(pub(super) &'a RangeInput);

impl Display for Window<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let offset = match self.0 {
            RangeInput::Logs(logs) => {
                write!(f, "[{}]", format_duration(logs.range))?;
                logs.offset
            }
            RangeInput::Subquery {
                range,
                step,
                offset,
                ..
            } => {
                let step = step.map(format_duration).unwrap_or_default();
                write!(f, "[{}:{step}]", format_duration(*range))?;
                *offset
            }
        };
        if offset != 0 {
            write!(f, " offset {}", format_duration(offset))?;
        }
        Ok(())
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        if !self.log.stages.is_empty() || self.unwrap.is_some() {
            f.write_str(" ")?;
        }
        write!(f, "[{}]", format_duration(self.range))?;
        if self.offset != 0 {
            write!(f, " offset {}", format_duration(self.offset))?;
        }
        Ok(())
    }
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(vector_op_name(&self.op))?;
        if let Some(grouping) = &self.grouping {
            write!(f, " {grouping} ")?;
        }
        write!(f, "({}{})", VectorParam(&self.op), self.expr)
    }
}

/// What stands before the expression of a vector aggregation: `5, ` or `"label", `.
pub(super) struct VectorParam<'a>(pub(super) &'a VectorOp);

impl Display for VectorParam<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            VectorOp::TopK(k) | VectorOp::BottomK(k) | VectorOp::ApproxTopK(k) => {
                write!(f, "{k}, ")
            }
            VectorOp::CountValues(label) => write!(f, "{}, ", quote(label)),
            _ => Ok(()),
        }
    }
}
