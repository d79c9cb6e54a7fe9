//! Go's `fmt.Sprintf`: verbs, flags, widths, and the words for what is wrong with them.

mod numbers;

use std::fmt::Write as _;
use std::sync::Arc;

use super::functions::Failure;
use super::text::Text;
use super::value::Value;
use crate::logql::parse::quote;

pub(super) use numbers::exponent;
use numbers::{float, integer};

/// Longest width and precision, as in Go.
const WIDTH_MAX: usize = 1_000_000;
/// An error when the text becomes too long.
type Written = Result<(), Failure>;

/// What stands between `%` and the verb.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

struct Printer<'a> {
    format: &'a [u8],
    at: usize,
    args: &'a [Value],
    next: usize,
    /// Whether arguments were chosen by `[n]`, which makes left-over ones right.
    reordered: bool,
    /// Whether the last `[n]` was one.
    good: bool,
    out: Text,
}

/// The format with its verbs replaced by the arguments.
pub(super) fn sprintf(format: &str, args: &[Value]) -> Result<Text, Failure> {
    let mut printer = Printer {
        format: format.as_bytes(),
        at: 0,
        args,
        next: 0,
        reordered: false,
        good: true,
        out: Text::with_capacity(format.len()),
    };
    let mut rest = 0;
    while let Some(found) = format[rest..].find('%') {
        printer.out.push_str(&format[rest..rest + found])?;
        printer.at = rest + found + 1;
        printer.directive(format)?;
        rest = printer.at;
    }
    let Printer {
        mut out,
        next,
        reordered,
        ..
    } = printer;
    out.push_str(&format[rest..])?;
    if !reordered && next < args.len() {
        out.push_str("%!(EXTRA ")?;
        for (at, arg) in args[next..].iter().enumerate() {
            if at > 0 {
                out.push_str(", ")?;
            }
            if *arg != Value::Nil {
                out.push_str(arg.type_name())?;
                out.push('=')?;
            }
            out.push_str(&arg.shown())?;
        }
        out.push(')')?;
    }
    Ok(out)
}

impl Printer<'_> {
    fn directive(&mut self, format: &str) -> Written {
        self.good = true;
        let flags = self.flags()?;
        let Some(verb) = format.get(self.at..).and_then(|rest| rest.chars().next()) else {
            return self.out.push_str("%!(NOVERB)");
        };
        self.at += verb.len_utf8();
        if verb == '%' {
            self.out.push('%')
        } else if !self.good {
            self.out.push_str(&format!("%!{verb}(BADINDEX)"))
        } else if let Some(arg) = self.args.get(self.next) {
            self.next += 1;
            formatted(&flags, verb, arg, &mut self.out)
        } else {
            self.out.push_str(&format!("%!{verb}(MISSING)"))
        }
    }

    /// What stands before the verb.
    fn flags(&mut self) -> Result<Flags, Failure> {
        let mut flags = Flags::default();
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = true,
                b'+' => flags.plus = true,
                b'-' => flags.minus = true,
                b' ' => flags.space = true,
                _ => break,
            }
            self.at += 1;
        }
        let mut after_index = self.index();
        if self.peek() == Some(b'*') {
            self.at += 1;
            match self.star() {
                Some(width) => {
                    flags.minus |= width < 0;
                    flags.width = Some(width.unsigned_abs() as usize);
                }
                None => self.out.push_str("%!(BADWIDTH)")?,
            }
            after_index = false;
        } else {
            flags.width = self.digits();
            if after_index && flags.width.is_some() {
                self.good = false;
            }
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if after_index {
                self.good = false;
            }
            after_index = self.index();
            if self.peek() == Some(b'*') {
                self.at += 1;
                match self.star() {
                    Some(precision) => flags.precision = usize::try_from(precision).ok(),
                    None => self.out.push_str("%!(BADPREC)")?,
                }
                after_index = false;
            } else {
                flags.precision = Some(self.digits().unwrap_or(0));
            }
        }
        if !after_index {
            self.index();
        }
        Ok(flags)
    }

    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    fn digits(&mut self) -> Option<usize> {
        let mut number: Option<usize> = None;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            self.at += 1;
            let longer = number.unwrap_or(0) * 10 + usize::from(byte - b'0');
            number = Some(longer.min(WIDTH_MAX));
        }
        number
    }

    /// The argument that is a width.
    fn star(&mut self) -> Option<i64> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        let within = |n: &i64| n.unsigned_abs() <= WIDTH_MAX as u64;
        arg.integer().filter(within)
    }

    /// `[3]`, if it comes next.
    fn index(&mut self) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &self.format[self.at..];
        let Some(end) = rest.iter().position(|b| *b == b']') else {
            self.good = false;
            self.at += 1;
            return false;
        };
        let number = std::str::from_utf8(&rest[1..end])
            .ok()
            .and_then(|digits| digits.parse::<usize>().ok());
        self.at += end + 1;
        match number {
            Some(number) if (1..=self.args.len()).contains(&number) => {
                self.next = number - 1;
                true
            }
            _ => {
                self.good = false;
                number.is_some()
            }
        }
    }
}

