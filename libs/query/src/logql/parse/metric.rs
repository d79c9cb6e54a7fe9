//! Numeric expressions.

use super::super::ast::{
    Binary, BinaryOp, CompareOp, Expr, GroupSide, Grouping, MetricExpr, RangeAggregation,
    RangeInput, RangeOp, VectorAggregation, VectorMatching, VectorOp,
};
use super::super::print::{RANGE_OPS, binary_op_name};
use super::super::regex;
use super::filter::comparison;
use super::token::Kind;
use super::{HEIGHT_MAX, ParseError, Parser, check};

/// An expression and its height.
type Tall<E> = (E, usize);

impl Parser<'_> {
    /// A query of either kind.
    pub(super) fn expr(&mut self) -> Result<Expr, ParseError> {
        Ok(self.expr_above(0, true)?.0)
    }

    /// Binary operators that bind tighter than `above`, by precedence climbing. With `logs` a leg
    /// may be a log query, which then is an error of meaning, not of syntax.
    fn expr_above(&mut self, above: u8, logs: bool) -> Result<Tall<Expr>, ParseError> {
        let mut left = self.operand(logs)?;
        while let Some((op, binds)) = binary_op(self.kind()).filter(|(_, binds)| *binds > above) {
            self.advance();
            left = self.binary(left, op, binds, logs)?;
        }
        Ok(left)
    }

    /// What follows the operator, and both together.
    fn binary(
        &mut self,
        left: Tall<Expr>,
        op: BinaryOp,
        binds: u8,
        logs: bool,
    ) -> Result<Tall<Expr>, ParseError> {
        let (returns_bool, matching) = self.modifiers()?;
        // `^` takes what follows first: a ^ b ^ c is a ^ (b ^ c).
        let above = if op == BinaryOp::Pow {
            binds - 1
        } else {
            binds
        };
        let right = self.nested(|parser| parser.expr_above(above, logs))?;
        let height = left.1.max(right.1) + 1;
        if height > HEIGHT_MAX {
            return Err(self.too_deep(HEIGHT_MAX));
        }
        let lhs = self.leg(left.0, op, "left");
        let rhs = self.leg(right.0, op, "right");
        let binary = Binary {
            lhs,
            op,
            returns_bool,
            matching,
            rhs,
        };
        Ok((Expr::Metric(self.folded(binary)), height))
    }

    /// A numeric expression where no log query may stand.
    pub(super) fn metric(&mut self) -> Result<Tall<MetricExpr>, ParseError> {
        match self.nested(|parser| parser.expr_above(0, true))? {
            (Expr::Metric(metric), height) => Ok((metric, height)),
            // Loki too finds it wrong behind the log query only.
            (Expr::Log(_), _) => Err(self.unexpected(&[])),
        }
    }

    /// The end of an expression in parentheses, where many other things could stand.
    fn close(&mut self) -> Result<(), ParseError> {
        match self.take(")") {
            true => Ok(()),
            false => Err(self.unexpected(&[])),
        }
    }

    fn leg(&mut self, expr: Expr, op: BinaryOp, side: &str) -> MetricExpr {
        let of = binary_op_name(op);
        match expr {
            Expr::Metric(MetricExpr::Number(value)) if is_set_op(op) => {
                self.note(format!(
                    "unexpected literal for {side} leg of logical/set binary operation ({of}): {value:.6}"
                ));
                MetricExpr::Number(value)
            }
            Expr::Metric(metric) => metric,
            Expr::Log(log) => {
                let kind = if log.stages.is_empty() {
                    "MatchersExpr"
                } else {
                    "PipelineExpr"
                };
                self.note(format!(
                    "unexpected type for {side} leg of binary operation ({of}): *syntax.{kind}"
                ));
                MetricExpr::Number(0.0)
            }
        }
    }

    /// Two numbers make a number; comparisons give 1 or 0.
    fn folded(&self, binary: Binary) -> MetricExpr {
        match (&binary.lhs, &binary.rhs) {
            (MetricExpr::Number(a), MetricExpr::Number(b)) if !is_set_op(binary.op) => {
                MetricExpr::Number(fold(binary.op, *a, *b))
            }
            _ => MetricExpr::Binary(Box::new(binary)),
        }
    }

    /// `bool on (a) group_left (b)`, all optional.
    fn modifiers(&mut self) -> Result<(bool, Option<VectorMatching>), ParseError> {
        let returns_bool = self.take("bool");
        let on = self.is("on");
        if !on && !self.is("ignoring") {
            return Ok((returns_bool, None));
        }
        self.advance();
        self.expect("(")?;
        let labels = self.names_until_parenthesis()?;
        let left = self.is("group_left");
        let group = if left || self.is("group_right") {
            self.advance();
            // Without parentheses nothing is taken over. As in Loki `(` never starts the right side.
            let include = match self.take("(") {
                true => self.names_until_parenthesis()?,
                false => Vec::new(),
            };
            Some(if left {
                GroupSide::Left(include)
            } else {
                GroupSide::Right(include)
            })
        } else {
            None
        };
        // Ignoring nothing is what happens without it.
        let matters = on || !labels.is_empty() || group.is_some();
        let matching = VectorMatching { on, labels, group };
        Ok((returns_bool, matters.then_some(matching)))
    }

    /// Kept apart from [`Parser::metric_operand`], because parentheses within parentheses should
    /// take little of the stack.
    fn operand(&mut self, logs: bool) -> Result<Tall<Expr>, ParseError> {
        match *self.kind() {
            Kind::Word("(") => {
                self.advance();
                self.nested(|parser| {
                    let inner = parser.expr_above(0, logs)?;
                    parser.close()?;
                    Ok(inner)
                })
            }
            Kind::Word("{") if logs => Ok((Expr::Log(self.log_expr()?), 1)),
            _ => self.metric_operand(),
        }
    }

    fn metric_operand(&mut self) -> Result<Tall<Expr>, ParseError> {
        let metric = match *self.kind() {
            Kind::Number(_) | Kind::Word("+" | "-") => (MetricExpr::Number(self.number()?), 1),
            Kind::Function("label_replace") => self.label_replace()?,
            Kind::Function(name) => self.call(name)?,
            _ => return Err(self.unexpected(&[])),
        };
        if metric.1 > HEIGHT_MAX {
            return Err(self.too_deep(HEIGHT_MAX));
        }
        Ok((Expr::Metric(metric.0), metric.1))
    }

    /// `5`, `+5` or `-5`
    fn number(&mut self) -> Result<f64, ParseError> {
        let negative = self.take("-");
        if !negative {
            self.take("+");
        }
        match *self.kind() {
            Kind::Number(value) => {
                self.advance();
                Ok(if negative { -value } else { value })
            }
            _ => Err(self.unexpected(&["NUMBER"])),
        }
    }

    fn call(&mut self, name: &'static str) -> Result<Tall<MetricExpr>, ParseError> {
        if name == "vector" {
            self.advance();
            self.expect("(")?;
            // Without a sign.
            let Kind::Number(value) = *self.kind() else {
                return Err(self.unexpected(&["NUMBER"]));
            };
            self.advance();
            self.expect(")")?;
            return Ok((MetricExpr::ToVector(value), 1));
        }
        if let Some((op, _)) = RANGE_OPS.iter().find(|(_, known)| *known == name) {
            self.advance();
            return self.range_aggregation(*op, name);
        }
        if matches!(name, "bytes" | "duration" | "duration_seconds" | "ip") {
            return Err(self.unexpected(&[]));
        }
        self.advance();
        self.vector_aggregation(name)
    }

    fn range_aggregation(
        &mut self,
        op: RangeOp,
        name: &str,
    ) -> Result<Tall<MetricExpr>, ParseError> {
        self.expect("(")?;
        let mut param = None;
        if let Kind::Number(value) = *self.kind()
            && self.token_after(1).kind == Kind::Word(",")
        {
            if op != RangeOp::Quantile {
                let raw = self.raw();
                self.note(format!(
                    "parameter {raw} not supported for operation {name}"
                ));
            }
            self.at += 2;
            param = Some(value);
        }
        if op == RangeOp::Quantile && param.is_none() {
            self.note(format!("parameter required for operation {name}"));
        }
        let (over, height) = self.range_input(op, param.is_some())?;
        self.expect(")")?;
        let grouping = self.grouping()?;
        if let Err(message) = check::range_aggregation(op, &over, grouping.is_some()) {
            self.note(message);
        }
        let aggregation = RangeAggregation {
            op,
            param,
            over,
            grouping,
        };
        Ok((MetricExpr::Range(aggregation), height + 1))
    }

    fn range_input(
        &mut self,
        op: RangeOp,
        after_param: bool,
    ) -> Result<Tall<RangeInput>, ParseError> {
        if self.log_range_follows() {
            let reads_lines = matches!(op, RangeOp::Bytes | RangeOp::BytesRate);
            return Ok((RangeInput::Logs(self.log_range(reads_lines)?), 1));
        }
        let all = ["NUMBER", "{", "("];
        let expecting = if after_param { &all[1..] } else { &all[..] };
        if matches!(self.kind(), Kind::Number(_)) && !after_param {
            self.advance();
            return Err(self.unexpected(&[","]));
        }
        if !matches!(self.kind(), Kind::Function(_) | Kind::Word("(")) {
            return Err(self.unexpected(expecting));
        }
        // Loki has no subqueries: without one, it is the expression that must not stand here.
        let refusal = self.refusal_inside(expecting);
        let (inner, height) = self.nested(|parser| parser.operand(false))?;
        let (Expr::Metric(expr), &Kind::Subquery { range, step, .. }) = (inner, self.kind()) else {
            return Err(refusal);
        };
        self.advance();
        let offset = self.offset()?;
        if range <= 0 || step.is_some_and(|step| step <= 0) {
            self.note("invalid subquery: range and step must be greater than 0");
        }
        let subquery = RangeInput::Subquery {
            expr: Box::new(expr),
            range,
            step,
            offset,
        };
        Ok((subquery, height))
    }

    /// What is wrong with a range aggregation of this expression: the first word that is no parenthesis before it.
    fn refusal_inside(&self, expecting: &[&str]) -> ParseError {
        let mut ahead = 0;
        while self.token_after(ahead).kind == Kind::Word("(") {
            ahead += 1;
        }
        match (ahead, &self.token_after(ahead).kind) {
            (0, _) | (_, Kind::Word("{")) => self.unexpected(expecting),
            _ => self.unexpected_token(self.token_after(ahead), &["{", "("]),
        }
    }

    /// `by (a)` or `without (a)`, if it comes next.
    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let without = self.is("without");
        if !without && !self.is("by") {
            return Ok(None);
        }
        self.advance();
        self.expect("(")?;
        let labels = self.names_until_parenthesis()?;
        Ok(Some(Grouping { without, labels }))
    }

    fn vector_aggregation(&mut self, name: &'static str) -> Result<Tall<MetricExpr>, ParseError> {
        let before = self.grouping()?;
        self.expect("(")?;
        let op = self.vector_op(name)?;
        let (expr, height) = self.metric()?;
        self.close()?;
        let grouping = match before {
            Some(grouping) => Some(grouping),
            None => self.grouping()?,
        };
        let grouped = grouping.as_ref().is_some_and(|g| !g.labels.is_empty());
        match op {
            VectorOp::Sort | VectorOp::SortDesc if grouped => {
                self.note("sort and sort_desc doesn't allow grouping by ");
            }
            VectorOp::ApproxTopK(_) if grouping.is_some() => {
                self.note("grouping not allowed for approx_topk aggregation");
            }
            _ => {}
        }
        let aggregation = VectorAggregation {
            op,
            expr: Box::new(expr),
            // Without a grouping all is one group.
            grouping: grouping.filter(|g| g.without || !g.labels.is_empty()),
        };
        Ok((MetricExpr::Vector(aggregation), height + 1))
    }

    /// The operator with its parameter, which stands before the expression.
    fn vector_op(&mut self, name: &'static str) -> Result<VectorOp, ParseError> {
        let has_param =
            matches!(self.kind(), Kind::Number(_)) && self.token_after(1).kind == Kind::Word(",");
        let raw = self.raw();
        if has_param {
            self.at += 2;
        }
        let plain = match name {
            "sum" => VectorOp::Sum,
            "avg" => VectorOp::Avg,
            "count" => VectorOp::Count,
            "max" => VectorOp::Max,
            "min" => VectorOp::Min,
            "stddev" => VectorOp::Stddev,
            "stdvar" => VectorOp::Stdvar,
            "sort" => VectorOp::Sort,
            "sort_desc" => VectorOp::SortDesc,
            "count_values" => {
                let label = self.string(&["STRING"])?;
                self.expect(",")?;
                if !model::is_valid_label_name(&label) {
                    self.note(format!("invalid label name in count_values: {label}"));
                }
                return Ok(VectorOp::CountValues(label));
            }
            _ => {
                let k = self.count_param(name, has_param.then_some(raw));
                return Ok(match name {
                    "topk" => VectorOp::TopK(k),
                    "bottomk" => VectorOp::BottomK(k),
                    _ => VectorOp::ApproxTopK(k),
                });
            }
        };
        if has_param {
            self.note(format!("unsupported parameter for operation {name}({raw},"));
        }
        Ok(plain)
    }

    fn count_param(&mut self, name: &str, raw: Option<&str>) -> i64 {
        let Some(raw) = raw else {
            self.note(format!("parameter required for operation {name}"));
            return 1;
        };
        match raw.parse::<i64>() {
            Ok(k) if k > 0 => k,
            Ok(_) => {
                let problem = "invalid parameter (must be greater than 0)";
                self.note(format!("{problem} {name}({raw}"));
                1
            }
            Err(_) => {
                self.note(format!("invalid parameter {name}({raw},"));
                1
            }
        }
    }

    fn label_replace(&mut self) -> Result<Tall<MetricExpr>, ParseError> {
        self.advance();
        self.expect("(")?;
        let (expr, height) = self.metric()?;
        let mut texts = Vec::with_capacity(4);
        for at in 0..4 {
            if at == 0 && !self.is(",") {
                return Err(self.unexpected(&[]));
            }
            self.expect(",")?;
            texts.push(self.string(&["STRING"])?);
        }
        self.expect(")")?;
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap_or_default();
        let (dst, replacement, src, regex) = (text(), text(), text(), text());
        if !self.may_compile(1) {
            // There is an error already.
        } else if let Err(error) = regex::compile_whole(&regex) {
            self.note(format!("invalid regex in label_replace: {error}"));
        }
        let replace = MetricExpr::LabelReplace {
            expr: Box::new(expr),
            dst,
            replacement,
            src,
            regex,
        };
        Ok((replace, height + 1))
    }
}

