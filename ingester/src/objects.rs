use model::{Signal, Timestamp};

/// Folder of all segments of a cluster. Whoever looks for objects that no catalog names looks in
/// here alone: those of another cluster in the same bucket, or of the one before whose catalog was
/// lost, are not its to delete.
pub(crate) fn folder(cluster: &str) -> String {
    format!("segments/{cluster}/")
}

/// Path of a new segment: `segments/<cluster>/<signal>/<day it is written>/<unique>.seg`. `unique`
/// must differ for every object that this ingester ever writes at the same nanosecond.
pub(crate) fn path(
    cluster: &str,
    signal: Signal,
    now: Timestamp,
    ingester: u64,
    unique: &str,
) -> String {
    let (folder, day) = (folder(cluster), day_text(now));
    let signal = signal.as_str();
    format!("{folder}{signal}/{day}/{ingester}-{unique}-{now:x}.seg")
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
    fn a_path_names_cluster_signal_day_and_writer() {
        assert_eq!(
            path("c1", Signal::Logs, 86_400_000_000_000, 3, "h7-0"),
            "segments/c1/logs/1970-01-02/3-h7-0-4e94914f0000.seg"
        );
    }
}
