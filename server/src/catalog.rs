//! A catalog made of objects alone: `/admin/api/v1/catalog/rebuild`, and `pharos catalog`, which asks it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::{Args, Subcommand};
use ingester::{StorageClock, clusters_in, survey};
use meta::{Node, rebuild};
use rpc::{Catalog, MetaApi};
use serde::{Deserialize, Serialize};
use store::{ObjectInfo, ObjectStorage};

use crate::admin::answer;
use crate::ring::{Asked, ask, block_on};

/// A folder that was written to within this time may be another cluster's that is at work.
const QUIET_NANOS: i64 = 600 * model::NANOS_PER_SECOND;

/// What the route works with.
#[derive(Clone)]
pub(crate) struct Rebuilding {
    pub(crate) node: Node,
    pub(crate) storage: ObjectStorage,
    /// The number of the own cluster.
    pub(crate) cluster: Arc<str>,
    /// By it the objects are young or old, as they are for those who remove left-overs.
    pub(crate) clock: StorageClock,
    /// Younger objects of the own cluster may be about to be named.
    pub(crate) orphan_age: Duration,
}

/// Parameters of the route.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    from: Option<String>,
    force: bool,
}

/// What a rebuild does, or would do.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Report {
    /// The cluster whose catalog it is.
    cluster: String,
    /// The cluster whose objects are looked at.
    from: String,
    /// Whether the catalog was changed.
    applied: bool,
    /// Segments in the catalog before.
    segments_before: u64,
    objects: u64,
    object_bytes: u64,
    /// When the newest of them was written, RFC 3339.
    newest: String,
    /// Objects that the catalog names already.
    known: u64,
    /// Objects that come into the catalog.
    added: u64,
    added_bytes: u64,
    /// What they hold, by tenant.
    tenants: BTreeMap<String, Records>,
    /// Objects that cannot come into it, with the reason.
    left_out: BTreeMap<String, String>,
    /// Why `--apply` is refused without `--force`.
    objections: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Records {
    segments: u64,
    records: u64,
    /// Times of the earliest and the latest record, RFC 3339.
    first: String,
    last: String,
}

/// `GET` shows what a rebuild would do, `POST` does it.
pub(crate) fn router(rebuilding: Rebuilding) -> Router {
    Router::new()
        .route("/admin/api/v1/catalog/rebuild", get(show).post(apply))
        .with_state(rebuilding)
}

async fn show(State(on): State<Rebuilding>, Query(wanted): Query<Wanted>) -> Response {
    done(on.run(&wanted, false).await)
}

async fn apply(State(on): State<Rebuilding>, Query(wanted): Query<Wanted>) -> Response {
    done(on.run(&wanted, true).await)
}

fn done(report: Result<Report, rpc::Error>) -> Response {
    match report {
        Ok(report) => (StatusCode::OK, Json(report)).into_response(),
        Err(error) => answer(Err(error)),
    }
}

impl Rebuilding {
    async fn run(&self, wanted: &Wanted, apply: bool) -> Result<Report, rpc::Error> {
        let mut clusters = clusters_in(&self.storage).await?;
        let from = choose(&self.cluster, wanted.from.as_deref(), &clusters)?;
        let mut objects = clusters.remove(&from).unwrap_or_default();
        let now = self.clock.now().await?;
        let catalog = self.node.catalog();
        let newest = objects.iter().map(|object| object.modified).max();
        let newest = newest.unwrap_or_default();
        let mut report = Report {
            cluster: self.cluster.to_string(),
            segments_before: catalog.segments.len() as u64,
            objects: objects.len() as u64,
            object_bytes: objects.iter().map(|object| object.bytes).sum(),
            newest: text_of(newest),
            ..Report::default()
        };
        let own = from == *self.cluster;
        let foreign = (!own).then_some((from.as_str(), wanted.from.is_some()));
        report.objections = objections(catalog.segments.len(), foreign, newest, now);
        if own {
            let age = i64::try_from(self.orphan_age.as_nanos()).unwrap_or(i64::MAX);
            let young = take_young(&mut objects, &catalog, now.saturating_sub(age));
            let why = "too young: a flush or a merge may be about to name it";
            let left_out = young.into_iter().map(|path| (path, why.to_owned()));
            report.left_out.extend(left_out);
        }
        report.from = from;
        let found = survey(&self.storage, objects).await?;
        let rebuilt = rebuild(&catalog, found.segments);
        report.left_out.extend(found.unreadable);
        let refused = rebuilt.refused.into_iter();
        report
            .left_out
            .extend(refused.map(|(path, why)| (path, why.to_owned())));
        report.known = rebuilt.known as u64;
        report.count(&rebuilt.commands);
        if !apply {
            return Ok(report);
        }
        if !wanted.force && !report.objections.is_empty() {
            let why = report.objections.join("; ");
            return Err(rpc::Error::Conflict(format!(
                "{why}: nothing was changed; ask again with force when that is meant"
            )));
        }
        for command in rebuilt.commands {
            self.node.propose(command).await?;
        }
        report.applied = true;
        tracing::info!(
            from = report.from,
            segments = report.added,
            "rebuilt the catalog"
        );
        Ok(report)
    }
}

