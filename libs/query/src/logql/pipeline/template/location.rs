//! Where times are shown. Local time is UTC under another name.

use std::sync::Arc;

use jiff::tz::TimeZone;

/// Go's `*time.Location`.
#[derive(Clone, Debug)]
pub(super) enum Location {
    Utc,
    Local,
    Zone(Arc<TimeZone>),
    /// Seconds east of UTC, and what that is called; empty when only the offset is known.
    Fixed(i32, Arc<str>),
}

/// As Go compares pointers: each that is loaded or read is another one.
impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Location::Utc, Location::Utc) | (Location::Local, Location::Local) => true,
            (Location::Zone(a), Location::Zone(b)) => Arc::ptr_eq(a, b),
            (Location::Fixed(_, a), Location::Fixed(_, b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for Location {}

impl Location {
    /// By its name in the database of time zones; without one it is UTC.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "" | "UTC" => Location::Utc,
            "Local" => Location::Local,
            name => match TimeZone::get(name) {
                Ok(zone) => Location::Zone(Arc::new(zone)),
                Err(_) => Location::Utc,
            },
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Location::Utc => "UTC",
            Location::Local => "Local",
            Location::Zone(zone) => zone.iana_name().unwrap_or_default(),
            Location::Fixed(_, name) => name,
        }
    }

    /// Seconds east of UTC at a time, seconds since 1970, what the zone is called then, and whether
    /// it is summer time. `None` at times that are in no database.
    pub(super) fn at(&self, seconds: i64) -> Option<(i32, String, bool)> {
        match self {
            Location::Utc | Location::Local => Some((0, "UTC".to_owned(), false)),
            Location::Fixed(offset, name) => Some((*offset, name.to_string(), false)),
            Location::Zone(zone) => {
                let timestamp = jiff::Timestamp::from_second(seconds).ok()?;
                let info = zone.to_offset_info(timestamp);
                let offset = info.offset().seconds();
                Some((offset, info.abbreviation().to_owned(), info.dst().is_dst()))
            }
        }
    }

    /// As Go's source would say it.
    pub(super) fn as_source(&self) -> String {
        match self {
            Location::Utc => "time.UTC".to_owned(),
            Location::Local => "time.Local".to_owned(),
            other => format!("time.Location({:?})", other.name()),
        }
    }
}
