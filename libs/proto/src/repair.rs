use std::borrow::Cow;

/// The text with `mark` in place of each byte that is no UTF-8: what Loki shows of a line with such
/// bytes has U+FFFD there, and structured metadata a space.
pub fn repaired(text: &[u8], mark: char) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(text) {
        return Cow::Borrowed(text);
    }
    let mut repaired = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        repaired.push_str(chunk.valid());
        repaired.extend(chunk.invalid().iter().map(|_| mark));
    }
    Cow::Owned(repaired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_that_is_no_text_is_marked() {
        assert!(matches!(repaired("é".as_bytes(), '?'), Cow::Borrowed("é")));
        for (bytes, want) in [
            (&b"caf\xe9"[..], "caf?"),
            (b"\xff\xfe x", "?? x"),
            (b"a\xe2\x82 b", "a?? b"),
            (b"\xed\xa0\x80", "???"),
        ] {
            assert_eq!(repaired(bytes, '?'), want);
        }
    }
}
