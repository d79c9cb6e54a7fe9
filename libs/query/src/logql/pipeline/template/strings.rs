//! Functions on texts: those of Go's `strings` under their own names, and those of sprig, which
//! take the text last.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use regex::Regex;

use super::functions::{Bodies, Failure, Outcome, add, fail, int, string, text};
use super::text::{Text, replaced, replaced_literally, replaced_matches};
use super::value::Value;
use crate::logql::pipeline::convert::push_clean;
use crate::logql::regex::{compile, compile_small};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// As in Go, bits left over at the end may be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
/// Longest text that `repeat` may make, and longest padding.
const REPEATED_BYTES_MAX: usize = 1024 * 1024;

pub(super) fn register(map: &mut Bodies) {
    for name in ["ToLower", "lower"] {
        add(map, name, |a| string(text(a, 0)?.to_lowercase()));
    }
    for name in ["ToUpper", "upper"] {
        add(map, name, |a| string(text(a, 0)?.to_uppercase()));
    }
    for name in ["TrimSpace", "trim"] {
        add(map, name, |a| string(text(a, 0)?.trim()));
    }
    add(map, "title", |a| string(title(text(a, 0)?)));
    register_go(map);
    register_sprig(map);
    register_layout(map);
    register_regex(map);
    register_coding(map);
}

fn register_go(map: &mut Bodies) {
    add(map, "Replace", |a| {
        let (source, old, new) = (text(a, 0)?, text(a, 1)?, text(a, 2)?);
        let count = usize::try_from(int(a, 3)?).unwrap_or(usize::MAX);
        replaced(source, old, new, count)?.done()
    });
    add(map, "Trim", |a| {
        let cut = text(a, 1)?;
        string(text(a, 0)?.trim_matches(|c| cut.contains(c)))
    });
    add(map, "TrimLeft", |a| {
        let cut = text(a, 1)?;
        string(text(a, 0)?.trim_start_matches(|c| cut.contains(c)))
    });
    add(map, "TrimRight", |a| {
        let cut = text(a, 1)?;
        string(text(a, 0)?.trim_end_matches(|c| cut.contains(c)))
    });
    add(map, "TrimPrefix", |a| {
        let source = text(a, 0)?;
        string(source.strip_prefix(text(a, 1)?).unwrap_or(source))
    });
    add(map, "TrimSuffix", |a| {
        let source = text(a, 0)?;
        string(source.strip_suffix(text(a, 1)?).unwrap_or(source))
    });
}

fn register_sprig(map: &mut Bodies) {
    add(map, "replace", |a| {
        replaced(text(a, 2)?, text(a, 0)?, text(a, 1)?, usize::MAX)?.done()
    });
    add(map, "trimAll", |a| {
        let cut = text(a, 0)?;
        string(text(a, 1)?.trim_matches(|c| cut.contains(c)))
    });
    add(map, "trimPrefix", |a| {
        let source = text(a, 1)?;
        string(source.strip_prefix(text(a, 0)?).unwrap_or(source))
    });
    add(map, "trimSuffix", |a| {
        let source = text(a, 1)?;
        string(source.strip_suffix(text(a, 0)?).unwrap_or(source))
    });
    add(map, "contains", |a| {
        Ok(Value::Bool(text(a, 1)?.contains(text(a, 0)?)))
    });
    add(map, "hasPrefix", |a| {
        Ok(Value::Bool(text(a, 1)?.starts_with(text(a, 0)?)))
    });
    add(map, "hasSuffix", |a| {
        Ok(Value::Bool(text(a, 1)?.ends_with(text(a, 0)?)))
    });
    add(map, "trunc", |a| {
        let (count, source) = (int(a, 0)?, text(a, 1)?);
        let length = source.len() as i64;
        if count < 0 && length + count > 0 {
            bytes_of(source, (length + count) as usize, source.len())
        } else if count >= 0 && length > count {
            bytes_of(source, 0, count as usize)
        } else {
            string(source)
        }
    });
    add(map, "substr", |a| {
        let (start, end, source) = (int(a, 0)?, int(a, 1)?, text(a, 2)?);
        let length = source.len() as i64;
        let (start, end) = match (start, end) {
            (start, end) if start < 0 => (0, end),
            (start, end) if end < 0 || end > length => (start, length),
            both => both,
        };
        if start > end || end > length || end < 0 {
            return Err(fail(out_of_bounds(start, end, length)));
        }
        bytes_of(source, start as usize, end as usize)
    });
}