fn formatted(flags: &Flags, verb: char, arg: &Value, out: &mut Text) -> Written {
    let text = match arg {
        Value::List(_) | Value::Labels(_) | Value::Map(_) if verb != 'T' => {
            return parts(flags, verb, arg, out);
        }
        Value::Bytes(bytes) if !matches!(verb, 's' | 'q' | 'x' | 'X' | 'T') => {
            let numbers = bytes.iter().map(|byte| Value::Byte(*byte)).collect();
            return parts(flags, verb, &Value::List(numbers), out);
        }
        arg => scalar(flags, verb, arg),
    };
    match text {
        Some(text) => out.push_str(&text),
        None => wrong(flags, verb, arg, out),
    }
}

/// What has no parts; `None` if the verb does not go with it.
fn scalar(flags: &Flags, verb: char, arg: &Value) -> Option<String> {
    match arg {
        arg if verb == 'T' => Some(padded(flags, arg.type_name())),
        Value::Nil if verb == 'v' => Some(padded(flags, "<nil>")),
        Value::Nil => Some(format!("%!{verb}(<nil>)")),
        Value::Bool(value) if matches!(verb, 't' | 'v') => Some(padded(flags, &value.to_string())),
        Value::Float(number) => float(flags, verb, *number),
        Value::String(text) => string(flags, verb, text),
        Value::Time(time) if flags.sharp && verb == 'v' => Some(padded(flags, &time.as_source())),
        Value::Bytes(bytes) => string(flags, verb, &String::from_utf8_lossy(bytes)),
        Value::Time(_)
        | Value::Location(_)
        | Value::Duration(_)
        | Value::Month(_)
        | Value::Weekday(_)
            if matches!(verb, 'v' | 's' | 'x' | 'X' | 'q') && !(flags.sharp && verb == 'v') =>
        {
            string(flags, verb, &arg.shown())
        }
        arg => integer(flags, verb, arg.integer()?),
    }
}

fn parts(flags: &Flags, verb: char, arg: &Value, out: &mut Text) -> Written {
    let sharp = flags.sharp && verb == 'v';
    let between = if sharp { ", " } else { " " };
    match arg {
        Value::List(items) => {
            out.push_str(if sharp { "[]interface {}{" } else { "[" })?;
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { between } else { "" })?;
                inner(flags, verb, item, out)?;
            }
            out.push(if sharp { '}' } else { ']' })
        }
        Value::Labels(labels) => {
            let text = |text: &Arc<str>| Value::String(Arc::clone(text));
            let labels = labels.iter().map(|(name, value)| (name, text(value)));
            members(flags, verb, arg.type_name(), labels, out)
        }
        Value::Map(map) => {
            let map = map.iter().map(|(name, value)| (name, value.clone()));
            members(flags, verb, arg.type_name(), map, out)
        }
        _ => Ok(()),
    }
}

