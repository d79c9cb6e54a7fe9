//! Templates as patterns that people read and that LogQL's `|>` understands: the text of the
//! template with `<_>` where the variables stand.
//!
//! Every line is matched by its pattern. What `|>` does is take each literal where it is found
//! first after something, so it has to be shown that a literal is not found too early, inside of
//! what a `<_>` stands for. A variable is made of token bytes only and is followed by a byte that is
//! none, with which the next literal begins: that byte is not in the variable. Text that itself
//! looks like a capture, `<name>`, cannot be written in a pattern and becomes `<_>` too; such a
//! capture takes everything up to a byte that is neither of a token nor `<` nor `>`, so the
//! same holds for it.

use crate::footer::Templates;
use crate::format::{SLOTS_MAX, TEMPLATE_TEXT_MAX};
use crate::template::{RAW, has_digit, is_token};

/// What a variable part is shown as.
pub const VARIABLE: &str = "<_>";

/// Finds the patterns of lines: tokens with a digit are variables, as in [the templates of
/// segments](crate). A function of the line alone, wherever it is stored. Keeps its buffers.
#[derive(Debug, Default)]
pub struct PatternFinder {
    text: Vec<u8>,
    slots: Vec<u32>,
}

impl PatternFinder {
    /// Adds the pattern of a line to `out`. The empty line's is empty; lines with more variables or
    /// more other text than a template may have are all variable.
    pub fn append(&mut self, line: &[u8], out: &mut Vec<u8>) {
        match self.split(line) {
            true => append_pattern(&self.text, &self.slots, out),
            false => out.extend_from_slice(VARIABLE.as_bytes()),
        }
    }

    fn split(&mut self, line: &[u8]) -> bool {
        self.text.clear();
        self.slots.clear();
        let mut at = 0;
        while at < line.len() {
            let end = |token: bool| {
                let mut rest = line[at..].iter();
                let length = rest.position(|byte| is_token(*byte) != token);
                length.map_or(line.len(), |length| at + length)
            };
            let part = end(is_token(line[at]));
            let piece = &line[at..part];
            match is_token(line[at]) && has_digit(piece) {
                true => self.slots.push(self.text.len() as u32),
                false => self.text.extend_from_slice(piece),
            }
            at = part;
        }
        self.slots.len() <= SLOTS_MAX && self.text.len() <= TEMPLATE_TEXT_MAX
    }
}

/// The patterns of the templates of a chunk, in the order of its list.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// Whether lines of one template may have different patterns: lines stored whole, and lines that
/// may have been cut to their shape, words and all. Those have no word left in the template.
pub(crate) fn is_open(template: u32, templates: &Templates) -> bool {
    let of_shape = || {
        let text = templates.text(template);
        !templates.slots(template).is_empty() && !text.iter().any(|byte| is_token(*byte))
    };
    template == RAW || of_shape()
}

impl Patterns {
    /// Leaves out those of [open](is_open) templates.
    pub(crate) fn fill(&mut self, chunk: &[u32], templates: &Templates) {
        self.text.clear();
        self.ends.clear();
        for template in chunk {
            if !is_open(*template, templates) {
                let (text, slots) = (templates.text(*template), templates.slots(*template));
                append_pattern(text, slots, &mut self.text);
            }
            self.ends.push(self.text.len());
        }
    }

    /// `None` for a template whose lines have to be looked at.
    pub(crate) fn get(&self, local: usize, templates: &Templates, template: u32) -> Option<&[u8]> {
        let start = local.checked_sub(1).map_or(0, |before| self.ends[before]);
        let text = &self.text[start..self.ends[local]];
        (!text.is_empty() || !is_open(template, templates)).then_some(text)
    }
}

/// Writes the pattern of a template.
fn append_pattern(text: &[u8], slots: &[u32], out: &mut Vec<u8>) {
    let variable = VARIABLE.as_bytes();
    if std::str::from_utf8(text).is_err() {
        // Patterns are text. The line is not empty, so this matches it.
        out.extend_from_slice(variable);
        return;
    }
    let mut slots = slots.iter().map(|slot| *slot as usize).peekable();
    let mut at = 0;
    loop {
        let is_slot = slots.next_if_eq(&at).is_some();
        if is_slot {
            out.extend_from_slice(variable);
        }
        let Some(byte) = text.get(at) else { return };
        if *byte != b'<' || !is_capture(&text[at..], slots.peek().map(|slot| slot - at)) {
            out.push(*byte);
            at += 1;
            continue;
        }
        if !is_slot {
            out.extend_from_slice(variable);
        }
        while let Some(byte) = text.get(at)
            && (is_token(*byte) || matches!(byte, b'<' | b'>'))
        {
            at += 1;
        }
        // Variables in what was taken, and one right behind it, belong to it.
        while slots.next_if(|slot| *slot <= at).is_some() {}
    }
}

/// Whether the text starts with `<name>`; a variable stands at `slot`.
fn is_capture(text: &[u8], slot: Option<usize>) -> bool {
    let name = &text[1..];
    let length = name
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
        .unwrap_or(name.len());
    length > 0
        && !name[0].is_ascii_digit()
        && name.get(length) == Some(&b'>')
        && slot.is_none_or(|slot| slot > length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(line: &str) -> String {
        let mut out = Vec::new();
        PatternFinder::default().append(line.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tokens_with_a_digit_are_shown_as_variables() {
        for (line, want) in [
            ("took 12ms at a1:80, ok", "took <_> at <_>:<_>, ok"),
            ("", ""),
            ("7", "<_>"),
            ("no digit <b c>", "no digit <b c>"),
            ("<5> a", "<<_>> a"),
        ] {
            assert_eq!(pattern(line), want, "{line}");
        }
    }

    #[test]
    fn text_that_looks_like_a_capture_becomes_one() {
        for (line, want) in [
            ("<html> 5", "<_> <_>"),
            ("<a><b>>x5y end", "<_> end"),
            ("8<a>9", "<_>"),
            ("<_>", "<_>"),
            ("<a1> <é> <ab", "<<_>> <é> <ab"),
        ] {
            assert_eq!(pattern(line), want, "{line}");
        }
    }
}
