//! Selectors, pipelines and the ranges of log entries.

use model::MatchOp;

use super::super::ast::{
    Conversion, LineFilter, LineFilterOp, LineFilterValue, LogExpr, LogRange, Matcher, Stage,
    Unwrap,
};
use super::super::pipeline::idle_formats;
use super::token::Kind;
use super::{ParseError, Parser, check};

/// What a log range is made of, while its parts may still come in either order.
pub(super) struct RangeParts {
    log: LogExpr,
    unwrap: Option<Unwrap>,
    /// Range and offset.
    range: Option<(i64, i64)>,
}

impl Parser<'_> {
    /// Whether the text is `{}` and nothing else.
    pub(super) fn is_empty_selector(&self) -> bool {
        let word = |count: usize, word| matches!(&self.token_after(count).kind, Kind::Word(w) if *w == word);
        word(0, "{") && word(1, "}") && self.token_after(2).kind == Kind::End
    }

    /// `{a="b"}`
    pub(super) fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        if !self.take("}") {
            matchers.push(self.matcher(&["IDENTIFIER", "}"])?);
            while !self.take("}") {
                if !self.take(",") {
                    return Err(self.unexpected(&["}", ","]));
                }
                matchers.push(self.matcher(&["IDENTIFIER"])?);
            }
        }
        if self.meaning.is_none()
            && let Err(message) = check::selector(&matchers)
        {
            self.note(message);
        }
        Ok(matchers)
    }

    fn matcher(&mut self, expecting: &[&str]) -> Result<Matcher, ParseError> {
        let name = self.identifier(expecting)?;
        let Some(op) = self.match_op() else {
            return Err(self.unexpected(&["=", "=~", "!~", "!="]));
        };
        self.advance();
        let value = self.string(&["STRING"])?;
        let matcher = Matcher { name, op, value };
        self.check_matcher(&matcher)?;
        Ok(matcher)
    }

    /// The matching operator that comes next.
    pub(super) fn match_op(&self) -> Option<MatchOp> {
        match self.kind() {
            Kind::Word("=") => Some(MatchOp::Equal),
            Kind::Word("!=") => Some(MatchOp::NotEqual),
            Kind::Word("=~") => Some(MatchOp::Regex),
            Kind::Word("!~") => Some(MatchOp::NotRegex),
            _ => None,
        }
    }

    /// `{...} | stages`
    pub(super) fn log_expr(&mut self) -> Result<LogExpr, ParseError> {
        let selector = self.selector()?;
        let mut stages = Vec::new();
        while self.stage(&mut stages)? {}
        self.check_line_formats(&stages);
        self.check_ordering(&stages);
        Ok(LogExpr { selector, stages })
    }

    /// Adds the next stage, unless the pipeline ends.
    fn stage(&mut self, stages: &mut Vec<Stage>) -> Result<bool, ParseError> {
        let from = stages.len();
        if let Some(op) = self.line_filter_op() {
            self.advance();
            self.line_filter(op, stages)?;
        } else if self.take("|") {
            stages.push(self.named_stage()?);
        } else {
            return Ok(false);
        }
        for stage in &stages[from..] {
            self.check_stage(stage)?;
        }
        Ok(true)
    }

    fn line_filter_op(&self) -> Option<LineFilterOp> {
        match self.kind() {
            Kind::Word("|=") => Some(LineFilterOp::Contains),
            Kind::Word("!=") => Some(LineFilterOp::NotContains),
            Kind::Word("|~") => Some(LineFilterOp::Matches),
            Kind::Word("!~") => Some(LineFilterOp::NotMatches),
            Kind::Word("|>") => Some(LineFilterOp::Pattern),
            Kind::Word("!>") => Some(LineFilterOp::NotPattern),
            _ => None,
        }
    }

    /// `"a" or ip("b") or ...`. None of several is one after the other.
    fn line_filter(&mut self, op: LineFilterOp, stages: &mut Vec<Stage>) -> Result<(), ParseError> {
        let mut any = vec![self.line_filter_value()?];
        while self.take("or") {
            any.push(self.line_filter_value()?);
        }
        let filter = |any| Stage::LineFilter(LineFilter { op, any });
        if op.is_negative() {
            stages.extend(any.into_iter().map(|value| filter(vec![value])));
        } else {
            stages.push(filter(any));
        }
        Ok(())
    }

    fn line_filter_value(&mut self) -> Result<LineFilterValue, ParseError> {
        if *self.kind() != Kind::Function("ip") {
            let text = self.string(&["STRING", "ip"])?;
            return Ok(LineFilterValue::Text(text));
        }
        Ok(LineFilterValue::Ip(self.ip()?))
    }

    /// `ip("...")`
    pub(super) fn ip(&mut self) -> Result<String, ParseError> {
        self.advance();
        self.expect("(")?;
        let pattern = self.string(&["STRING"])?;
        self.expect(")")?;
        Ok(pattern)
    }

    /// Whether a log range starts here: `{` behind any number of `(`.
    pub(super) fn log_range_follows(&self) -> bool {
        let mut count = 0;
        while self.token_after(count).kind == Kind::Word("(") {
            count += 1;
        }
        self.token_after(count).kind == Kind::Word("{")
    }

    /// A log range in any of its orders. `reads_lines`: the aggregation looks at the lines.
    pub(super) fn log_range(&mut self, reads_lines: bool) -> Result<LogRange, ParseError> {
        let parts = self.log_range_parts(false)?;
        let Some((range, offset)) = parts.range else {
            return Err(match parts.unwrap {
                Some(_) => self.unexpected(&["RANGE", "|"]),
                None => self.unexpected(&[]),
            });
        };
        let stages = &parts.log.stages;
        let read = if reads_lines {
            stages.len()
        } else {
            idle_formats(stages)
        };
        self.check_line_formats(&stages[..read]);
        self.refuse_ordering(stages);
        Ok(LogRange {
            log: parts.log,
            unwrap: parts.unwrap,
            range,
            offset,
        })
    }

    /// `inside` of parentheses, which may close before the range.
    fn log_range_parts(&mut self, inside: bool) -> Result<RangeParts, ParseError> {
        let in_parentheses = self.take("(");
        let mut parts = if in_parentheses {
            self.nested(|parser| {
                let parts = parser.log_range_parts(true)?;
                if parts.range.is_none() && parts.unwrap.is_none() && !parser.is(")") {
                    return Err(parser.unexpected(&[]));
                }
                parser.expect(")")?;
                Ok(parts)
            })?
        } else {
            let selector = self.selector()?;
            let stages = Vec::new();
            RangeParts {
                log: LogExpr { selector, stages },
                unwrap: None,
                range: None,
            }
        };
        if in_parentheses {
            if parts.range.is_some() {
                return Ok(parts);
            }
            // Only an `unwrap` may stand behind the range.
            let bare = parts.log.stages.is_empty() && parts.unwrap.is_none();
            if !self.range(&mut parts)? {
                return Err(self.unexpected(&["RANGE"]));
            }
            if bare && self.unwrap_follows() {
                self.rest_of_range(&mut parts)?;
            } else if bare && self.take("|") {
                return Err(self.unexpected(&["unwrap"]));
            }
            return Ok(parts);
        }
        let early = self.range(&mut parts)?;
        self.rest_of_range(&mut parts)?;
        if !early && !self.range(&mut parts)? && parts.unwrap.is_some() && !self.is(")") {
            let expecting: &[&str] = match inside {
                true => &["RANGE", ")", "|"],
                false => &["RANGE", "|"],
            };
            return Err(self.unexpected(expecting));
        }
        Ok(parts)
    }

    /// `[5m] offset 1m`, if it comes next.
    fn range(&mut self, parts: &mut RangeParts) -> Result<bool, ParseError> {
        if let Kind::Subquery { refusal, .. } = self.kind() {
            return Err(self.error_here(refusal.clone()));
        }
        let Kind::Range(range) = *self.kind() else {
            return Ok(false);
        };
        self.advance();
        let offset = self.offset()?;
        parts.range = Some((range, offset));
        Ok(true)
    }

    fn unwrap_follows(&self) -> bool {
        self.is("|") && self.token_after(1).kind == Kind::Word("unwrap")
    }

    /// Stages, and `unwrap` with the conditions behind it.
    fn rest_of_range(&mut self, parts: &mut RangeParts) -> Result<(), ParseError> {
        loop {
            if let Some(unwrap) = &mut parts.unwrap {
                if !self.take("|") {
                    return Ok(());
                }
                unwrap.filters.push(self.label_filter(true)?);
            } else if self.unwrap_follows() {
                self.at += 2;
                parts.unwrap = Some(self.unwrap()?);
            } else if !self.stage(&mut parts.log.stages)? {
                return Ok(());
            }
        }
    }

    /// `offset 5m`, in nanoseconds; 0 without one.
    pub(super) fn offset(&mut self) -> Result<i64, ParseError> {
        if !self.take("offset") {
            return Ok(0);
        }
        match *self.kind() {
            Kind::Duration(nanos) => {
                self.advance();
                Ok(nanos)
            }
            _ => Err(self.unexpected(&["DURATION"])),
        }
    }

    /// `duration(label)` or `label`
    fn unwrap(&mut self) -> Result<Unwrap, ParseError> {
        let conversion = match self.kind() {
            Kind::Function("bytes") => Conversion::Bytes,
            Kind::Function("duration") => Conversion::Duration,
            Kind::Function("duration_seconds") => Conversion::DurationSeconds,
            _ => {
                let names = [
                    "IDENTIFIER",
                    "BYTES_CONV",
                    "DURATION_CONV",
                    "DURATION_SECONDS_CONV",
                ];
                return Ok(Unwrap {
                    label: self.identifier(&names)?,
                    conversion: Conversion::Number,
                    filters: Vec::new(),
                });
            }
        };
        self.advance();
        self.expect("(")?;
        let label = self.identifier(&["IDENTIFIER"])?;
        self.expect(")")?;
        Ok(Unwrap {
            label,
            conversion,
            filters: Vec::new(),
        })
    }
}