impl Report {
    fn count(&mut self, commands: &[rpc::Command]) {
        let mut times = BTreeMap::<String, (i64, i64)>::new();
        for command in commands {
            let rpc::Command::SwapSegments(swap) = command else {
                continue;
            };
            for segment in &swap.add {
                self.added += 1;
                self.added_bytes += segment.object_bytes;
                for tenant in &segment.tenants {
                    let name = tenant.tenant.to_string();
                    let of_tenant = self.tenants.entry(name.clone()).or_default();
                    of_tenant.segments += 1;
                    of_tenant.records += tenant.records;
                    let (first, last) = times.entry(name).or_insert((tenant.first, tenant.last));
                    *first = tenant.first.min(*first);
                    *last = tenant.last.max(*last);
                }
            }
        }
        for (name, (first, last)) in times {
            if let Some(of_tenant) = self.tenants.get_mut(&name) {
                (of_tenant.first, of_tenant.last) = (text_of(first), text_of(last));
            }
        }
    }
}

/// Whose objects: those of the cluster that was named, of the only other one, or the own.
fn choose(
    own: &str,
    named: Option<&str>,
    clusters: &BTreeMap<String, Vec<ObjectInfo>>,
) -> Result<String, rpc::Error> {
    let list = || {
        let texts = clusters.iter().map(|(cluster, objects)| {
            let newest = objects.iter().map(|object| object.modified).max();
            let newest = text_of(newest.unwrap_or_default());
            format!("{cluster} ({} objects, newest {newest})", objects.len())
        });
        texts.collect::<Vec<_>>().join(", ")
    };
    if let Some(named) = named {
        return match clusters.contains_key(named) {
            true => Ok(named.to_owned()),
            false => Err(rpc::Error::NotFound(format!(
                "the storage has no objects of cluster {named:?}; it has those of: {}",
                list()
            ))),
        };
    }
    let mut others = clusters.keys().filter(|cluster| *cluster != own);
    match (others.next(), others.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(rpc::Error::Conflict(format!(
            "the storage has objects of several clusters; name one with from: {}",
            list()
        ))),
        (None, _) if clusters.contains_key(own) => Ok(own.to_owned()),
        (None, _) => Err(rpc::Error::NotFound(
            "the storage has no segments of any cluster".to_owned(),
        )),
    }
}

/// Takes out, and names, the objects that the catalog does not name and that are not older than `oldest`:
/// whoever stores one asks for its name until then, and nobody takes it for a left-over.
fn take_young(objects: &mut Vec<ObjectInfo>, catalog: &Catalog, oldest: i64) -> Vec<String> {
    let live: HashSet<&str> = catalog.segments.values().map(|s| &*s.path).collect();
    let young = objects.extract_if(.., |object| {
        let path = object.path.as_str();
        let named = live.contains(path) || catalog.condemned.contains_key(path);
        !named && object.modified >= oldest
    });
    young.map(|object| object.path).collect()
}

/// What speaks against changing the catalog. `foreign`: another cluster, whose objects it is about, and
/// whether it was asked for by name. `newest`: when the newest object was written, by the storage's
/// clock, as is `now`.
fn objections(
    segments: usize,
    foreign: Option<(&str, bool)>,
    newest: i64,
    now: i64,
) -> Vec<String> {
    let mut objections = Vec::new();
    if segments > 0 {
        objections.push(format!("the catalog has {segments} segments already"));
    }
    if let Some((cluster, false)) = foreign {
        objections.push(format!(
            "the objects are cluster {cluster}'s, which was not named with from: two clusters must not share objects"
        ));
    }
    if foreign.is_some() && newest > now.saturating_sub(QUIET_NANOS) {
        objections.push(format!(
            "the newest object was written at {}, so that its cluster may be at work still: two clusters must not share objects",
            text_of(newest)
        ));
    }
    objections
}

fn text_of(nanos: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos));
    time.map_or_else(|_| nanos.to_string(), |time| time.to_string())
}

/// Flags of `pharos catalog`.
#[derive(Debug, Args)]
pub(crate) struct CatalogArguments {
    #[command(flatten)]
    asked: Asked,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes the catalog of the objects in the storage, for a cluster whose disks are lost; shows what it would do, and
    /// changes nothing without --apply
    Rebuild {
        /// The cluster whose objects they are, by its number: the folder below `segments/`. Without it, the only one but
        /// the own
        #[arg(long, value_name = "CLUSTER")]
        from: Option<String>,
        /// Changes the catalog
        #[arg(long)]
        apply: bool,
        /// Changes it though it has segments already, though the objects are fresh, or though --from does not say whose
        /// they are
        #[arg(long)]
        force: bool,
    },
}

