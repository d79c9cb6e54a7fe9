//! Selectors and pipelines.

use std::fmt::{self, Display, Formatter};

use model::MatchOp;

use super::super::ast::{
    Conversion, Extraction, LabelChoice, LabelFilter, LabelFormat, LineFilter, LineFilterOp,
    LineFilterValue, LogExpr, Matcher, Stage, Unwrap,
};
use super::super::deep;
use super::super::parse::quote;
use super::super::regex::simplify::simplify;
use super::{Bytes, GoDuration, Plain, compare_op_name};

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        list(f, &self.selector, ", ")?;
        f.write_str("}")?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl Display for Matcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, self.op.as_str(), quote(&self.value))
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Stage::LineFilter(filter) => filter.fmt(f),
            Stage::Json(fields) => with_fields(f, "| json", fields),
            Stage::Logfmt {
                strict,
                keep_empty,
                fields,
            } => {
                f.write_str("| logfmt")?;
                if *strict {
                    f.write_str(" --strict")?;
                }
                if *keep_empty {
                    f.write_str(" --keep-empty")?;
                }
                with_fields(f, "", fields)
            }
            Stage::Regexp(text) => write!(f, "| regexp {}", quote(text)),
            Stage::Pattern(text) => write!(f, "| pattern {}", quote(text)),
            Stage::Unpack => f.write_str("| unpack"),
            Stage::LabelFilter(filter) => write!(f, "| {filter}"),
            Stage::LineFormat(text) => write!(f, "| line_format {}", quote(text)),
            Stage::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                list(f, formats, ",")
            }
            Stage::Decolorize => f.write_str("| decolorize"),
            Stage::Drop(labels) => {
                f.write_str("| drop ")?;
                list(f, labels, ",")
            }
            Stage::Keep(labels) => {
                f.write_str("| keep ")?;
                list(f, labels, ",")
            }
            Stage::Distinct(labels) => write!(f, "| distinct {}", labels.join(",")),
            Stage::Sort { by, descending } => {
                let direction = if *descending { " desc" } else { "" };
                write!(f, "| sort by ({}){direction}", by.join(", "))
            }
        }
    }
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.op {
            LineFilterOp::Contains => "|= ",
            LineFilterOp::NotContains => "!= ",
            LineFilterOp::Matches => "|~ ",
            LineFilterOp::NotMatches => "!~ ",
            LineFilterOp::Pattern => "|> ",
            LineFilterOp::NotPattern => "!> ",
        })?;
        list(f, &self.any, " or ")
    }
}

impl Display for LineFilterValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LineFilterValue::Text(text) => f.write_str(&quote(text)),
            LineFilterValue::Ip(pattern) => write!(f, "ip({})", quote(pattern)),
        }
    }
}

impl Display for Extraction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.label, quote(&self.path))
    }
}

impl Display for LabelFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LabelFormat::Rename { to, from } => write!(f, "{to}={from}"),
            LabelFormat::Template { to, template } => write!(f, "{to}={}", quote(template)),
        }
    }
}

impl Display for LabelChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LabelChoice::Name(name) => f.write_str(name),
            LabelChoice::Matcher(matcher) => matcher.fmt(f),
        }
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LabelFilter::Text(matcher) if is_run(matcher) => {
                write!(f, "{}=~`{}`", matcher.name, matcher.value)
            }
            LabelFilter::Text(matcher) => matcher.fmt(f),
            LabelFilter::Number { name, op, value } => {
                write!(f, "{name}{}{}", compare_op_name(*op), Plain(*value))
            }
            LabelFilter::Duration { name, op, nanos } => {
                write!(f, "{name}{}{}", compare_op_name(*op), GoDuration(*nanos))
            }
            LabelFilter::Bytes { name, op, bytes } => {
                write!(f, "{name}{}{}", compare_op_name(*op), Bytes(*bytes))
            }
            LabelFilter::Ip {
                name,
                negated,
                pattern,
            } => {
                let op = if *negated { "!=" } else { "=" };
                write!(f, "{name}{op}ip({})", quote(pattern))
            }
            LabelFilter::And(left, right) => deep(|| write!(f, "( {left} , {right} )")),
            LabelFilter::Or(left, right) => deep(|| write!(f, "( {left} or {right} )")),
        }
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Unwrapped(self).fmt(f)?;
        for filter in &self.filters {
            write!(f, " | {filter}")?;
        }
        Ok(())
    }
}

/// Whether the filter is a regular expression that has to be run, which Loki writes between
/// backticks where Go may read them so.
fn is_run(matcher: &Matcher) -> bool {
    let raw = |c: char| c == '\t' || !(c == '`' || c == '\u{feff}' || c < ' ' || c == '\u{7f}');
    matcher.op == MatchOp::Regex
        && matcher.value.chars().all(raw)
        && simplify(&matcher.value, true).is_none()
}

/// `| unwrap bytes(label)` without the conditions behind it.
pub(in super::super) struct Unwrapped<'a>(pub(in super::super) &'a Unwrap);

impl Display for Unwrapped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let label = &self.0.label;
        match self.0.conversion {
            Conversion::Number => write!(f, "| unwrap {label}"),
            Conversion::Bytes => write!(f, "| unwrap bytes({label})"),
            Conversion::Duration => write!(f, "| unwrap duration({label})"),
            Conversion::DurationSeconds => write!(f, "| unwrap duration_seconds({label})"),
        }
    }
}

fn with_fields(f: &mut Formatter<'_>, word: &str, fields: &[Extraction]) -> fmt::Result {
    f.write_str(word)?;
    if fields.is_empty() {
        return Ok(());
    }
    f.write_str(" ")?;
    list(f, fields, ",")
}

fn list<T: Display>(f: &mut Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}
