use std::borrow::Cow;

use crate::Error;

/// The text with `mark` in place of each byte that is no UTF-8: what Loki shows of a line with such
/// bytes has U+FFFD there, and structured metadata a space. Text that is good is not copied.
pub fn repaired(text: &[u8], mark: char) -> Cow<'_, str> {
    match std::str::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(rewritten(text, mark, repaired_len(text, mark))),
    }
}

/// The same for text that must not become longer than `limit` bytes by it.
///
/// # Errors
/// [`Error::TooLarge`]; nothing is copied then.
pub(crate) fn repaired_within(
    text: &[u8],
    mark: char,
    limit: usize,
) -> Result<Cow<'_, str>, Error> {
    if let Ok(text) = std::str::from_utf8(text) {
        return Ok(Cow::Borrowed(text));
    }
    let len = repaired_len(text, mark);
    match len <= limit {
        true => Ok(Cow::Owned(rewritten(text, mark, len))),
        false => Err(Error::TooLarge { limit }),
    }
}

/// A mark may be longer than the byte for which it stands.
fn repaired_len(text: &[u8], mark: char) -> usize {
    let chunks = text.utf8_chunks();
    chunks
        .map(|chunk| chunk.valid().len() + chunk.invalid().len() * mark.len_utf8())
        .sum()
}

fn rewritten(text: &[u8], mark: char, len: usize) -> String {
    let mut rewritten = String::with_capacity(len);
    for chunk in text.utf8_chunks() {
        rewritten.push_str(chunk.valid());
        for _ in chunk.invalid() {
            rewritten.push(mark);
        }
    }
    rewritten
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

    #[test]
    fn a_repaired_text_takes_no_more_memory_than_its_length() {
        let bytes = [b"good ".as_slice(), &[0xff; 1000]].concat();
        let Cow::Owned(text) = repaired(&bytes, char::REPLACEMENT_CHARACTER) else {
            panic!("not repaired");
        };
        assert_eq!((text.len(), text.capacity()), (3005, 3005));
    }

    #[test]
    fn what_would_become_longer_than_the_limit_is_refused() {
        let within = |text, limit| repaired_within(text, char::REPLACEMENT_CHARACTER, limit);
        assert_eq!(within(b"a\xff", 4).unwrap(), "a\u{fffd}");
        assert_eq!(within(b"a\xff", 3), Err(Error::TooLarge { limit: 3 }));
        assert!(matches!(within(b"good", 0), Ok(Cow::Borrowed("good"))));
    }
}