/// Go's words for a part that is not in a text so long.
fn out_of_bounds(start: i64, end: i64, length: i64) -> String {
    let bounds = match (start, end) {
        (0, end) if end > length => format!("[:{end}] with length {length}"),
        (0, end) if end < 0 => format!("[:{end}]"),
        (start, end) => format!("[{start}:{end}]"),
    };
    format!("runtime error: slice bounds out of range {bounds}")
}

fn register_layout(map: &mut Bodies) {
    add(map, "indent", |a| {
        let pad = spaces(int(a, 0)?)?;
        indent("", &pad, text(a, 1)?)
    });
    add(map, "nindent", |a| {
        let pad = spaces(int(a, 0)?)?;
        indent("\n", &pad, text(a, 1)?)
    });
    add(map, "repeat", |a| {
        let (count, source) = (int(a, 0)?, text(a, 1)?);
        let count = usize::try_from(count).map_err(|_| fail("strings: negative Repeat count"))?;
        if count.saturating_mul(source.len()) > REPEATED_BYTES_MAX {
            return Err(fail("repeat: result is too long"));
        }
        string(source.repeat(count))
    });
    add(map, "alignLeft", |a| {
        let (count, source) = (int(a, 0)?, text(a, 1)?);
        let Ok(count) = usize::try_from(count) else {
            return string(source);
        };
        match source.char_indices().nth(count) {
            Some((end, _)) => string(&source[..end]),
            None => string(format!(
                "{source}{}",
                spaces((count - source.chars().count()) as i64)?
            )),
        }
    });
    add(map, "alignRight", |a| {
        let (count, source) = (int(a, 0)?, text(a, 1)?);
        let Ok(count) = usize::try_from(count) else {
            return string(source);
        };
        let length = source.chars().count();
        match length.checked_sub(count) {
            Some(skip) => string(source.chars().skip(skip).collect::<String>()),
            None => string(format!("{}{source}", spaces((count - length) as i64)?)),
        }
    });
}

/// Regular expressions that a thread keeps: a template has few, and needs them for every row.
const REGEXES_KEPT: usize = 4;
/// Longest one that is kept.
const KEPT_BYTES_MAX: usize = 1024;
/// Most bytes that one is compiled to that is kept: no query's budget counts them.
const KEPT_PROGRAM_BYTES_MAX: usize = 128 * 1024;

thread_local! {
    /// The one used last comes first.
    static REGEXES: RefCell<Vec<(Box<str>, Rc<Regex>)>> = const { RefCell::new(Vec::new()) };
}

/// Compiles a regular expression, unless this thread did so lately.
pub(super) fn regex_of(pattern: &str) -> Result<Rc<Regex>, Failure> {
    let kept = REGEXES.with_borrow_mut(|kept| {
        let at = kept.iter().position(|(of, _)| **of == *pattern)?;
        kept[..=at].rotate_right(1);
        Some(Rc::clone(&kept[0].1))
    });
    if let Some(regex) = kept {
        return Ok(regex);
    }
    if pattern.len() <= KEPT_BYTES_MAX
        && let Some(regex) = compile_small(pattern, KEPT_PROGRAM_BYTES_MAX).map(Rc::new)
    {
        REGEXES.with_borrow_mut(|kept| {
            kept.truncate(REGEXES_KEPT - 1);
            kept.insert(0, (pattern.into(), Rc::clone(&regex)));
        });
        return Ok(regex);
    }
    let regex = compile(pattern).map_err(|error| fail(error.to_string()))?;
    Ok(Rc::new(regex))
}

fn register_regex(map: &mut Bodies) {
    add(map, "regexReplaceAll", |a| {
        let regex = regex_of(text(a, 0)?)?;
        let (source, new) = (text(a, 1)?, text(a, 2)?);
        match new.contains('$') {
            true => replaced_matches(&regex, source, new)?.done(),
            false => replaced_literally(&regex, source, new)?.done(),
        }
    });
    add(map, "regexReplaceAllLiteral", |a| {
        let regex = regex_of(text(a, 0)?)?;
        replaced_literally(&regex, text(a, 1)?, text(a, 2)?)?.done()
    });
    add(map, "count", |a| {
        let regex = regex_of(text(a, 0)?)?;
        Ok(Value::Int(regex.find_iter(text(a, 1)?).count() as i64))
    });
}

