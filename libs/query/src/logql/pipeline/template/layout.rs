//! Times by layouts in Go's form, in which `2006-01-02 15:04:05` says how a time is written.

use jiff::tz::TimeZone;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const DAY_SECONDS: i64 = 86_400;

/// A moment and the zone in which it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoTime {
    /// Since 1970, may be negative.
    pub(super) seconds: i64,
    /// 0 to 999,999,999.
    pub(super) nanos: u32,
    /// Seconds east of UTC.
    pub(super) offset: i32,
    /// `UTC`, `CET`, or empty when only the offset is known.
    pub(super) zone: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Literal(&'a str),
    Year4,
    Year2,
    MonthName(bool),
    Month(bool),
    DayName(bool),
    Day(Pad),
    YearDay(Pad),
    Hour24,
    Hour12(bool),
    Minute(bool),
    Second(bool),
    HalfDay(bool),
    /// Separator, digits, whether zeros at the end are left out.
    Fraction(&'a str, usize, bool),
    Offset(OffsetForm),
    ZoneName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pad {
    None,
    Zero,
    Blank,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OffsetForm {
    /// `Z` for UTC.
    z: bool,
    colon: bool,
    minutes: bool,
    seconds: bool,
}

struct Civil {
    year: i64,
    month: u32,
    day: u32,
    year_day: u32,
    week_day: usize,
    hour: u32,
    minute: u32,
    second: u32,
}

impl GoTime {
    pub(super) fn utc(seconds: i64, nanos: u32) -> Self {
        GoTime {
            seconds,
            nanos,
            offset: 0,
            zone: "UTC".to_owned(),
        }
    }

    pub(super) fn from_nanos(nanos: i64) -> Self {
        GoTime::utc(
            nanos.div_euclid(1_000_000_000),
            nanos.rem_euclid(1_000_000_000) as u32,
        )
    }

    /// The zero of Go's `time.Time`: the first of January of year 1.
    pub(super) fn zero() -> Self {
        GoTime::utc(days_of(1, 1, 1) * DAY_SECONDS, 0)
    }

    pub(super) fn in_zone(mut self, zone: &TimeZone) -> Self {
        if let Ok(timestamp) = jiff::Timestamp::from_second(self.seconds) {
            let info = zone.to_offset_info(timestamp);
            self.offset = info.offset().seconds();
            self.zone = info.abbreviation().to_owned();
        }
        self
    }

    /// Nanoseconds since 1970, kept within 64 bits.
    pub(super) fn unix_nanos(&self) -> i64 {
        let nanos = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos);
        nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// As Go prints a time.
    pub(super) fn show(&self) -> String {
        self.format("2006-01-02 15:04:05.999999999 -0700 MST")
    }

    /// Reads what [`show`](Self::show) writes.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (body, zone) = text.rsplit_once(' ')?;
        let mut time = parse("2006-01-02 15:04:05 -0700", body, &TimeZone::UTC)?;
        time.zone = zone.to_owned();
        Some(time)
    }

    pub(super) fn format(&self, layout: &str) -> String {
        let civil = self.civil();
        let mut out = String::with_capacity(layout.len() + 8);
        let mut rest = layout;
        while let Some((token, tail)) = next_token(rest) {
            self.write(&mut out, token, &civil);
            rest = tail;
        }
        out
    }

    fn civil(&self) -> Civil {
        let local = self.seconds + i64::from(self.offset);
        let days = local.div_euclid(DAY_SECONDS);
        let second = local.rem_euclid(DAY_SECONDS) as u32;
        let (year, month, day) = civil_of(days);
        Civil {
            year,
            month,
            day,
            year_day: (days - days_of(year, 1, 1)) as u32 + 1,
            week_day: (days + 4).rem_euclid(7) as usize,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    fn write(&self, out: &mut String, token: Token<'_>, civil: &Civil) {
        let number = |value: u32, padded: bool| match padded {
            true => format!("{value:02}"),
            false => value.to_string(),
        };
        let text = match token {
            Token::Literal(text) => return out.push_str(text),
            Token::Year4 => format!("{:04}", civil.year),
            Token::Year2 => format!("{:02}", civil.year.rem_euclid(100)),
            Token::MonthName(long) => name(MONTHS[civil.month as usize - 1], long),
            Token::Month(padded) => number(civil.month, padded),
            Token::DayName(long) => name(DAYS[civil.week_day], long),
            Token::Day(Pad::Blank) => format!("{:2}", civil.day),
            Token::Day(pad) => number(civil.day, pad == Pad::Zero),
            Token::YearDay(Pad::Blank) => format!("{:3}", civil.year_day),
            Token::YearDay(_) => format!("{:03}", civil.year_day),
            Token::Hour24 => number(civil.hour, true),
            Token::Hour12(padded) => number((civil.hour + 11) % 12 + 1, padded),
            Token::Minute(padded) => number(civil.minute, padded),
            Token::Second(padded) => number(civil.second, padded),
            Token::HalfDay(upper) => match (civil.hour >= 12, upper) {
                (true, true) => "PM".to_owned(),
                (false, true) => "AM".to_owned(),
                (true, false) => "pm".to_owned(),
                (false, false) => "am".to_owned(),
            },
            Token::Fraction(separator, digits, trim) => {
                let all = format!("{:09}", self.nanos);
                let shown = &all[..digits.min(9)];
                match trim {
                    false => format!("{separator}{shown}"),
                    true => match shown.trim_end_matches('0') {
                        "" => return,
                        shown => format!("{separator}{shown}"),
                    },
                }
            }
            Token::Offset(form) => self.show_offset(form),
            Token::ZoneName if self.zone.is_empty() => self.show_offset(OffsetForm {
                z: false,
                colon: false,
                minutes: true,
                seconds: false,
            }),
            Token::ZoneName => self.zone.clone(),
        };
        out.push_str(&text);
    }

    fn show_offset(&self, form: OffsetForm) -> String {
        if form.z && self.offset == 0 {
            return "Z".to_owned();
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let seconds = self.offset.unsigned_abs();
        let colon = if form.colon { ":" } else { "" };
        let mut out = format!("{sign}{:02}", seconds / 3600);
        if form.minutes {
            out.push_str(&format!("{colon}{:02}", seconds / 60 % 60));
        }
        if form.seconds {
            out.push_str(&format!("{colon}{:02}", seconds % 60));
        }
        out
    }
}

fn name(long: &str, whole: bool) -> String {
    match whole {
        true => long.to_owned(),
        false => long[..3].to_owned(),
    }
}

/// Days since 1970 of a date of the Gregorian calendar, which is taken to have been in use always.
/// Counts in years that begin in March, so that the leap day is the last.
fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_of_year = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_of_year + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_of(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_of_year = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_of_year + 2) / 5 + 1) as u32;
    let month = ((month_of_year + 2) % 12 + 1) as u32;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// The next token of a layout and what follows; `None` at its end.
fn next_token(layout: &str) -> Option<(Token<'_>, &str)> {
    if layout.is_empty() {
        return None;
    }
    if let Some(found) = token_at(layout) {
        return Some(found);
    }
    let end = layout
        .char_indices()
        .skip(1)
        .find(|(at, _)| token_at(&layout[*at..]).is_some())
        .map_or(layout.len(), |(at, _)| at);
    Some((Token::Literal(&layout[..end]), &layout[end..]))
}

/// The token with which the text starts, longest forms first.
fn token_at(text: &str) -> Option<(Token<'_>, &str)> {
    let offset = |z, colon, minutes, seconds| {
        Token::Offset(OffsetForm {
            z,
            colon,
            minutes,
            seconds,
        })
    };
    let forms = [
        ("January", Token::MonthName(true)),
        ("Jan", Token::MonthName(false)),
        ("Monday", Token::DayName(true)),
        ("Mon", Token::DayName(false)),
        ("MST", Token::ZoneName),
        ("2006", Token::Year4),
        ("-07:00:00", offset(false, true, true, true)),
        ("-07:00", offset(false, true, true, false)),
        ("-070000", offset(false, false, true, true)),
        ("-0700", offset(false, false, true, false)),
        ("-07", offset(false, false, false, false)),
        ("Z07:00:00", offset(true, true, true, true)),
        ("Z07:00", offset(true, true, true, false)),
        ("Z070000", offset(true, false, true, true)),
        ("Z0700", offset(true, false, true, false)),
        ("Z07", offset(true, false, false, false)),
        ("002", Token::YearDay(Pad::Zero)),
        ("__2", Token::YearDay(Pad::Blank)),
        ("01", Token::Month(true)),
        ("02", Token::Day(Pad::Zero)),
        ("03", Token::Hour12(true)),
        ("04", Token::Minute(true)),
        ("05", Token::Second(true)),
        ("06", Token::Year2),
        ("15", Token::Hour24),
        ("_2", Token::Day(Pad::Blank)),
        ("PM", Token::HalfDay(true)),
        ("pm", Token::HalfDay(false)),
        ("1", Token::Month(false)),
        ("2", Token::Day(Pad::None)),
        ("3", Token::Hour12(false)),
        ("4", Token::Minute(false)),
        ("5", Token::Second(false)),
    ];
    if let Some(found) = fraction_at(text) {
        return Some(found);
    }
    // `_2006` is a literal `_` before a year, and `Janitor` is no month.
    if text.starts_with("_2006") || (text.starts_with("Jan") && lower_follows(text, 3, "January")) {
        return None;
    }
    forms
        .iter()
        .find_map(|(form, token)| text.strip_prefix(form).map(|tail| (*token, tail)))
}

fn lower_follows(text: &str, at: usize, long: &str) -> bool {
    !text.starts_with(long) && text.as_bytes().get(at).is_some_and(u8::is_ascii_lowercase)
}

/// `.000`, `,999`: digits of the second's fraction, if no other digit follows.
fn fraction_at(text: &str) -> Option<(Token<'_>, &str)> {
    let (separator, digits) = text.split_at_checked(1)?;
    if !matches!(separator, "." | ",") {
        return None;
    }
    let digit = digits.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let count = digits.len() - digits.trim_start_matches(digit).len();
    let tail = &digits[count..];
    let more = tail.starts_with(|c: char| c.is_ascii_digit());
    (!more).then_some((Token::Fraction(separator, count, digit == '9'), tail))
}

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
pub(super) fn parse(layout: &str, text: &str, zone: &TimeZone) -> Option<GoTime> {
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

    fn finish(self, zone: &TimeZone) -> Option<GoTime> {
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
            let mut time = GoTime::utc(local - i64::from(offset), self.nanos);
            time.offset = offset;
            time.zone = match (self.zone, offset) {
                (Some(zone), _) => zone,
                (None, 0) => "UTC".to_owned(),
                (None, _) => String::new(),
            };
            return Some(time);
        }
        let mut seconds = local;
        // Local time to UTC: the offset at the guess, then the offset at the better guess.
        for _ in 0..2 {
            let guess = GoTime::utc(seconds, 0).in_zone(zone);
            seconds = local - i64::from(guess.offset);
        }
        Some(GoTime::utc(seconds, self.nanos).in_zone(zone))
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
