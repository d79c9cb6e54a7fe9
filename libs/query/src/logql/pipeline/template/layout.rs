//! Times by layouts in Go's form, in which `2006-01-02 15:04:05` says how a time is written.

mod read;

use super::location::Location;

pub(super) use self::read::parse;

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
    pub(super) location: Location,
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
            location: Location::Utc,
        }
    }

    /// So many nanoseconds since 1970, local time.
    pub(super) fn from_nanos(nanos: i64) -> Self {
        let seconds = nanos.div_euclid(1_000_000_000);
        let nanos = nanos.rem_euclid(1_000_000_000) as u32;
        GoTime::utc(seconds, nanos).at(&Location::Local)
    }

    /// The zero of Go's `time.Time`: the first of January of year 1.
    pub(super) fn zero() -> Self {
        GoTime::utc(days_of(1, 1, 1) * DAY_SECONDS, 0)
    }

    /// The same moment, shown elsewhere.
    pub(super) fn at(mut self, location: &Location) -> Self {
        if let Some((offset, zone, _)) = location.at(self.seconds) {
            (self.offset, self.zone) = (offset, zone);
        }
        self.location = location.clone();
        self
    }

    /// The moment at which clocks there show these seconds since 1970.
    pub(super) fn shown_as(local: i64, nanos: u32, location: &Location) -> Self {
        let mut seconds = local;
        // Local time to UTC: the offset at the guess, then the offset at the better guess.
        for _ in 0..2 {
            let guess = GoTime::utc(seconds, 0).at(location);
            seconds = local - i64::from(guess.offset);
        }
        GoTime::utc(seconds, nanos).at(location)
    }

    /// As Go's source would say it.
    pub(super) fn as_source(&self) -> String {
        let civil = self.civil();
        format!(
            "time.Date({}, time.{}, {}, {}, {}, {}, {}, {})",
            civil.year,
            MONTHS[civil.month as usize - 1],
            civil.day,
            civil.hour,
            civil.minute,
            civil.second,
            self.nanos,
            self.location.as_source()
        )
    }

    /// As RFC 3339 writes it; `None` when the year has more than four digits.
    pub(super) fn rfc3339(&self) -> Option<String> {
        let in_range = (0..10_000).contains(&self.civil().year);
        in_range.then(|| self.format("2006-01-02T15:04:05.999999999Z07:00"))
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

    /// Days since 1970 where the time is shown.
    pub(super) fn local_days(&self) -> i64 {
        (self.seconds + i64::from(self.offset)).div_euclid(DAY_SECONDS)
    }

    /// Later by years, months and days of the calendar; the 31st of a month of 30 days is the
    /// first of the next.
    pub(super) fn add_date(&self, years: i64, months: i64, days: i64) -> Self {
        const YEARS_MAX: i64 = 1_000_000;
        let civil = self.civil();
        let months = i128::from(civil.year) * 12
            + i128::from(civil.month - 1)
            + i128::from(years) * 12
            + i128::from(months);
        let limit = i128::from(YEARS_MAX) * 12;
        let months = months.clamp(-limit, limit) as i64;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
        let days = days.clamp(-365 * YEARS_MAX, 365 * YEARS_MAX) + i64::from(civil.day) - 1;
        let moved = days_of(year, month, 1) + days - self.local_days();
        let local = self.seconds + i64::from(self.offset) + moved * DAY_SECONDS;
        GoTime::shown_as(local, self.nanos, &self.location)
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

/// From 1.
pub(super) fn month_name(month: u8) -> &'static str {
    MONTHS[usize::from(month.saturating_sub(1)).min(11)]
}

/// From Sunday, 0.
pub(super) fn day_name(day: u8) -> &'static str {
    DAYS[usize::from(day).min(6)]
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
