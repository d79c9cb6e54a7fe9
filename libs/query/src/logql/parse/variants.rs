//! `variants(a, b) of ({selector}[5m])`.

use super::super::ast::Variants;
use super::{Kind, ParseError, Parser};

const VARIANTS: &str = "variants";
const OF: &str = "of";

/// Parses a query of several variants, which need not run; `None` when the text does not begin as one.
///
/// # Errors
/// [`ParseError`] in Loki's words.
pub fn parse_variants(text: &str) -> Option<Result<Variants, ParseError>> {
    let mut parser = match Parser::new(text) {
        Ok(parser) => parser,
        Err(error) => return Some(Err(error)),
    };
    if !parser.take_name(VARIANTS) {
        return None;
    }
    let parsed = parser.variants();
    Some(parsed.and_then(|variants| parser.meaning.map_or(Ok(variants), Err)))
}

impl Parser<'_> {
    /// What stands behind the first word.
    fn variants(&mut self) -> Result<Variants, ParseError> {
        self.expect("(")?;
        let mut variants = Vec::new();
        loop {
            variants.push(self.metric()?.0);
            if self.take(")") {
                break;
            }
            if !self.take(",") {
                return Err(self.unexpected(&[]));
            }
        }
        if !self.take_name(OF) {
            return Err(self.unexpected(&[OF]));
        }
        self.expect("(")?;
        let of = self.log_range(false)?;
        self.expect(")")?;
        self.end()?;
        Ok(Variants { variants, of })
    }

    /// Takes a word that is none of the language elsewhere, so that labels may be named so.
    fn take_name(&mut self, name: &str) -> bool {
        let is_next = *self.kind() == Kind::Identifier && self.raw().eq_ignore_ascii_case(name);
        self.at += usize::from(is_next);
        is_next
    }
}
