//! The parsers that a query would use over a line.

use std::sync::Arc;

use model::{Labels, Timestamp};
use query::logql::pipeline::{LabelNeed, Pipeline, RowLabels, Runner};

use super::field::Parser;

/// A worker's parsers.
pub(super) struct Parsers {
    json: Runner,
    logfmt: Runner,
}

impl Parsers {
    pub(super) fn new(json: &Pipeline, logfmt: &Pipeline) -> Self {
        Parsers {
            json: json.runner(&LabelNeed::All),
            logfmt: logfmt.runner(&LabelNeed::All),
        }
    }

    /// Lines of a stream with these labels follow.
    pub(super) fn stream(&mut self, labels: &Arc<Labels>) {
        self.json.stream(labels);
        self.logfmt.stream(labels);
    }

    /// What the parser that fits makes of a line; `None` when it makes nothing.
    pub(super) fn parse<'a>(
        &'a mut self,
        at: Timestamp,
        line: &'a [u8],
    ) -> Option<(Parser, RowLabels<'a>)> {
        let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
        let json = match first {
            Some(b'{') => self.json.run(at, line, &[]),
            _ => None,
        };
        let json = json.map(|output| output.labels);
        let (parser, labels) = match json.filter(|labels| !labels.has_error()) {
            Some(labels) => (Parser::Json, labels),
            // Keys without a value make no labels.
            None if memchr::memchr(b'=', line).is_none() => return None,
            None => (Parser::Logfmt, self.logfmt.run(at, line, &[])?.labels),
        };
        let made = !labels.has_error() && labels.parsed().next().is_some();
        made.then_some((parser, labels))
    }
}
