use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Event, Invariant};

/// All segments that one query reads are live in one and the same version of the catalog, and what
/// it counts twice it counts alike.
#[derive(Debug, Default)]
pub(crate) struct OneCatalogVersion {
    /// The versions that were seen, each with its live objects.
    versions: BTreeMap<u64, BTreeSet<Arc<str>>>,
    /// Who was asked, and whether others read there.
    asked: u64,
    alone: bool,
    /// What the query read, itself or by others.
    read: BTreeSet<String>,
    /// By run: what queries read that failed. Others of their reads may still be under way, and are
    /// tried again for whoever wants the object next.
    given_up: BTreeMap<u64, BTreeSet<String>>,
}

impl OneCatalogVersion {
    /// The versions, as narrow as is known, within which the object was live: after the first, before
    /// the second. Versions that nobody saw may be on either side.
    fn life_of(&self, path: &str) -> Option<(u64, u64)> {
        let live = |(_, paths): &(&u64, &BTreeSet<Arc<str>>)| paths.contains(path);
        let first = *self.versions.iter().find(live)?.0;
        let last = *self.versions.iter().rev().find(live)?.0;
        let before = self.versions.range(..first).next_back();
        let after = self.versions.range(last + 1..).next();
        let before = before.map_or(0, |(version, _)| *version);
        Some((before, after.map_or(u64::MAX, |(version, _)| *version)))
    }
}

impl Invariant for OneCatalogVersion {
    fn name(&self) -> &'static str {
        "one_catalog_version"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Shows { catalog, .. } => {
                let live = catalog.segments.values();
                let paths = live.map(|segment| Arc::clone(&segment.path));
                self.versions
                    .entry(catalog.version)
                    .or_insert_with(|| paths.collect());
            }
            Event::QueryBegins { life, alone, .. } => {
                self.asked = *life;
                self.alone = *alone;
                self.read.clear();
            }
            Event::ReadsForOthers { life } if *life == self.asked => self.alone = false,
            Event::Read { life, path } if *life == self.asked => {
                self.read.insert(path.clone());
            }
            // A share of somebody else's query; it may be under way when that has failed.
            Event::Read { life, path } => {
                let given_up = self.given_up.entry(*life).or_default();
                given_up.insert(path.clone());
            }
            Event::QueryFailed => {
                let given_up = self.given_up.entry(self.asked).or_default();
                given_up.append(&mut self.read);
            }
            Event::Counted { once, again, .. } if once != again => {
                return Err(format!(
                    "one query counts {once} records, and {again} when it looks again"
                ));
            }
            Event::Found { .. } | Event::Counted { .. } if self.alone => {
                let given_up = self.given_up.get(&self.asked);
                let read = self.read.iter();
                let read = read.filter(|path| given_up.is_none_or(|g| !g.contains(*path)));
                let lives = read.filter_map(|path| {
                    let life = self.life_of(path)?;
                    Some((path, life))
                });
                let lives: Vec<_> = lives.collect();
                let latest = lives.iter().max_by_key(|(_, (after, _))| *after);
                let first_gone = lives.iter().min_by_key(|(_, (_, before))| *before);
                if let (Some((new, (after, _))), Some((old, (_, before)))) = (latest, first_gone)
                    && after + 1 >= *before
                {
                    return Err(format!(
                        "one answer has read {new}, live after version {after} only, and {old}, live before version {before} only"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
