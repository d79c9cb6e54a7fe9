//! A catalog made of objects alone, when nothing else is left.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rpc::{Catalog, Command, SegmentMeta, SwapCommit};

use crate::state::fault_of;

/// Segments that one command adds: some hundred KiB.
const SEGMENTS_PER_COMMAND: usize = 500;

/// What [`rebuild`] makes of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// To be proposed in this order.
    pub commands: Vec<Command>,
    /// Objects that the catalog names already, as live ones or as replaced ones.
    pub known: usize,
    /// Paths that cannot be segments, with the reason.
    pub refused: Vec<(String, &'static str)>,
}

/// The commands by which a catalog holds these objects besides what it holds, oldest first; their
/// `id`s do not matter.
///
/// What merges had replaced and nobody had deleted yet comes back beside what replaced it, and what
/// was stored for heads that are in a log still comes beside what they will be stored as: readers and
/// merges drop the copies. Settings of tenants and delete requests are not in objects: those that the
/// catalog has hold for the objects too, others are gone.
pub fn rebuild(catalog: &Catalog, mut objects: Vec<SegmentMeta>) -> Rebuilt {
    let mut rebuilt = Rebuilt::default();
    let live: HashSet<&str> = catalog.segments.values().map(|s| &*s.path).collect();
    objects.retain(|object| {
        let path = &*object.path;
        let known = live.contains(path) || catalog.condemned.contains_key(path);
        rebuilt.known += usize::from(known);
        !known
    });
    objects.sort_by(|a, b| (a.created, &a.path).cmp(&(b.created, &b.path)));
    let mut paths = HashSet::new();
    objects.retain(|object| {
        let fault = match paths.insert(Arc::clone(&object.path)) {
            true => fault_of(object),
            false => Some("is named twice"),
        };
        if let Some(fault) = fault {
            rebuilt.refused.push((object.path.to_string(), fault));
        }
        fault.is_none()
    });
    let commands = objects.chunks(SEGMENTS_PER_COMMAND).map(|segments| {
        Command::SwapSegments(SwapCommit {
            remove: Vec::new(),
            add: segments.to_vec(),
            deleted: BTreeSet::new(),
            delete_after: 0,
        })
    });
    rebuilt.commands = commands.collect();
    rebuilt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateMachine;
    use crate::testing::segment;

    #[test]
    fn an_empty_catalog_gets_every_object_oldest_first() {
        let objects = (0..1200).map(|at| SegmentMeta {
            created: 5000 - at,
            ..segment(&format!("segments/{at}"), &["a"])
        });
        let rebuilt = rebuild(&Catalog::default(), objects.collect());
        assert_eq!((rebuilt.commands.len(), rebuilt.refused.len()), (3, 0));
        let mut machine = StateMachine::default();
        for command in &rebuilt.commands {
            machine.apply(command).unwrap();
        }
        let catalog = machine.catalog();
        assert_eq!(catalog.segments.len(), 1200);
        let created: Vec<_> = catalog.segments.values().map(|s| s.created).collect();
        assert!(created.is_sorted());
        assert!(catalog.condemned.is_empty());
    }

    #[test]
    fn what_is_no_segment_is_named_and_left_out() {
        let objects = vec![
            segment("a", &["t"]),
            segment("b", &[]),
            segment("a", &["t"]),
        ];
        let rebuilt = rebuild(&Catalog::default(), objects);
        let refused = [
            ("a".to_owned(), "is named twice"),
            ("b".to_owned(), "holds no tenant"),
        ];
        assert_eq!(rebuilt.refused, refused);
        let mut machine = StateMachine::default();
        machine.apply(&rebuilt.commands[0]).unwrap();
        assert_eq!(machine.catalog().segments.len(), 1);
    }

    #[test]
    fn what_the_catalog_names_is_left_as_it_is() {
        let mut machine = StateMachine::default();
        let all = || ["a", "b", "c"].map(|path| segment(path, &["t"])).to_vec();
        let first = rebuild(machine.catalog(), all()[..2].to_vec());
        machine.apply(&first.commands[0]).unwrap();
        let replaced = Command::SwapSegments(SwapCommit {
            remove: vec![rpc::SegmentId(1)],
            add: Vec::new(),
            deleted: BTreeSet::new(),
            delete_after: 5,
        });
        machine.apply(&replaced).unwrap();
        let again = rebuild(machine.catalog(), all());
        assert_eq!((again.known, again.refused.len()), (2, 0));
        machine.apply(&again.commands[0]).unwrap();
        let live = machine.catalog().segments.values();
        assert_eq!(live.map(|s| &*s.path).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(rebuild(machine.catalog(), all()).commands, []);
    }

    #[test]
    fn nothing_needs_no_command() {
        assert_eq!(rebuild(&Catalog::default(), Vec::new()), Rebuilt::default());
    }
}
