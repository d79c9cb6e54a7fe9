//! One answer of many. Pure.

use std::collections::HashSet;

use model::BatchId;
use rpc::{Catalog, HeadBatches, Recent};

/// The heads of all answers with each batch once. A batch of which any copy is in a head that the
/// catalog covers is left out: it is in a segment, and the copies of the others will be covered, too.
pub(super) fn unite(answers: Vec<Recent>, catalog: &Catalog) -> Recent {
    let heads = answers.iter().flat_map(|recent| &recent.heads);
    let covered = heads.filter(|head| catalog.covers(head.head));
    let mut seen: HashSet<BatchId> = covered.flat_map(ids).collect();
    let mut united = Recent {
        version: catalog.version,
        ..Recent::default()
    };
    for mut head in answers.into_iter().flat_map(|recent| recent.heads) {
        head.batches.retain(|held| seen.insert(held.id));
        if !head.batches.is_empty() {
            united.heads.push(head);
        }
    }
    united
}

fn ids(head: &HeadBatches) -> impl Iterator<Item = BatchId> + '_ {
    head.batches.iter().map(|held| held.id)
}
