//! What patterns tell of the levels of their lines. Words that tell a level have no digit, so that
//! a pattern has all of them; what it lacks are variables, which matter where they say how a line
//! is to be read.

use query::logql::pipeline::level::{self, DETECTED_LEVEL, label_names_level, names_level};
use segment::VARIABLE;

/// What labels or metadata tell, before the line is asked. `of_labels` is what the labels of the
/// stream tell.
pub(super) fn told<'a>(
    of_labels: Option<&'a str>,
    metadata: &[(&'a str, &'a str)],
) -> Option<&'a str> {
    let detected = metadata.iter().find(|(name, _)| *name == DETECTED_LEVEL);
    if let Some((_, level)) = detected {
        return Some(level::normalise(level));
    }
    let tells = |(name, value): &(&str, &str)| {
        label_names_level(name) || names_level(name) && !value.is_empty()
    };
    let of_metadata = || {
        let found = metadata.iter().any(tells);
        found.then(|| level::of_record(b"", metadata))
    };
    of_labels.or_else(of_metadata)
}

/// The level of all lines of a pattern; `None` when it is to be seen from the lines.
pub(super) fn of_pattern(pattern: &[u8]) -> Option<&'static str> {
    if pattern == VARIABLE.as_bytes() {
        return None;
    }
    let text = std::str::from_utf8(pattern).ok()?;
    if !text.contains(VARIABLE) {
        return Some(level::of_line(pattern));
    }
    // An escape that is a variable may be a right one or a wrong one.
    if text.contains('"') && text.contains("\\<_>") {
        return None;
    }
    let object = text.trim();
    if object.starts_with('{') && object.ends_with('}') && !has_plain_numbers(object) {
        return None;
    }
    Some(level::of_line(text.replace(VARIABLE, "0").as_bytes()))
}

/// Whether all variables outside of strings are members or items that are numbers without an
/// exponent.
fn has_plain_numbers(json: &str) -> bool {
    let pieces: Vec<&str> = json.split(VARIABLE).collect();
    let mut in_string = false;
    pieces.iter().enumerate().all(|(at, piece)| {
        let mut escaped = false;
        for byte in piece.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = in_string,
                b'"' => in_string = !in_string,
                _ => {}
            }
        }
        // Between two variables only the point of a fraction joins them.
        let opens = |piece: &str| {
            let sign = piece.trim_end().trim_end_matches('-').trim_end();
            piece == "." || sign.ends_with([':', ',', '['])
        };
        let closes = |next: &str| next == "." || next.trim_start().starts_with([',', '}', ']']);
        in_string || at + 1 == pieces.len() || opens(piece) && closes(pieces[at + 1])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_tell_the_level_of_lines_whose_variables_do_not_matter() {
        for (pattern, want) in [
            ("GET /x took <_>", Some("unknown")),
            ("<_> ERROR failed", Some("error")),
            ("a=<_> level=warn msg=\"error <_>\"", Some("warn")),
            (
                r#"{"at":<_>.<_>,"msg":"an error","n":-<_>,"level":"info"}"#,
                Some("info"),
            ),
            (
                r#"{"at":"<_>-<_>","a":[<_>,<_>],"msg":"an error","level":"info"}"#,
                Some("info"),
            ),
            // Of these it is the line that says whether it is JSON.
            (r#"{"at":<_>-<_>,"msg":"an error","level":"info"}"#, None),
            (r#"{"msg":"\<_> an error","level":"info"}"#, None),
            (r#"{<_>:"an error","level":"info"}"#, None),
            ("<_>", None),
        ] {
            assert_eq!(of_pattern(pattern.as_bytes()), want, "{pattern}");
        }
    }

    #[test]
    fn labels_and_metadata_come_before_the_line() {
        assert_eq!(told(Some("warn"), &[("level", "info")]), Some("warn"));
        let detected = [("detected_level", "ERR"), ("level", "info")];
        assert_eq!(told(Some("warn"), &detected), Some("error"));
        assert_eq!(told(None, &[("severity_number", "17")]), Some("error"));
        assert_eq!(told(None, &[("severity_number", "")]), None);
        assert_eq!(told(None, &[("n", "1")]), None);
    }
}
