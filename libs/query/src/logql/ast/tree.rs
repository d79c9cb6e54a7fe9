//! What is usually derived, for the types that hold themselves: each level makes sure of the stack.

use super::{LabelFilter, MetricExpr};
use crate::logql::deep;

impl Clone for MetricExpr {
    fn clone(&self) -> Self {
        deep(|| match self {
            MetricExpr::Range(range) => MetricExpr::Range(range.clone()),
            MetricExpr::Vector(vector) => MetricExpr::Vector(vector.clone()),
            MetricExpr::Binary(binary) => MetricExpr::Binary(binary.clone()),
            MetricExpr::LabelReplace {
                expr,
                dst,
                replacement,
                src,
                regex,
            } => MetricExpr::LabelReplace {
                expr: expr.clone(),
                dst: dst.clone(),
                replacement: replacement.clone(),
                src: src.clone(),
                regex: regex.clone(),
            },
            MetricExpr::ToVector(value) => MetricExpr::ToVector(*value),
            MetricExpr::Number(value) => MetricExpr::Number(*value),
        })
    }
}

impl PartialEq for MetricExpr {
    fn eq(&self, other: &Self) -> bool {
        use MetricExpr::{Binary, LabelReplace, Number, Range, ToVector, Vector};
        deep(|| match (self, other) {
            (Range(a), Range(b)) => a == b,
            (Vector(a), Vector(b)) => a == b,
            (Binary(a), Binary(b)) => a == b,
            (
                LabelReplace {
                    expr,
                    dst,
                    replacement,
                    src,
                    regex,
                },
                LabelReplace {
                    expr: other_expr,
                    dst: other_dst,
                    replacement: other_replacement,
                    src: other_src,
                    regex: other_regex,
                },
            ) => {
                (dst, replacement, src, regex)
                    == (other_dst, other_replacement, other_src, other_regex)
                    && expr == other_expr
            }
            (ToVector(a), ToVector(b)) | (Number(a), Number(b)) => a == b,
            _ => false,
        })
    }
}

impl Clone for LabelFilter {
    fn clone(&self) -> Self {
        deep(|| match self {
            LabelFilter::Text(matcher) => LabelFilter::Text(matcher.clone()),
            LabelFilter::Number { name, op, value } => LabelFilter::Number {
                name: name.clone(),
                op: *op,
                value: *value,
            },
            LabelFilter::Duration { name, op, nanos } => LabelFilter::Duration {
                name: name.clone(),
                op: *op,
                nanos: *nanos,
            },
            LabelFilter::Bytes { name, op, bytes } => LabelFilter::Bytes {
                name: name.clone(),
                op: *op,
                bytes: *bytes,
            },
            LabelFilter::Ip {
                name,
                negated,
                pattern,
            } => LabelFilter::Ip {
                name: name.clone(),
                negated: *negated,
                pattern: pattern.clone(),
            },
            LabelFilter::And(a, b) => LabelFilter::And(a.clone(), b.clone()),
            LabelFilter::Or(a, b) => LabelFilter::Or(a.clone(), b.clone()),
        })
    }
}

impl PartialEq for LabelFilter {
    fn eq(&self, other: &Self) -> bool {
        use LabelFilter::{And, Bytes, Duration, Ip, Number, Or, Text};
        deep(|| match (self, other) {
            (Text(a), Text(b)) => a == b,
            (
                Number { name, op, value },
                Number {
                    name: n,
                    op: o,
                    value: v,
                },
            ) => (name, op, value) == (n, o, v),
            (
                Duration { name, op, nanos },
                Duration {
                    name: n,
                    op: o,
                    nanos: v,
                },
            ) => (name, op, nanos) == (n, o, v),
            (
                Bytes { name, op, bytes },
                Bytes {
                    name: n,
                    op: o,
                    bytes: v,
                },
            ) => (name, op, bytes) == (n, o, v),
            (
                Ip {
                    name,
                    negated,
                    pattern,
                },
                Ip {
                    name: n,
                    negated: not,
                    pattern: p,
                },
            ) => (name, negated, pattern) == (n, not, p),
            (And(a, b), And(c, d)) | (Or(a, b), Or(c, d)) => a == c && b == d,
            _ => false,
        })
    }
}
