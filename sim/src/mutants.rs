//! What is wrong on purpose, to see that an invariant notices. All of it is at the borders of a
//! process, so that the programs stay as they are: what they are told of each other is wrong.

use std::sync::Arc;

use rpc::{Catalog, Command, Recent};

/// A fault that is no accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mutant {
    /// Whoever ends a delete request is told that others hold nothing.
    FinishEarly,
    /// No ingester ever sees that a delete request is closed.
    NeverClosed,
    /// Nobody waits for copies that may be on their way when a delete request ends.
    ForgetCopies,
    /// Whoever opens a request again that was closed gets no answer.
    StayClosed,
    /// Ingesters answer with what they hold of all tenants.
    ForeignHeads,
}

impl Mutant {
    /// What an ingester is told by another one.
    pub(crate) fn between_ingesters(self, mut recent: Recent) -> Recent {
        if self == Mutant::FinishEarly {
            recent.heads.clear();
        }
        recent
    }

    /// Whether a command of a role comes nowhere.
    pub(crate) fn swallows(self, command: &Command) -> bool {
        self == Mutant::StayClosed && matches!(command, Command::ReopenDelete(..))
    }

    /// What a role is told by its coordinator.
    pub(crate) fn catalog(self, catalog: Arc<Catalog>) -> Arc<Catalog> {
        let closed = catalog.deletes.values().any(|d| d.closed.is_some());
        if self != Mutant::NeverClosed || !closed {
            return catalog;
        }
        let mut open = Catalog::clone(&catalog);
        for delete in open.deletes.values_mut() {
            Arc::make_mut(delete).closed = None;
        }
        Arc::new(open)
    }
}
