//! Reads times by a layout.

use super::super::location::Location;
use super::{
    DAY_SECONDS, DAYS, GoTime, MONTHS, OffsetForm, Pad, Token, civil_of, days_of, next_token,
};

/// Parts of a time as they are read.
#[derive(Default)]
struct Fields {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    year_day: Option<u32>,
    hour: u32,
    half_day: Option<bool>,
    minute: u32,
    second: u32,
    nanos: u32,
    offset: Option<i32>,
    zone: Option<String>,
}

/// Reads a time by a layout; without a zone in the text it is one of `zone`. `None` if the text
/// has another form or is no date.
pub(in super::super) fn parse(layout: &str, text: &str, zone: &Location) -> Option<GoTime> {
    let mut fields = Fields::default();
    let mut rest = text;
    let mut layout = layout;
    while let Some((token, tail)) = next_token(layout) {
        rest = fields.take(token, rest)?;
        layout = tail;
        let seconds = matches!(token, Token::Second(_));
        let fraction_follows = matches!(next_token(tail), Some((Token::Fraction(..), _)));
        if seconds && !fraction_follows {
            rest = fields.take_free_fraction(rest);
        }
    }
    rest.is_empty().then(|| fields.finish(zone)).flatten()
}

impl Fields {
    // tidy: long because it is one flat match over all tokens
    fn take<'t>(&mut self, token: Token<'_>, text: &'t str) -> Option<&'t str> {
        Some(match token {
            Token::Literal(literal) => text.strip_prefix(literal)?,
            Token::Year4 => {
                let (year, rest) = text.split_at_checked(4)?;
                self.year = Some(digits(year)?);
                rest
            }
            Token::Year2 => {
                let (year, rest) = text.split_at_checked(2)?;
                let year: i64 = digits(year)?;
                self.year = Some(if year >= 69 { 1900 + year } else { 2000 + year });
                rest
            }
            Token::MonthName(long) => {
                let (at, rest) = take_name(&MONTHS, long, text)?;
                self.month = Some(at as u32 + 1);
                rest
            }
            Token::DayName(long) => take_name(&DAYS, long, text)?.1,
            Token::Month(padded) => take_number(text, padded, &mut self.month)?,
            Token::Day(pad) => {
                let text = match pad {
                    Pad::Blank => text.strip_prefix(' ').unwrap_or(text),
                    _ => text,
                };
                take_number(text, false, &mut self.day)?
            }
            Token::YearDay(_) => {
                let (day, rest) = text.split_at_checked(3)?;
                self.year_day = Some(digits(day.trim_start())? as u32);
                rest
            }
            Token::Hour24 => take_into(text, false, &mut self.hour)?,
            Token::Hour12(padded) => take_into(text, padded, &mut self.hour)?,
            Token::Minute(padded) => take_into(text, padded, &mut self.minute)?,
            Token::Second(padded) => take_into(text, padded, &mut self.second)?,
            Token::HalfDay(_) => {
                let (half, rest) = text.split_at_checked(2)?;
                self.half_day = Some(match half.to_ascii_uppercase().as_str() {
                    "PM" => true,
                    "AM" => false,
                    _ => return None,
                });
                rest
            }
            Token::Fraction(_, count, trim) => self.take_fraction(text, count, trim)?,
            Token::Offset(form) => self.take_offset(text, form)?,
            Token::ZoneName => {
                let end = text
                    .find(|c: char| !c.is_ascii_uppercase())
                    .unwrap_or(text.len());
                if !(3..=5).contains(&end) {
                    return None;
                }
                self.zone = Some(text[..end].to_owned());
                &text[end..]
            }
        })
    }

    fn take_fraction<'t>(&mut self, text: &'t str, count: usize, trim: bool) -> Option<&'t str> {
        let shown = text.strip_prefix(['.', ',']);
        let Some(shown) = shown else {
            return trim.then_some(text);
        };
        let length = match trim {
            true => shown
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(shown.len()),
            false => count,
        };
        let (fraction, rest) = shown.split_at_checked(length)?;
        self.nanos = fraction_nanos(fraction)?;
        Some(rest)
    }

    /// Seconds may be followed by a fraction that the layout does not speak of.
    fn take_free_fraction<'t>(&mut self, text: &'t str) -> &'t str {
        let Some(shown) = text.strip_prefix(['.', ',']) else {
            return text;
        };
        let length = shown
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(shown.len());
        match fraction_nanos(&shown[..length]) {
            Some(nanos) => {
                self.nanos = nanos;
                &shown[length..]
            }
            None => text,
        }
    }

    fn take_offset<'t>(&mut self, text: &'t str, form: OffsetForm) -> Option<&'t str> {
        if form.z
            && let Some(rest) = text.strip_prefix('Z')
        {
            self.offset = Some(0);
            return Some(rest);
        }
        let sign = match text.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let mut rest = &text[1..];
        let mut seconds = 0;
        for (wanted, unit) in [(true, 3600), (form.minutes, 60), (form.seconds, 1)] {
            if !wanted {
                break;
            }
            if form.colon && unit != 3600 {
                rest = rest.strip_prefix(':')?;
            }
            let (number, tail) = rest.split_at_checked(2)?;
            seconds += digits(number)? as i32 * unit;
            rest = tail;
        }
        self.offset = Some(sign * seconds);
        Some(rest)
    }

    fn finish(self, zone: &Location) -> Option<GoTime> {
        let hour = match self.half_day {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        if hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let year = self.year.unwrap_or(0);
        let days = match self.year_day {
            Some(day) if self.month.is_none() => {
                let days = days_of(year, 1, 1) + i64::from(day) - 1;
                (day > 0 && days < days_of(year + 1, 1, 1)).then_some(days)?
            }
            _ => {
                let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
                if !(1..=12).contains(&month) {
                    return None;
                }
                let days = days_of(year, month, day);
                (civil_of(days) == (year, month, day)).then_some(days)?
            }
        };
        let local = days * DAY_SECONDS + i64::from(hour * 3600 + self.minute * 60 + self.second);
        if let Some(offset) = self.offset {
            let time = GoTime::utc(local - i64::from(offset), self.nanos);
            // An offset that the zone has then is that zone's.
            let there = time.clone().at(zone);
            let named = self.zone.as_ref().is_none_or(|name| *name == there.zone);
            return Some(match there.offset == offset && named {
                true => there,
                false => time.at(&Location::Fixed(
                    offset,
                    self.zone.unwrap_or_default().into(),
                )),
            });
        }
        Some(GoTime::shown_as(local, self.nanos, zone))
    }
}

fn digits(text: &str) -> Option<i64> {
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    }
}

/// One or two digits; exactly two if `padded`.
fn take_into<'t>(text: &'t str, padded: bool, into: &mut u32) -> Option<&'t str> {
    let two = text
        .as_bytes()
        .get(..2)
        .is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    if padded && !two {
        return None;
    }
    let (number, rest) = text.split_at_checked(if two { 2 } else { 1 })?;
    *into = digits(number)? as u32;
    Some(rest)
}

fn take_number<'t>(text: &'t str, padded: bool, into: &mut Option<u32>) -> Option<&'t str> {
    let mut number = 0;
    let rest = take_into(text, padded, &mut number)?;
    *into = Some(number);
    Some(rest)
}

fn take_name<'t>(names: &[&str], long: bool, text: &'t str) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(at, name)| {
        let name = if long { name } else { &name[..3] };
        let (start, rest) = text.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some((at, rest))
    })
}

fn fraction_nanos(fraction: &str) -> Option<u32> {
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let shown = &fraction[..fraction.len().min(9)];
    format!("{shown:0<9}").parse().ok()
}
