//! Texts that calls make: counted while they are made, so that no call makes more than may be held.

use std::sync::Arc;

use super::functions::{Failure, Outcome, fail, string};

/// Longest text that one call may make.
pub(super) const RESULT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A text of [`RESULT_BYTES_MAX`] bytes at most.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// One that is expected to become so long.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Text(String::with_capacity(bytes.min(RESULT_BYTES_MAX)))
    }

    pub(super) fn push_str(&mut self, more: &str) -> Result<(), Failure> {
        if more.len() > RESULT_BYTES_MAX - self.0.len() {
            return Err(too_long());
        }
        self.0.push_str(more);
        Ok(())
    }

    pub(super) fn push(&mut self, c: char) -> Result<(), Failure> {
        self.push_str(c.encode_utf8(&mut [0; 4]))
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    pub(super) fn done(self) -> Outcome {
        string(self.0)
    }
}

/// The text, if a call may give one so long.
pub(super) fn allowed(text: &Arc<str>) -> Result<(), Failure> {
    match text.len() > RESULT_BYTES_MAX {
        true => Err(too_long()),
        false => Ok(()),
    }
}

fn too_long() -> Failure {
    fail(format!("result of more than {RESULT_BYTES_MAX} bytes"))
}

/// With the first so many places of `old` replaced; nothing stands between all characters.
pub(super) fn replaced(source: &str, old: &str, new: &str, count: usize) -> Result<Text, Failure> {
    let mut out = Text::with_capacity(source.len());
    let mut end = 0;
    for (at, found) in source.match_indices(old).take(count) {
        out.push_str(&source[end..at])?;
        out.push_str(new)?;
        end = at + found.len();
    }
    out.push_str(&source[end..])?;
    Ok(out)
}

/// With all matches replaced; `$1` and `${name}` in `new` are what the groups matched.
pub(super) fn replaced_matches(
    regex: &regex::Regex,
    source: &str,
    new: &str,
) -> Result<Text, Failure> {
    let groups = new.matches('$').count();
    let mut out = Text::with_capacity(source.len());
    let mut end = 0;
    let mut expanded = String::new();
    for captures in regex.captures_iter(source) {
        let whole = captures.get_match();
        out.push_str(&source[end..whole.start()])?;
        // No group is longer than the match.
        let most = groups.saturating_mul(whole.len());
        if most.saturating_add(new.len()) > RESULT_BYTES_MAX {
            return Err(too_long());
        }
        expanded.clear();
        captures.expand(new, &mut expanded);
        out.push_str(&expanded)?;
        end = whole.end();
    }
    out.push_str(&source[end..])?;
    Ok(out)
}

/// With all matches replaced by just this.
pub(super) fn replaced_literally(
    regex: &regex::Regex,
    source: &str,
    new: &str,
) -> Result<Text, Failure> {
    let mut out = Text::with_capacity(source.len());
    let mut end = 0;
    for found in regex.find_iter(source) {
        out.push_str(&source[end..found.start()])?;
        out.push_str(new)?;
        end = found.end();
    }
    out.push_str(&source[end..])?;
    Ok(out)
}
