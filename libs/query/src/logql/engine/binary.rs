//! Binary operations between numbers and series.

use super::super::ast::{Binary, BinaryOp, CompareOp};
use super::EngineError;
use super::matching;
use super::series::{Operand, Row};

/// Applies a binary operation to two evaluated sides.
pub(super) fn apply(
    binary: &Binary,
    lhs: Operand,
    rhs: Operand,
    steps: usize,
) -> Result<Operand, EngineError> {
    let op = binary.op;
    match (lhs, rhs) {
        (Operand::Scalar(a), Operand::Scalar(b)) => scalars(op, a, b).map(Operand::Scalar),
        (Operand::Rows(rows), Operand::Scalar(b)) => {
            let value = |x: f64| with_number(binary, x, x, b);
            numbers(op, rows, value)
        }
        (Operand::Scalar(a), Operand::Rows(rows)) => {
            let value = |x: f64| with_number(binary, x, a, x);
            numbers(op, rows, value)
        }
        (Operand::Rows(lhs), Operand::Rows(rhs)) => {
            let rows = match op {
                BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                    matching::set_operation(op, binary.matching.as_ref(), lhs, rhs, steps)
                }
                _ => matching::join(binary, lhs, rhs, steps)?,
            };
            Ok(Operand::Rows(rows))
        }
    }
}

/// What `lhs op rhs` gives for two samples: the result, or `None` when a comparison filters the
/// sample out. `kept` is what a filtering comparison lets through.
pub(super) fn sample(binary: &Binary, kept: f64, lhs: f64, rhs: f64) -> Option<f64> {
    match binary.op {
        BinaryOp::Compare(op) => match (compare(op, lhs, rhs), binary.returns_bool) {
            (holds, true) => Some(f64::from(u8::from(holds))),
            (true, false) => Some(kept),
            (false, false) => None,
        },
        op => Some(arithmetic(op, lhs, rhs)),
    }
}

fn with_number(binary: &Binary, kept: f64, lhs: f64, rhs: f64) -> Option<f64> {
    sample(binary, kept, lhs, rhs)
}

fn numbers(
    op: BinaryOp,
    mut rows: Vec<Row>,
    value: impl Fn(f64) -> Option<f64>,
) -> Result<Operand, EngineError> {
    refuse_set_operator(op)?;
    for row in &mut rows {
        row.points.update(|_, x| value(x));
    }
    rows.retain(|row| !row.points.is_empty());
    Ok(Operand::Rows(rows))
}

fn scalars(op: BinaryOp, a: f64, b: f64) -> Result<f64, EngineError> {
    refuse_set_operator(op)?;
    Ok(match op {
        BinaryOp::Compare(op) => f64::from(u8::from(compare(op, a, b))),
        op => arithmetic(op, a, b),
    })
}

fn refuse_set_operator(op: BinaryOp) -> Result<(), EngineError> {
    match op {
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => Err(EngineError::Invalid(
            "set operators (and, or, unless) need a vector on both sides, not a number".into(),
        )),
        _ => Ok(()),
    }
}

fn compare(op: CompareOp, a: f64, b: f64) -> bool {
    match op {
        CompareOp::Equal => a == b,
        CompareOp::NotEqual => a != b,
        CompareOp::Greater => a > b,
        CompareOp::GreaterOrEqual => a >= b,
        CompareOp::Less => a < b,
        CompareOp::LessOrEqual => a <= b,
    }
}

/// Division and remainder by zero give NaN, as in Loki (Prometheus gives infinity).
fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div | BinaryOp::Mod if b == 0.0 => f64::NAN,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => power(a, b),
        BinaryOp::Compare(_) | BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}

fn power(a: f64, b: f64) -> f64 {
    a.powf(b)
}