/// The binary operator that the token is, and how tightly it binds.
fn binary_op(kind: &Kind) -> Option<(BinaryOp, u8)> {
    if let Some(op) = comparison(kind) {
        return Some((BinaryOp::Compare(op), 3));
    }
    Some(match kind {
        Kind::Word("or") => (BinaryOp::Or, 1),
        Kind::Word("and") => (BinaryOp::And, 2),
        Kind::Word("unless") => (BinaryOp::Unless, 2),
        Kind::Word("+") => (BinaryOp::Add, 4),
        Kind::Word("-") => (BinaryOp::Sub, 4),
        Kind::Word("*") => (BinaryOp::Mul, 5),
        Kind::Word("/") => (BinaryOp::Div, 5),
        Kind::Word("%") => (BinaryOp::Mod, 5),
        Kind::Word("^") => (BinaryOp::Pow, 6),
        _ => return None,
    })
}

fn is_set_op(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
}

fn fold(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        // Not infinite: so it is for vectors too.
        BinaryOp::Div | BinaryOp::Mod if b == 0.0 => f64::NAN,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Compare(op) => f64::from(u8::from(match op {
            CompareOp::Equal => a == b,
            CompareOp::NotEqual => a != b,
            CompareOp::Greater => a > b,
            CompareOp::GreaterOrEqual => a >= b,
            CompareOp::Less => a < b,
            CompareOp::LessOrEqual => a <= b,
        })),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}