/// Asks, and prints the answer.
#[expect(clippy::print_stdout, reason = "it is the command's output")]
pub(crate) fn run(arguments: &CatalogArguments) -> anyhow::Result<()> {
    let Action::Rebuild { from, apply, force } = &arguments.action;
    let mut path = format!("/catalog/rebuild?force={force}");
    if let Some(from) = from {
        path = format!("{path}&from={from}");
    }
    let text = block_on(ask(&arguments.asked, &path, *apply, None))?;
    match arguments.asked.json {
        true => println!("{text}"),
        false => print!("{}", words(&serde_json::from_str(&text)?)),
    }
    Ok(())
}

fn words(report: &Report) -> String {
    let verb = match report.applied {
        true => "added",
        false => "would be added",
    };
    let mut text = format!(
        "cluster {} has {} segments in its catalog\n\
         objects of cluster {}: {}, {} bytes, newest {}\n\
         in the catalog already: {}\n\
         {verb}: {} segments, {} bytes\n",
        report.cluster,
        report.segments_before,
        report.from,
        report.objects,
        report.object_bytes,
        report.newest,
        report.known,
        report.added,
        report.added_bytes
    );
    for (tenant, records) in &report.tenants {
        text += &format!(
            "  tenant {tenant}: {} segments, {} records, {} to {}\n",
            records.segments, records.records, records.first, records.last
        );
    }
    for (path, why) in &report.left_out {
        text += &format!("left out: {path}: {why}\n");
    }
    if !report.applied {
        for objection in &report.objections {
            text += &format!("needs --force: {objection}\n");
        }
        text += "nothing was changed; --apply does it\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(names: &[&str]) -> BTreeMap<String, Vec<ObjectInfo>> {
        let object = ObjectInfo {
            path: String::new(),
            bytes: 1,
            modified: 0,
        };
        let named = names
            .iter()
            .map(|name| ((*name).to_owned(), vec![object.clone()]));
        named.collect()
    }

    #[test]
    fn the_only_other_cluster_is_meant_unless_one_is_named() {
        let chosen = |named, names: &[&str]| choose("own", named, &clusters(names));
        assert_eq!(chosen(None, &["old", "own"]).unwrap(), "old");
        assert_eq!(chosen(None, &["own"]).unwrap(), "own");
        assert_eq!(chosen(Some("own"), &["old", "own"]).unwrap(), "own");
        let several = chosen(None, &["a", "b"]).unwrap_err().to_string();
        assert!(several.contains("a (1 objects, newest 1970"), "{several}");
        assert!(chosen(Some("x"), &["a"]).is_err());
        assert!(chosen(None, &[]).is_err());
    }

    #[test]
    fn a_catalog_with_content_a_folder_in_use_and_one_not_named_need_force() {
        let named = Some(("old", true));
        assert_eq!(objections(0, named, 5, 5 + QUIET_NANOS), [""; 0]);
        assert_eq!(objections(0, None, 5, 5), [""; 0]);
        assert_eq!(objections(2, None, 5, 5).len(), 1);
        assert_eq!(objections(0, named, 5, 4 + QUIET_NANOS).len(), 1);
        let guessed = objections(0, Some(("old", false)), 5, 5 + QUIET_NANOS);
        assert_eq!(guessed.len(), 1);
        assert!(guessed[0].contains("cluster old's"), "{guessed:?}");
    }

    #[test]
    fn objects_that_may_be_about_to_be_named_are_left_alone() {
        let object = |path: &str, modified| ObjectInfo {
            path: path.to_owned(),
            bytes: 1,
            modified,
        };
        let mut catalog = Catalog::default();
        catalog.condemned.insert("named".into(), 0);
        let mut objects = vec![object("old", 9), object("young", 10), object("named", 10)];
        assert_eq!(take_young(&mut objects, &catalog, 10), ["young"]);
        let left: Vec<&str> = objects.iter().map(|object| &*object.path).collect();
        assert_eq!(left, ["old", "named"]);
    }

    #[test]
    fn what_would_be_done_is_said_in_words() {
        let mut report = Report {
            cluster: "new".to_owned(),
            from: "old".to_owned(),
            objects: 3,
            added: 2,
            objections: vec!["because".to_owned()],
            ..Report::default()
        };
        report.left_out.insert("x".to_owned(), "torn".to_owned());
        let text = words(&report);
        for part in [
            "would be added: 2 segments",
            "left out: x: torn",
            "needs --force: because",
            "nothing was changed",
        ] {
            assert!(text.contains(part), "{text}");
        }
        report.applied = true;
        assert!(!words(&report).contains("nothing was changed"));
    }
}
