use model::{Signal, Timestamp};

/// Folder of all segments.
pub(crate) const FOLDER: &str = "segments/";

/// Path of a new segment: `segments/<signal>/<day it is written>/<unique>.seg`. `unique` must differ
/// for every object that this ingester ever writes at the same nanosecond.
pub(crate) fn path(signal: Signal, now: Timestamp, ingester: u64, unique: &str) -> String {
    let day = day_text(now);
    let signal = signal.as_str();
    format!("{FOLDER}{signal}/{day}/{ingester}-{unique}-{now:x}.seg")
}

/// `yyyy-mm-dd`, UTC.
fn day_text(now: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(now)).map_or_else(
        |_| "undated".to_owned(),
        |time| time.strftime("%Y-%m-%d").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_signal_day_and_writer() {
        assert_eq!(
            path(Signal::Logs, 86_400_000_000_000, 3, "h7-0"),
            "segments/logs/1970-01-02/3-h7-0-4e94914f0000.seg"
        );
    }
}