/// A part of a list or object.
fn inner(flags: &Flags, verb: char, value: &Value, out: &mut Text) -> Written {
    match value {
        Value::Nil if verb != 'T' => out.push_str(&padded(flags, "<nil>")),
        value => formatted(flags, verb, value, out),
    }
}

fn members<'m>(
    flags: &Flags,
    verb: char,
    type_name: &str,
    members: impl Iterator<Item = (&'m Arc<str>, Value)>,
    out: &mut Text,
) -> Written {
    let sharp = flags.sharp && verb == 'v';
    out.push_str(if sharp { type_name } else { "map" })?;
    out.push(if sharp { '{' } else { '[' })?;
    for (at, (name, value)) in members.enumerate() {
        match at {
            0 => {}
            _ if sharp => out.push_str(", ")?,
            _ => out.push(' ')?,
        }
        formatted(flags, verb, &Value::String(Arc::clone(name)), out)?;
        out.push(':')?;
        inner(flags, verb, &value, out)?;
    }
    out.push(if sharp { '}' } else { ']' })
}

/// The verb does not go with the value.
fn wrong(flags: &Flags, verb: char, arg: &Value, out: &mut Text) -> Written {
    let flags = &Flags {
        sharp: false,
        ..*flags
    };
    out.push_str(&format!("%!{verb}({}=", arg.type_name()))?;
    match verb {
        'v' => out.push_str(&arg.shown())?,
        _ => formatted(flags, 'v', arg, out)?,
    }
    out.push(')')
}

/// Text brought to its width.
fn padded(flags: &Flags, text: &str) -> String {
    let missing = flags
        .width
        .map_or(0, |width| width.saturating_sub(text.chars().count()));
    match (flags.minus, flags.zero) {
        (true, _) => format!("{text}{}", " ".repeat(missing)),
        (false, true) => format!("{}{text}", "0".repeat(missing)),
        (false, false) => format!("{}{text}", " ".repeat(missing)),
    }
}

