//! The catalog as this process shows it, and the newest commands for those who follow.
//!
//! Two sources feed it: the replicated log when this process takes part in it, and the stream of
//! another process otherwise. Both give the same catalogs one after another, so that the newer of
//! the two is right whoever brought it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rpc::Catalog;
use tokio::sync::watch;

/// How much of the newest commands is kept for followers that come back after a short time. More
/// than an hour of a large cluster's flushes, at some hundred bytes each.
const RECENT_BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Replica {
    catalog: watch::Sender<Arc<Catalog>>,
    recent: Mutex<Recent>,
}

/// Commands without a gap; the last made the version that is shown.
#[derive(Debug, Default)]
struct Recent {
    commands: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

/// What follows a version.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Commands with the versions that they made; none when there is nothing new.
    Commands(Vec<(u64, Bytes)>),
    /// The commands are not there any more.
    Whole(Arc<Catalog>),
}

impl Default for Replica {
    fn default() -> Self {
        Replica {
            catalog: watch::Sender::new(Arc::default()),
            recent: Mutex::default(),
        }
    }
}

impl Replica {
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    /// A command made this catalog of the one before it; ignored unless it is newer.
    pub(crate) fn advance(&self, catalog: &Arc<Catalog>, command: &[u8]) {
        let mut recent = self.recent();
        let known = self.catalog.borrow().version;
        if catalog.version <= known {
            return;
        }
        if catalog.version != known + 1 {
            *recent = Recent::default();
        }
        recent.bytes += command.len();
        let command = Bytes::copy_from_slice(command);
        recent.commands.push_back((catalog.version, command));
        while recent.bytes > RECENT_BYTES_MAX
            && let Some((_, gone)) = recent.commands.pop_front()
        {
            recent.bytes -= gone.len();
        }
        self.catalog.send_replace(Arc::clone(catalog));
    }

    /// The catalog as a whole; ignored unless it is newer.
    pub(crate) fn replace(&self, catalog: &Arc<Catalog>) {
        let mut recent = self.recent();
        if catalog.version > self.catalog.borrow().version {
            *recent = Recent::default();
            self.catalog.send_replace(Arc::clone(catalog));
        }
    }

    /// What one who knows this version lacks. Somebody may know a newer one than this process.
    pub(crate) fn after(&self, version: u64) -> Next {
        let recent = self.recent();
        let catalog = self.catalog();
        if version >= catalog.version {
            return Next::Commands(Vec::new());
        }
        match recent.commands.front() {
            Some((first, _)) if *first <= version + 1 => {
                let known = usize::try_from(version + 1 - first).unwrap_or(usize::MAX);
                Next::Commands(recent.commands.iter().skip(known).cloned().collect())
            }
            _ => Next::Whole(catalog),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateMachine;
    use crate::testing::form;

    /// A replica to which these versions came one by one.
    fn replica(versions: u64) -> (Replica, Vec<Arc<Catalog>>) {
        let replica = Replica::default();
        let mut machine = StateMachine::default();
        let mut catalogs = vec![Arc::clone(machine.catalog())];
        for version in 1..=versions {
            machine.apply(&form()).unwrap();
            catalogs.push(Arc::clone(machine.catalog()));
            replica.advance(machine.catalog(), version.to_string().as_bytes());
        }
        (replica, catalogs)
    }

    fn versions(next: Next) -> Vec<u64> {
        match next {
            Next::Commands(commands) => commands.into_iter().map(|(version, _)| version).collect(),
            Next::Whole(catalog) => panic!("the whole catalog {}", catalog.version),
        }
    }

    #[test]
    fn who_comes_back_gets_what_it_lacks() {
        let (replica, _) = replica(3);
        assert_eq!(versions(replica.after(0)), [1, 2, 3]);
        assert_eq!(versions(replica.after(2)), [3]);
        assert_eq!(versions(replica.after(3)), [0; 0]);
        assert_eq!(versions(replica.after(9)), [0; 0]);
    }

    #[test]
    fn who_was_away_for_too_long_gets_the_whole_catalog() {
        let (from_start, catalogs) = replica(3);
        let replica = Replica::default();
        replica.replace(&catalogs[2]);
        assert_eq!(
            replica.after(1),
            Next::Whole(Arc::clone(&catalogs[2])),
            "its commands were never here"
        );
        replica.advance(&catalogs[3], b"3");
        assert_eq!(versions(replica.after(2)), [3]);
        assert_eq!(replica.after(1), Next::Whole(Arc::clone(&catalogs[3])));
        assert_eq!(replica.catalog(), from_start.catalog());
    }

    #[test]
    fn old_commands_make_room_for_new_ones() {
        let (_, catalogs) = replica(3);
        let replica = Replica::default();
        let large = vec![0; RECENT_BYTES_MAX / 2 + 1];
        for catalog in &catalogs[1..] {
            replica.advance(catalog, &large);
        }
        assert_eq!(versions(replica.after(2)), [3]);
        assert_eq!(replica.after(1), Next::Whole(Arc::clone(&catalogs[3])));
    }

    #[test]
    fn what_is_shown_never_goes_back() {
        let (replica, catalogs) = replica(3);
        replica.advance(&catalogs[2], b"2");
        replica.replace(&catalogs[1]);
        assert_eq!(replica.catalog().version, 3);
        assert_eq!(versions(replica.after(1)), [2, 3]);
    }
}