fn register_coding(map: &mut Bodies) {
    add(map, "b64enc", |a| string(STANDARD.encode(text(a, 0)?)));
    add(map, "b64dec", |a| {
        let source = text(a, 0)?;
        let clean: String = source
            .chars()
            .filter(|c| !matches!(c, '\r' | '\n'))
            .collect();
        // Loki adds missing padding to the text as it was.
        let clean = match source.len() % 4 {
            0 | 1 => clean,
            rest => clean + &"=".repeat(4 - rest),
        };
        match BASE64.decode(&clean) {
            Ok(bytes) => clean_string(&bytes),
            // Like sprig: the error's words are the result.
            Err(error) => {
                let strange = |b: u8| !(b.is_ascii_alphanumeric() || b"+/=".contains(&b));
                let at = clean.bytes().position(strange).unwrap_or(match error {
                    base64::DecodeError::InvalidByte(at, _)
                    | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                    _ => clean.len() / 4 * 4,
                });
                string(format!("illegal base64 data at input byte {at}"))
            }
        }
    });
    add(map, "urlencode", |a| url_encode(text(a, 0)?)?.done());
    add(map, "urldecode", |a| url_decode(text(a, 0)?));
    add(map, "fromJson", |a| {
        Ok(serde_json::from_str(text(a, 0)?).map_or(Value::Nil, |json| from_json(&json)))
    });
}

fn from_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(members) => Value::Map(Arc::new(
            members
                .iter()
                .map(|(name, value)| (Arc::from(name.as_str()), from_json(value)))
                .collect(),
        )),
    }
}

fn title(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut before = ' ';
    for c in source.chars() {
        let starts = match before {
            c if c.is_ascii_alphanumeric() || c == '_' => false,
            c if c.is_ascii() => true,
            c => !c.is_alphanumeric() && c.is_whitespace(),
        };
        match starts {
            true => out.extend(c.to_uppercase()),
            false => out.push(c),
        }
        before = c;
    }
    out
}

/// `before`, then the source with each line behind the padding.
fn indent(before: &str, pad: &str, source: &str) -> Outcome {
    let mut out = Text::with_capacity(before.len() + pad.len() + source.len());
    out.push_str(before)?;
    for (at, line) in source.split('\n').enumerate() {
        if at > 0 {
            out.push('\n')?;
        }
        out.push_str(pad)?;
        out.push_str(line)?;
    }
    out.done()
}

fn spaces(count: i64) -> Result<String, Failure> {
    match usize::try_from(count) {
        Ok(count) if count <= REPEATED_BYTES_MAX => Ok(" ".repeat(count)),
        Ok(_) => Err(fail("padding is too long")),
        Err(_) => Err(fail("strings: negative Repeat count")),
    }
}

/// Part of a text by bytes, as Go slices; characters cut in two become blanks.
fn bytes_of(source: &str, start: usize, end: usize) -> Outcome {
    clean_string(&source.as_bytes()[start..end])
}

fn clean_string(bytes: &[u8]) -> Outcome {
    let mut out = String::with_capacity(bytes.len());
    push_clean(&mut out, bytes);
    string(out)
}

pub(super) fn url_encode(source: &str) -> Result<Text, Failure> {
    let mut out = Text::with_capacity(source.len());
    for byte in source.bytes() {
        match byte {
            b' ' => out.push('+')?,
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte))?,
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte))?,
            byte => out.push_str(&format!("%{byte:02X}"))?,
        }
    }
    Ok(out)
}

fn url_decode(source: &str) -> Outcome {
    let mut out = Vec::with_capacity(source.len());
    let mut rest = source.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
                let decoded = digits
                    .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|d| u8::from_str_radix(d, 16).ok());
                let Some(decoded) = decoded else {
                    let shown = String::from_utf8_lossy(&tail[..tail.len().min(2)]);
                    return Err(fail(format!("invalid URL escape \"%{shown}\"")));
                };
                out.push(decoded);
                rest = &tail[2..];
            }
            byte => out.push(*byte),
        }
    }
    clean_string(&out)
}
