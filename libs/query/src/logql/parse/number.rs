//! Numbers as Go scans them: `1e3`, `.5`, `1_000`, `0x1p4`.

/// How far the number at the start of a text goes, bytes.
///
/// # Errors
/// What is wrong with it, in Go's words.
pub(super) fn scan(text: &str) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let at = |at: usize| bytes.get(at).map(u8::to_ascii_lowercase);
    let (mut end, mut base) = (0, Base::Decimal);
    let mut digits = Digits::default();
    if at(0) == Some(b'0') {
        end = 1;
        digits.any = true;
        match (at(1), at(2)) {
            (Some(b'x'), _) => (end, base, digits.any) = (2, Base::Hexadecimal, false),
            (Some(b'o'), _) => (end, base, digits.any) = (2, Base::Octal('o'), false),
            (Some(b'b'), Some(b'0' | b'1')) => {
                (end, base, digits.any) = (2, Base::Binary, false);
            }
            // Loki refuses `0B`; here it is no bytes.
            (Some(b'b'), _) => {}
            _ => base = Base::Octal('0'),
        }
    }
    end = digits.run(bytes, end, base);
    let point = at(end) == Some(b'.');
    if point {
        if matches!(base, Base::Octal('o') | Base::Binary) {
            return Err(format!("invalid radix point in {}", base.name()));
        }
        end = digits.run(bytes, end + 1, base);
    }
    if !digits.any {
        return Err(format!("{} has no digits", base.name()));
    }
    let exponent = match at(end) {
        Some(b'e') => true,
        Some(b'p') => base == Base::Hexadecimal,
        _ => false,
    };
    if exponent {
        let shown = char::from(bytes[end]);
        if shown.eq_ignore_ascii_case(&'e') && !matches!(base, Base::Decimal | Base::Octal('0')) {
            return Err(format!("'{shown}' exponent requires decimal mantissa"));
        }
        end += 1 + usize::from(matches!(at(end + 1), Some(b'+' | b'-')));
        let mut power = Digits::default();
        end = power.run(bytes, end, Base::Decimal);
        digits.separated |= power.separated;
        if !power.any {
            return Err("exponent has no digits".to_owned());
        }
    } else if point && base == Base::Hexadecimal {
        return Err("hexadecimal mantissa requires a 'p' exponent".to_owned());
    }
    if let Some(invalid) = digits.invalid.filter(|_| !point && !exponent) {
        return Err(format!("invalid digit '{invalid}' in {}", base.name()));
    }
    if digits.separated && !underscores_are_right(&text[..end]) {
        return Err("'_' must separate successive digits".to_owned());
    }
    Ok(end)
}

#[derive(Clone, Copy, PartialEq)]
enum Base {
    Decimal,
    Hexadecimal,
    /// Behind `0o` or just `0`.
    Octal(char),
    Binary,
}

#[derive(Default)]
struct Digits {
    any: bool,
    separated: bool,
    /// The first digit that the base does not have.
    invalid: Option<char>,
}

impl Digits {
    /// The end of the digits from `from` on.
    fn run(&mut self, bytes: &[u8], from: usize, base: Base) -> usize {
        let mut end = from;
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'_' => self.separated = true,
                b'0'..=b'9' => {
                    self.any = true;
                    if *byte >= base.first_invalid() {
                        self.invalid = self.invalid.or(Some(char::from(*byte)));
                    }
                }
                b'a'..=b'f' | b'A'..=b'F' if base == Base::Hexadecimal => self.any = true,
                _ => break,
            }
            end += 1;
        }
        end
    }
}

impl Base {
    fn first_invalid(self) -> u8 {
        match self {
            Base::Octal(_) => b'8',
            Base::Binary => b'2',
            Base::Decimal | Base::Hexadecimal => b'9' + 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Base::Decimal => "decimal literal",
            Base::Hexadecimal => "hexadecimal literal",
            Base::Octal(_) => "octal literal",
            Base::Binary => "binary literal",
        }
    }
}

/// Whether each `_` stands between two digits; a prefix such as `0x` counts as one.
pub(crate) fn underscores_are_right(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    let prefixed = matches!(text, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]);
    let hexadecimal = matches!(text, [b'0', b'x' | b'X', ..]);
    let mut before = if prefixed { b'0' } else { b'.' };
    for byte in &text[if prefixed { 2 } else { 0 }..] {
        let is_digit = byte.is_ascii_digit() || hexadecimal && byte.is_ascii_hexdigit();
        match byte {
            b'_' if before != b'0' => return false,
            b'_' => before = b'_',
            _ if is_digit => before = b'0',
            _ if before == b'_' => return false,
            _ => before = b'.',
        }
    }
    before != b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_as_far_as_in_go() {
        for (text, length) in [
            ("12 ", 2),
            ("1.5e-3x", 6),
            ("5.", 2),
            (".5", 2),
            ("1_000]", 5),
            ("0x1p4", 5),
            ("0x1F", 4),
            ("0b11", 4),
            ("0B", 1),
            ("017", 3),
            ("08.5", 4),
            ("1PB", 1),
        ] {
            assert_eq!(scan(text), Ok(length), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_named() {
        for (text, problem) in [
            ("1e", "exponent has no digits"),
            ("1E+B", "exponent has no digits"),
            ("08", "invalid digit '8' in octal literal"),
            ("0x", "hexadecimal literal has no digits"),
            ("0x1.5", "hexadecimal mantissa requires a 'p' exponent"),
            ("0o1.5", "invalid radix point in octal literal"),
            ("0b12", "invalid digit '2' in binary literal"),
            ("1__0", "'_' must separate successive digits"),
            ("1_", "'_' must separate successive digits"),
        ] {
            assert_eq!(scan(text).unwrap_err(), problem, "{text}");
        }
    }
}