fn string(flags: &Flags, verb: char, text: &str) -> Option<String> {
    let cut = |text: &str| match flags.precision {
        Some(count) => text.chars().take(count).collect::<String>(),
        None => text.to_owned(),
    };
    Some(match verb {
        'v' if flags.sharp => padded(flags, &quote(text)),
        'v' | 's' => padded(flags, &cut(text)),
        'q' => {
            let text = cut(text);
            let raw = flags.sharp
                && !text.contains('`')
                && !text.chars().any(|c| c.is_control() && c != '\t');
            padded(
                flags,
                &if raw {
                    format!("`{text}`")
                } else {
                    quote(&text)
                },
            )
        }
        'x' | 'X' => {
            let bytes = text.as_bytes();
            let bytes = &bytes[..flags.precision.unwrap_or(bytes.len()).min(bytes.len())];
            let mut hex = String::with_capacity(bytes.len() * 2);
            for (at, byte) in bytes.iter().enumerate() {
                if at > 0 && flags.space {
                    hex.push(' ');
                }
                if flags.sharp && (at == 0 || flags.space) {
                    hex.push('0');
                    hex.push(verb);
                }
                let _ = match verb {
                    'x' => write!(hex, "{byte:02x}"),
                    _ => write!(hex, "{byte:02X}"),
                };
            }
            padded(flags, &hex)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, args: &[Value], want: &str) {
        assert_eq!(sprintf(format, args).unwrap().into_string(), want);
    }

    #[test]
    fn numbers_are_written_as_verbs_and_flags_say() {
        let number = [Value::Int(-42)];
        check("%d|", &number, "-42|");
        check("%6d|", &number, "   -42|");
        check("%-6d|", &number, "-42   |");
        check("%06d|", &number, "-00042|");
        check("%.4d|", &number, "-0042|");
        check("%#x|", &number, "-0x2a|");
        check("%+d %#o %b", &[7, 8, 5].map(Value::Int64), "+7 010 101");
        check("%c%U", &[0x2603, 0x2603].map(Value::Int), "\u{2603}U+2603");
        let floats = [3.25159, 1e21, 2.0].map(Value::Float);
        check("%6.2f|%v|%e", &floats, "  3.25|1e+21|2.000000e+00");
        check(
            "%.3g %G %g",
            &[12345.678, 1e-7, 100.0].map(Value::Float),
            "1.23e+04 1E-07 100",
        );
        check(
            "%5.1f|%-8v|",
            &[f64::INFINITY, f64::NAN].map(Value::Float),
            " +Inf|NaN     |",
        );
    }

    #[test]
    fn numbers_have_as_many_digits_as_is_asked() {
        let written = |format: &str, arg: Value| sprintf(format, &[arg]).unwrap().into_string();
        for (format, start, end, bytes) in [
            ("%.70000f", "1.500", "000", 70_002),
            ("%.70000e", "1.500", "000e+00", 70_006),
            ("%.70000g", "1.5", "1.5", 3),
            ("%70000.1f", "   ", " 1.5", 70_000),
            ("%070000.1f", "000", "01.5", 70_000),
            ("%1000000.65536f", "   ", "000", 1_000_000),
        ] {
            let text = written(format, Value::Float(1.5));
            assert!(text.starts_with(start) && text.ends_with(end), "{format}");
            assert_eq!(text.len(), bytes, "{format}");
        }
        let least = written("%.70000f", Value::Float(5e-324));
        assert_eq!(least.trim_end_matches('0').len(), 2 + 1_074);
        for (format, bytes) in [
            ("%.70000d", 70_000),
            ("%70000x", 70_000),
            ("%.1000000b", 1_000_000),
        ] {
            assert_eq!(written(format, Value::Int(7)).len(), bytes, "{format}");
        }
    }

    #[test]
    fn a_result_that_is_too_long_is_none() {
        let text = Value::String("x".repeat(9 << 20).into());
        let list = |of: Value| Value::List(vec![of; 20].into());
        for (format, args) in [
            ("%1000000d".repeat(17), vec![Value::Int(1); 17]),
            ("%[1]s%[1]s".to_owned(), vec![text.clone()]),
            ("%x".to_owned(), vec![text.clone()]),
            (String::new(), vec![text.clone(), text]),
            ("%1000000v".to_owned(), vec![list(Value::Nil)]),
            ("%1000000d".to_owned(), vec![list(list(Value::Bool(true)))]),
        ] {
            let error = sprintf(&format, &args).unwrap_err();
            assert_eq!(error.0, "result of more than 16777216 bytes");
        }
        assert!(sprintf(&"%1000000d".repeat(16), &[1; 16].map(Value::Int)).is_ok());
    }

    #[test]
    fn texts_are_cut_padded_and_quoted() {
        let text = [Value::String("h\u{e9}\"".into())];
        check("%5s|", &text, "  h\u{e9}\"|");
        check("%-5s|", &text, "h\u{e9}\"  |");
        check("%.2s|", &text, "h\u{e9}|");
        check("%q", &text, "\"h\u{e9}\\\"\"");
        check(
            "%x % X",
            &[text[0].clone(), text[0].clone()],
            "68c3a922 68 C3 A9 22",
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_the_text() {
        let text = [Value::String("a".into())];
        check("%d", &text, "%!d(string=a)");
        check("%d %d", &[Value::Int(1)], "1 %!d(MISSING)");
        check("x", &[Value::Int(1), Value::Nil], "x%!(EXTRA int=1, <nil>)");
        check("%z %", &[Value::Bool(true)], "%!z(bool=true) %!(NOVERB)");
        check(
            "%[2]d %[1]d %[5]d",
            &[1, 2].map(Value::Int),
            "2 1 %!d(BADINDEX)",
        );
        check("%*d|%T|100%%", &[4, 2, 1].map(Value::Int), "   2|int|100%");
        check(
            "%s",
            &[Value::List([Value::Float(1.5), Value::Nil].into())],
            "[%!s(float64=1.5) <nil>]",
        );
    }
}
