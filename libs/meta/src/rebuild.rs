//! A catalog made of objects alone, when nothing else is left.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rpc::{Command, SegmentMeta, SwapCommit};

use crate::state::fault_of;

/// Segments that one command adds: some hundred KiB.
const SEGMENTS_PER_COMMAND: usize = 500;

/// What [`rebuild`] makes of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// To be proposed in this order to a cluster that has no segments yet.
    pub commands: Vec<Command>,
    /// Paths that cannot be segments, with the reason.
    pub refused: Vec<(String, &'static str)>,
}

/// The commands by which an empty catalog holds these objects, oldest first; their `id`s do not
/// matter.
///
/// What merges had replaced and nobody had deleted yet comes back beside what replaced it: readers
/// and merges drop the copies. Settings of tenants and delete requests are not in objects, and so
/// are gone.
pub fn rebuild(mut objects: Vec<SegmentMeta>) -> Rebuilt {
    let mut rebuilt = Rebuilt::default();
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
        let rebuilt = rebuild(objects.collect());
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
        let rebuilt = rebuild(objects);
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
    fn nothing_needs_no_command() {
        assert_eq!(rebuild(Vec::new()), Rebuilt::default());
    }
}
