use std::collections::BTreeMap;

use super::{Event, Invariant};

/// Of each term at most one coordinator says that it leads.
#[derive(Debug, Default)]
pub(crate) struct OneLeaderPerTerm {
    leaders: BTreeMap<u64, u64>,
}

impl Invariant for OneLeaderPerTerm {
    fn name(&self) -> &'static str {
        "one_leader_per_term"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        let Event::Leads { term, node } = event else {
            return Ok(());
        };
        let leader = *self.leaders.entry(*term).or_insert(*node);
        match leader == *node {
            true => Ok(()),
            false => Err(format!(
                "nodes {leader} and {node} both lead in term {term}"
            )),
        }
    }
}
