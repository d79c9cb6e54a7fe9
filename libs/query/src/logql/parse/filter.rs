//! Conditions on labels.

use model::MatchOp;

use super::super::ast::{CompareOp, LabelFilter, Matcher};
use super::token::Kind;
use super::{ParseError, Parser};

/// Greatest height of a condition: `a or b or c` has 3. All that walks one recurses so deep.
const FILTER_HEIGHT_MAX: usize = 2048;
/// Deepest nesting in a condition. As it is printed, each level has parentheses, and may be the
/// right side of another one.
const FILTER_NESTING_MAX: usize = 2 * FILTER_HEIGHT_MAX;

/// A condition and its height.
type Tall = (LabelFilter, usize);

impl Parser<'_> {
    /// A condition with all its `and`, `or` and commas. `only`: nothing else may stand here.
    pub(super) fn label_filter(&mut self, only: bool) -> Result<LabelFilter, ParseError> {
        let around = std::mem::take(&mut self.nesting);
        let filter = self.filter_above(0, only);
        self.nesting = around;
        Ok(filter?.0)
    }

    /// `and` (2) binds tighter than `or` (1). A comma, or nothing at all, between two conditions
    /// is an `and` that takes what stands directly before it and all that follows, as in Loki:
    /// `a or b, c or d` is `a or (b and (c or d))`. `only`: nothing else than a condition may stand
    /// here.
    fn filter_above(&mut self, above: u8, only: bool) -> Result<Tall, ParseError> {
        let mut left = self.filter_operand(only)?;
        loop {
            let (binds, together) = match self.kind() {
                Kind::Word("or") => (1, false),
                Kind::Word("and") => (2, false),
                Kind::Word(",") | Kind::Identifier | Kind::Word("(") => (3, true),
                _ => return Ok(left),
            };
            if binds <= above {
                return Ok(left);
            }
            if !together || self.is(",") {
                self.advance();
            }
            let above = if together { 0 } else { binds };
            let right = self.nested_below(FILTER_NESTING_MAX, |parser| {
                parser.filter_above(above, true)
            })?;
            let height = left.1.max(right.1) + 1;
            if height > FILTER_HEIGHT_MAX {
                return Err(self.too_deep(FILTER_HEIGHT_MAX));
            }
            let (left_side, right_side) = (Box::new(left.0), Box::new(right.0));
            left.0 = match binds {
                1 => LabelFilter::Or(left_side, right_side),
                _ => LabelFilter::And(left_side, right_side),
            };
            left.1 = height;
        }
    }

    fn filter_operand(&mut self, only: bool) -> Result<Tall, ParseError> {
        if self.take("(") {
            return self.nested_below(FILTER_NESTING_MAX, |parser| {
                let inner = parser.filter_above(0, true)?;
                if !parser.take(")") {
                    return Err(parser.unexpected(&[]));
                }
                Ok(inner)
            });
        }
        let expecting = if only { &["IDENTIFIER", "("][..] } else { &[] };
        let name = self.identifier(expecting)?;
        let match_op = self.match_op();
        let Some(op) = self.comparison() else {
            // `=~` or `!~`
            let Some(op) = match_op else {
                return Err(self.unexpected(&[]));
            };
            self.advance();
            let value = self.string(&["STRING"])?;
            let matcher = Matcher { name, op, value };
            self.check_matcher(&matcher)?;
            return Ok((LabelFilter::Text(matcher), 1));
        };
        self.advance();
        let textual = matches!(match_op, Some(MatchOp::Equal | MatchOp::NotEqual));
        let filter = match self.kind() {
            Kind::String(_) | Kind::Function("ip") if textual => {
                self.textual(name, op == CompareOp::NotEqual)?
            }
            _ => self.numeric(name, op)?,
        };
        Ok((filter, 1))
    }

    fn comparison(&self) -> Option<CompareOp> {
        match self.kind() {
            Kind::Word("=") => Some(CompareOp::Equal),
            other => comparison(other),
        }
    }

    fn textual(&mut self, name: String, negated: bool) -> Result<LabelFilter, ParseError> {
        if *self.kind() == Kind::Function("ip") {
            let pattern = self.ip()?;
            return Ok(LabelFilter::Ip {
                name,
                negated,
                pattern,
            });
        }
        let value = self.string(&[])?;
        let op = if negated {
            MatchOp::NotEqual
        } else {
            MatchOp::Equal
        };
        Ok(LabelFilter::Text(Matcher { name, op, value }))
    }

    fn numeric(&mut self, name: String, op: CompareOp) -> Result<LabelFilter, ParseError> {
        let negative = self.take("-");
        let signed = negative || self.take("+");
        let filter = match *self.kind() {
            // What is wrong with it was found by the lexer; here it ends the parse, as in Loki.
            Kind::Number(value) if value.is_nan() => {
                let wrong = self.meaning.take();
                return Err(wrong.unwrap_or_else(|| self.unexpected(&[])));
            }
            Kind::Number(value) => LabelFilter::Number {
                name,
                op,
                value: if negative { -value } else { value },
            },
            Kind::Duration(nanos) if !signed => LabelFilter::Duration { name, op, nanos },
            Kind::Bytes(bytes) if !signed => LabelFilter::Bytes { name, op, bytes },
            _ if signed => return Err(self.unexpected(&["NUMBER"])),
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        Ok(filter)
    }
}

/// The comparison that the token is, in numeric expressions too.
pub(super) fn comparison(kind: &Kind) -> Option<CompareOp> {
    match kind {
        Kind::Word("==") => Some(CompareOp::Equal),
        Kind::Word("!=") => Some(CompareOp::NotEqual),
        Kind::Word(">") => Some(CompareOp::Greater),
        Kind::Word(">=") => Some(CompareOp::GreaterOrEqual),
        Kind::Word("<") => Some(CompareOp::Less),
        Kind::Word("<=") => Some(CompareOp::LessOrEqual),
        _ => None,
    }
}
