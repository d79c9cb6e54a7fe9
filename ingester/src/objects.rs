use model::{NodeId, Signal, Timestamp};
use rpc::Catalog;

/// Folder of the segments of all clusters.
pub(crate) const ROOT: &str = "segments";

/// Folder of all segments of a cluster. Whoever looks for objects that no catalog names looks in
/// here alone: those of another cluster in the same bucket, or of the one before whose catalog was
/// lost, are not its to delete.
pub(crate) fn folder(cluster: &str) -> String {
    format!("{ROOT}/{cluster}/")
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

/// Folder of the objects that tell the storage's time. They are no segments, so that nobody takes one
/// for a left-over or for the content of a catalog.
pub(crate) fn probes(cluster: &str) -> String {
    format!("{}clocks", folder(cluster))
}

/// Path of a process' object that tells the storage's time; `user` is what it is asked for.
pub(crate) fn probe(cluster: &str, node: NodeId, user: &str) -> String {
    format!("{}/{}-{user}", probes(cluster), node.0)
}

/// Whether the catalog names an object, as a live one or as one that is deleted after a while.
pub(crate) fn is_named(catalog: &Catalog, path: &str) -> bool {
    catalog.condemned.contains_key(path) || catalog.segments.values().any(|s| &*s.path == path)
}

/// What the path of a segment tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    pub(crate) cluster: &'a str,
    /// `None` for a kind of data that is not known.
    pub(crate) signal: Option<Signal>,
    /// When it was written; `None` when the name does not say so.
    pub(crate) created: Option<Timestamp>,
    /// Whether a merge wrote it.
    pub(crate) merged: bool,
}

/// What [`path`] put into a path; `None` for what is no segment's.
pub(crate) fn parse(path: &str) -> Option<Named<'_>> {
    let (cluster, rest) = path
        .strip_prefix(ROOT)?
        .strip_prefix('/')?
        .split_once('/')?;
    let (signal, file) = (rest.split('/').next()?, rest.rsplit('/').next()?);
    let name = file.strip_suffix(".seg")?;
    let created = name.rsplit('-').next();
    Some(Named {
        cluster,
        signal: (signal == Signal::Logs.as_str()).then_some(Signal::Logs),
        created: created.and_then(|hex| Timestamp::from_str_radix(hex, 16).ok()),
        merged: name.split('-').nth(1)?.starts_with('m'),
    })
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

    #[test]
    fn a_path_tells_what_was_put_into_it() {
        for (unique, merged) in [("h7-0", false), ("m2f", true)] {
            let path = path("c1", Signal::Logs, 86_400_000_000_000, 3, unique);
            let named = Named {
                cluster: "c1",
                signal: Some(Signal::Logs),
                created: Some(86_400_000_000_000),
                merged,
            };
            assert_eq!(parse(&path), Some(named));
        }
        for stray in [
            "segments/c1/logs/x.txt",
            "segments/c1",
            "other/c1/logs/d/1-h-2.seg",
            &probe("c1", NodeId(3), "jobs"),
        ] {
            assert_eq!(parse(stray), None);
        }
    }
}
