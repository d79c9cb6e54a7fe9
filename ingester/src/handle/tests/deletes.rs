//! Goal: delete requests remove what they name from heads and segments, and nothing else.

use std::ops::Range;

use bytes::Bytes;
use model::{Columns, Flow, LineColumn, LineFilter};
use rpc::{DeleteId, DeleteRequest};
use segment::{Opened, ScanSpec, Scratch, Segment};

use super::*;

/// Requests that lines of these numbers go.
pub(super) async fn delete(world: &World, query: &str, numbers: Range<u64>) -> DeleteId {
    let request = DeleteRequest {
        tenant: TenantId::default(),
        query: query.into(),
        range: TimeRange::new(DAY + numbers.start as i64, DAY + numbers.end as i64),
        created: DAY,
    };
    let outcome = world.meta.propose(Command::RequestDelete(request)).await;
    match outcome.unwrap() {
        Outcome::Delete { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

/// The numbers of all lines in live segments, ascending, copies included.
pub(super) async fn numbers(world: &World) -> Vec<u64> {
    let mut numbers = Vec::new();
    for meta in world.meta.catalog().segments.values() {
        let object = world.storage.get(&meta.path).await.unwrap();
        let opened = Segment::open(&meta.path, object.clone(), meta.object_bytes);
        let Opened::Segment(segment) = opened.unwrap() else {
            panic!("the whole object is there");
        };
        let plan = segment.plan(&ScanSpec {
            tenant: &TenantId::default(),
            selector: &Selector::default(),
            range: TimeRange::ALL,
            line_filter: &LineFilter::default(),
        });
        let columns = Columns {
            timestamps: true,
            lines: LineColumn::Bytes,
            metadata: false,
        };
        for chunk in plan.chunks() {
            let reads = plan.reads(chunk, columns).into_iter();
            let parts: Vec<Bytes> = reads
                .map(|range| object.slice(range.start as usize..range.end as usize))
                .collect();
            let mut take = |block: &model::RowBlock<'_>| {
                for row in 0..block.rows {
                    let line = std::str::from_utf8(block.lines.line(row)).unwrap();
                    let number = line.split(' ').nth(1).unwrap();
                    numbers.push(number.parse().unwrap());
                }
                Flow::Continue
            };
            plan.decode(chunk, columns, &parts, &mut Scratch::default(), &mut take)
                .unwrap();
        }
    }
    numbers.sort_unstable();
    numbers
}

fn paths(world: &World) -> Vec<Arc<str>> {
    let catalog = world.meta.catalog();
    let segments = catalog.segments.values();
    segments.map(|segment| Arc::clone(&segment.path)).collect()
}

/// Two segments, of 0 to 5 and of 6 to 11, as large as segments get that nobody merges.
async fn two_segments(world: &mut World) -> Ingester {
    world.config.merge.small_bytes_max = 1;
    let ingester = world.start().await.unwrap();
    for numbers in [0..6, 6..12] {
        let mut requests: Vec<IngestRequest> = numbers.map(request).collect();
        requests.iter_mut().for_each(|r| r.shard = Shard(0));
        ingester.ingest(requests).await.unwrap();
        ingester.flush().await.unwrap();
    }
    assert_eq!(world.segments(), 2);
    ingester
}

#[tokio::test]
async fn matching_records_go_from_segments_and_all_others_stay() {
    let mut world = World::new();
    let ingester = two_segments(&mut world).await;
    delete(&world, "{app=\"even\"} |~ \"line [0-9] \"", 3..9).await;
    let id = delete(&world, "{app=\"odd\"} |= \"line 11 \"", 0..12).await;
    ingester.merge_now().await.unwrap();
    assert_eq!(numbers(&world).await, [0, 1, 2, 3, 5, 7, 9, 10]);
    let catalog = world.meta.catalog();
    assert!(catalog.deletes.is_empty());
    assert_eq!(catalog.past_deletes.len(), 2);
    assert!(catalog.past_deletes.contains_key(&id));
}

#[tokio::test]
async fn segments_without_such_records_are_not_rewritten() {
    let mut world = World::new();
    let ingester = two_segments(&mut world).await;
    let before = paths(&world);
    for query in [
        "{app=\"even\"} |= \"line 77 \"",
        "{app=\"other\"}",
        "{app=\"even\"} | json",
    ] {
        delete(&world, query, 0..12).await;
    }
    delete(&world, "{app=\"even\"} |= \"line 2 \"", 0..12).await;
    ingester.merge_now().await.unwrap();
    let after = paths(&world);
    assert_eq!(after.iter().filter(|path| before.contains(path)).count(), 1);
    assert_eq!(world.records(), 11);
    assert!(world.meta.catalog().deletes.is_empty());
}

#[tokio::test]
async fn a_request_lasts_until_heads_with_its_records_are_flushed() {
    let mut world = World::new();
    let ingester = two_segments(&mut world).await;
    ingester.ingest(vec![request(20)]).await.unwrap();
    delete(&world, "{app=\"even\"}", 4..30).await;
    ingester.merge_now().await.unwrap();
    assert_eq!(numbers(&world).await, [0, 1, 2, 3, 5, 7, 9, 11]);
    let active = |world: &World| world.meta.catalog().deletes.len();
    assert_eq!(active(&world), 1);
    // Late records of its times go as well, as long as it is active.
    ingester
        .ingest(vec![request(22), request(23)])
        .await
        .unwrap();
    ingester.flush().await.unwrap();
    ingester.merge_now().await.unwrap();
    assert_eq!(numbers(&world).await, [0, 1, 2, 3, 5, 7, 9, 11, 23]);
    assert_eq!(active(&world), 0);
}

async fn close(world: &World, id: DeleteId) -> u64 {
    match world.meta.propose(Command::CloseDelete(id)).await.unwrap() {
        Outcome::Done { version } => version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn records_of_a_closed_request_are_answered_for_when_it_is_over() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    let id = delete(&world, "{app=\"even\"}", 10..30).await;
    let closed = close(&world, id).await;
    ingester.ingest(vec![request(40)]).await.unwrap();
    let send = || {
        let ingester = ingester.clone();
        tokio::spawn(async move { ingester.ingest(vec![request(20)]).await })
    };
    let late = send();
    let range = TimeRange::new(DAY + 20, DAY + 21);
    let asked = RecentRequest::all(TenantId::default(), range);
    while ingester
        .recent(asked.clone())
        .await
        .unwrap()
        .heads
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
    // It is stored; a second attempt is told no more than the first.
    let again = send();
    for _ in 0..10 {
        tokio::task::yield_now().await;
        ingester.recent(asked.clone()).await.unwrap();
    }
    assert!(!late.is_finished() && !again.is_finished());
    let finish = Command::FinishDelete(id, Some(closed));
    world.meta.propose(finish).await.unwrap();
    late.await.unwrap().unwrap();
    again.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_stays_closed_is_opened_by_who_waits_for_it() {
    let mut world = World::new();
    world.config.owner_timeout = std::time::Duration::from_millis(1);
    let ingester = world.start().await.unwrap();
    let id = delete(&world, "{app=\"even\"}", 10..30).await;
    close(&world, id).await;
    ingester.ingest(vec![request(20)]).await.unwrap();
    assert_eq!(world.meta.catalog().deletes[&id].closed, None);
    // Whoever closed it finds the record now.
    ingester.merge_now().await.unwrap();
    let catalog = world.meta.catalog();
    assert_eq!(catalog.deletes[&id].closed, None);
}

#[tokio::test]
async fn a_request_that_somebody_left_closed_is_finished_by_another() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    let id = delete(&world, "{app=\"even\"}", 10..30).await;
    close(&world, id).await;
    ingester.merge_now().await.unwrap();
    assert!(world.meta.catalog().past_deletes.contains_key(&id));
}

#[tokio::test]
async fn a_request_of_another_tenant_removes_nothing() {
    let mut world = World::new();
    let ingester = two_segments(&mut world).await;
    let request = DeleteRequest {
        tenant: TenantId::new("other").unwrap(),
        query: "{app=~\".+\"}".into(),
        range: TimeRange::ALL,
        created: DAY,
    };
    let command = Command::RequestDelete(request);
    world.meta.propose(command).await.unwrap();
    ingester.merge_now().await.unwrap();
    assert_eq!(world.records(), 12);
    assert!(world.meta.catalog().deletes.is_empty());
}

#[tokio::test]
async fn a_merge_leaves_deleted_records_out_and_says_so() {
    let world = World::new();
    let ingester = world.start().await.unwrap();
    for number in 0..9 {
        ingester.ingest(vec![request(number)]).await.unwrap();
        ingester.flush().await.unwrap();
    }
    delete(&world, "{app=\"odd\"}", 0..9).await;
    ingester.merge_now().await.unwrap();
    assert_eq!(numbers(&world).await, [0, 2, 4, 6, 8]);
    assert!(world.meta.catalog().deletes.is_empty());
}

/// Four segments, each with one record; the object of the second is gone, cut short, rubbish, or cannot
/// be read although it is there.
async fn spoiled(kind: Kind, how: &str) {
    let mut world = World::new();
    let folder = TempDir::new().unwrap();
    let config = store::Config::folder(folder.path());
    world.storage = ObjectStorage::open(&config).unwrap();
    let ingester = world.start().await.unwrap();
    for number in 0..4 {
        ingester.ingest(vec![request(number)]).await.unwrap();
        ingester.flush().await.unwrap();
    }
    let spoiled = paths(&world).remove(1);
    let object = world.storage.get(&spoiled).await.unwrap();
    let file = folder.path().join(&*spoiled);
    match how {
        "gone" => world.storage.delete(&spoiled).await.unwrap(),
        "a folder" => {
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
        }
        _ => {
            let found = match how {
                "cut" => object.slice(..object.len() / 2),
                _ => Bytes::from(vec![7; object.len()]),
            };
            world.storage.put(&spoiled, vec![found]).await.unwrap();
        }
    }
    delete(&world, "{app=~\".+\"} |= \"line 3\"", 0..9).await;
    let error = ingester.merge_now().await.unwrap_err();
    assert_eq!(error.kind(), kind, "{how}: {error}");
    let left = paths(&world);
    assert_eq!((left.len(), left.contains(&spoiled)), (2, true), "{how}");
    assert_eq!(world.records(), 3, "{how}: the record is deleted");
    let catalog = world.meta.catalog();
    let pending: Vec<_> = catalog.deletes.values().map(|d| d.pending.len()).collect();
    assert_eq!(pending, [1], "{how}: nobody knows what is in it");
    // Expired, it goes unread, and the request is done.
    let settings = TenantSettings {
        retention_nanos: Some(DAY),
    };
    let command = Command::SetTenant(TenantId::default(), settings);
    world.meta.propose(command).await.unwrap();
    world.now.store(9 * DAY, Ordering::Relaxed);
    ingester.merge_now().await.unwrap_or_default();
    assert_eq!(world.segments(), 0, "{how}");
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_does_not_keep_others_from_merges_and_deletes() {
    spoiled(Kind::NotFound, "gone").await;
    spoiled(Kind::Corrupt, "cut").await;
    spoiled(Kind::Corrupt, "rubbish").await;
    spoiled(Kind::Unavailable, "a folder").await;
}
