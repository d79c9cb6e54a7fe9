//! `decolorize`: takes ANSI escape sequences out of a line.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// Sequences that end in BEL (titles, links), then control sequences with numeric parameters.
static SEQUENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?:\x1b|\u{9b})[\[\]()#;?]*",
        r"(?:(?:[0-9A-Za-z]*(?:;[0-9A-Za-z]*)*)?\x07",
        r"|(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PRZcf-ntqry=><~])",
    ))
    .ok()
});

/// Appends the line without its sequences to `out`. False if it has none; nothing is appended
/// then.
pub(super) fn strip(line: &[u8], out: &mut Vec<u8>) -> bool {
    if memchr::memchr2(0x1b, 0xc2, line).is_none() {
        return false;
    }
    let Some(sequence) = &*SEQUENCE else {
        return false;
    };
    let mut end = 0;
    let mut any = false;
    for found in sequence.find_iter(line) {
        out.extend_from_slice(&line[end..found.start()]);
        end = found.end();
        any = true;
    }
    if any {
        out.extend_from_slice(&line[end..]);
    }
    any
}
