//! Goal: what is written is exactly what no segment holds, and a head is covered only when all of
//! its batches are stored. Method: tables of what three owners hold.

use model::{LogBatchBuilder, RingVersion, Shard, Slot, TenantId};

use super::*;

fn ids(numbers: &[u128]) -> Vec<BatchId> {
    numbers.iter().map(|number| BatchId(*number)).collect()
}

fn held(numbers: &[u128]) -> Vec<HeldBatch> {
    let batches = numbers.iter().map(|number| HeldBatch {
        id: BatchId(*number),
        batch: Arc::new(LogBatchBuilder::new(TenantId::default()).finish()),
    });
    batches.collect()
}

fn head(ingester: u64, sequence: u64) -> HeadId {
    HeadId { ingester, sequence }
}

fn sealed(ingester: u64, sequence: u64, numbers: &[u128]) -> SealedHead {
    SealedHead {
        head: head(ingester, sequence),
        ids: ids(numbers),
    }
}

fn gathering(own: &[u128], flushed: &[u128]) -> Gathering {
    Gathering::new(FlushJob {
        key: HeadKey {
            shard: Shard(0),
            slot: Slot(0),
            ring: RingVersion(1),
        },
        heads: vec![head(1, 1)],
        digest: Digest::default(),
        batches: held(own),
        flushed: ids(flushed),
        others: vec![NodeId(2), NodeId(3)],
        attempt: 0,
    })
}

fn answer(heads: Vec<SealedHead>, flushed: &[u128]) -> Reconciled {
    Reconciled {
        heads,
        flushed: ids(flushed),
    }
}

fn digest(numbers: &[u128]) -> Digest {
    let mut digest = Digest::default();
    for id in ids(numbers) {
        digest.add(id);
    }
    digest
}

#[track_caller]
fn check(write: &Write, written: &[u128], heads: &[(u64, u64)]) {
    assert_eq!(write.digest, digest(written));
    assert_eq!(write.batches.len(), written.len());
    let heads: Vec<HeadId> = heads.iter().map(|(i, s)| head(*i, *s)).collect();
    assert_eq!(write.heads, heads);
}

/// An answer, where the catalog covers nothing.
fn reconciled(g: &mut Gathering, other: NodeId, answer: Reconciled) {
    g.reconciled(other, answer, &Catalog::default());
}

#[test]
fn equal_owners_are_covered_without_pulling() {
    let mut g = gathering(&[1, 2, 3], &[]);
    reconciled(
        &mut g,
        NodeId(2),
        answer(vec![sealed(2, 7, &[3, 2, 1])], &[]),
    );
    reconciled(
        &mut g,
        NodeId(3),
        answer(vec![sealed(3, 4, &[1]), sealed(3, 5, &[2, 3])], &[]),
    );
    assert!(g.wanted().is_empty() && g.next_pull(100).is_none());
    let write = g.finish();
    check(&write, &[1, 2, 3], &[(1, 1), (2, 7), (3, 4), (3, 5)]);
    assert!(write.stored.is_empty());
}

#[test]
fn what_only_others_have_is_pulled_from_whom_has_it() {
    let mut g = gathering(&[1], &[]);
    reconciled(&mut g, NodeId(2), answer(vec![sealed(2, 7, &[1, 2])], &[]));
    reconciled(
        &mut g,
        NodeId(3),
        answer(vec![sealed(3, 4, &[1, 2, 3])], &[]),
    );
    assert_eq!(g.wanted(), ids(&[2, 3]));
    assert_eq!(g.next_pull(100), Some((NodeId(2), ids(&[2]))));
    g.pulled(NodeId(2), Vec::new());
    assert_eq!(
        g.next_pull(100),
        Some((NodeId(3), ids(&[2, 3]))),
        "the next has it too"
    );
    g.pulled(NodeId(3), held(&[2]));
    assert_eq!(
        g.next_pull(100),
        Some((NodeId(3), ids(&[3]))),
        "a part: asked again"
    );
    g.pulled(NodeId(3), held(&[3]));
    assert_eq!(g.next_pull(100), None);
    let write = g.finish();
    check(&write, &[1, 2, 3], &[(1, 1), (2, 7), (3, 4)]);
    assert_eq!((write.stored, write.pulled), (ids(&[2, 3]), 2));
}

#[test]
fn a_head_of_which_a_batch_is_missing_is_not_covered() {
    let mut g = gathering(&[1], &[]);
    reconciled(
        &mut g,
        NodeId(2),
        answer(vec![sealed(2, 7, &[1]), sealed(2, 8, &[1, 2])], &[]),
    );
    g.pulled(NodeId(2), Vec::new());
    assert_eq!(g.next_pull(100), None);
    check(&g.finish(), &[1], &[(1, 1), (2, 7)]);
}

#[test]
fn no_more_than_so_many_bytes_are_pulled() {
    let mut g = gathering(&[1], &[]);
    reconciled(&mut g, NodeId(2), answer(vec![sealed(2, 7, &[2, 3])], &[]));
    let bytes = held(&[2])[0].batch.memory_bytes();
    g.pulled(NodeId(2), held(&[2]));
    assert!(g.next_pull(bytes + 1).is_some());
    assert_eq!(g.next_pull(bytes), None);
    let write = g.finish();
    check(&write, &[1, 2], &[(1, 1)]);
    assert_eq!(write.stored, ids(&[2]));
}

#[test]
fn what_is_in_segments_is_not_written_again() {
    // Own knowledge, the answer's, and that of a second question.
    let mut g = gathering(&[1, 2, 3], &[1]);
    reconciled(&mut g, NodeId(2), answer(vec![sealed(2, 7, &[2, 9])], &[2]));
    assert_eq!(g.wanted(), ids(&[9]));
    g.learn(ids(&[9]));
    assert!(g.wanted().is_empty() && g.next_pull(100).is_none());
    let write = g.finish();
    check(&write, &[3], &[(1, 1), (2, 7)]);
    let stored: BTreeSet<BatchId> = write.stored.into_iter().collect();
    assert_eq!(
        stored,
        ids(&[2, 9]).into_iter().collect(),
        "for others that ask"
    );
}

#[test]
fn an_owner_that_comes_back_late_covers_its_head_and_writes_nothing() {
    let mut g = gathering(&[1, 2], &[]);
    reconciled(&mut g, NodeId(3), answer(Vec::new(), &[1, 2]));
    check(&g.finish(), &[], &[(1, 1)]);
    let mut g = gathering(&[1, 2, 3], &[]);
    reconciled(&mut g, NodeId(3), answer(Vec::new(), &[1, 2]));
    check(&g.finish(), &[3], &[(1, 1)]);
}

#[test]
fn a_head_that_the_catalog_covers_is_not_named_again() {
    let mut g = gathering(&[1], &[]);
    let mut catalog = Catalog::default();
    catalog.covered.entry(2).or_default().also.insert(7);
    let heads = vec![sealed(2, 7, &[2, 3]), sealed(2, 8, &[1])];
    g.reconciled(NodeId(2), answer(heads, &[]), &catalog);
    assert_eq!(g.wanted(), []);
    check(&g.finish(), &[1], &[(1, 1), (2, 8)]);
}
