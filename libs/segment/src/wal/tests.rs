//! Goal: what is written is read back, and nothing else ever is. Method: random batches against
//! themselves, every truncation, every kind of flipped bit.

use std::sync::Arc;

use model::{
    BatchId, HeadId, HeadKey, Labels, LogBatch, LogBatchBuilder, RingVersion, Shard, Signal, Slot,
    StreamId, TenantId,
};
use proptest::prelude::*;

use super::*;

type Pairs = Vec<(String, Vec<u8>)>;

fn filing(sequence: u64) -> Filing {
    Filing {
        head: HeadId {
            ingester: 7,
            sequence,
        },
        batch_id: BatchId(u128::from(sequence) << 64 | 5),
        key: HeadKey {
            shard: Shard(3),
            slot: Slot(-9),
            ring: RingVersion(1 << 40),
        },
    }
}

fn batch_of(rows: &[(u8, i64, Vec<u8>, Pairs)]) -> LogBatch {
    let tenant = TenantId::new("team-a").unwrap();
    let mut builder = LogBatchBuilder::new(tenant.clone());
    for (app, time, line, pairs) in rows {
        let labels = Labels::new([("app", format!("app-{app}")), ("é", String::new())]).unwrap();
        let id = StreamId::of(&tenant, Signal::Logs, &labels);
        builder.stream(id, &Arc::new(labels));
        let mut pairs: Vec<(&str, &[u8])> = pairs.iter().map(|(k, v)| (&**k, &**v)).collect();
        builder.push(*time, line, &mut pairs);
    }
    builder.finish()
}

fn batches() -> impl Strategy<Value = LogBatch> {
    let pairs = prop::collection::vec(
        ("[a-zé.]{0,4}", prop::collection::vec(any::<u8>(), 0..9)),
        0..4,
    );
    let line = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec((0..3_u8, any::<i64>(), line, pairs), 0..12)
        .prop_map(|rows| batch_of(&rows))
}

/// A file of the batches, each group a slice of them; with the end of each group. Numbers begin anew
/// before the batches with these places.
fn file_of(groups: &[Vec<LogBatch>], anew: &[usize]) -> (Vec<u8>, Vec<u64>) {
    let header = FileHeader {
        ingester: 7,
        file: 4,
        previous: Some((3, 99)),
    };
    let mut out = header.encode().to_vec();
    let (mut ends, mut sequence) = (Vec::new(), 10);
    let mut named = NamedStreams::default();
    for group in groups {
        let start = out.len() as u64;
        for batch in group {
            if anew.contains(&(sequence as usize - 10)) {
                named.clear();
            }
            let batch = Arc::new(batch.clone());
            let mut record = Record::new(&filing(sequence), batch, &mut named).unwrap();
            record.place(4, sequence, start);
            let before = out.len() as u64;
            record
                .parts()
                .iter()
                .for_each(|part| out.extend_from_slice(part));
            assert_eq!(out.len() as u64 - before, record.len());
            sequence += 1;
        }
        ends.push(out.len() as u64);
    }
    (out, ends)
}

/// All sound records from the front, and what stopped the reader.
fn read_all(bytes: &[u8]) -> (Vec<(Filing, LogBatch)>, u64, Option<Error>) {
    let mut out = Vec::new();
    let mut reader = match Reader::new(bytes, bytes.len() as u64) {
        Ok(reader) => reader,
        Err(error) => return (out, 0, Some(error)),
    };
    let mut cache = StreamCache::default();
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry.batch(&mut cache).map(|batch| (entry.filing, batch)),
            Ok(None) => return (out, reader.offset(), None),
            Err(error) => return (out, reader.offset(), Some(error)),
        };
        match entry {
            Ok(entry) => out.push(entry),
            Err(error) => return (out, reader.offset(), Some(error)),
        }
    }
}

#[test]
fn labels_of_a_batch_are_held_by_batches_and_the_cache_alone() {
    let row = |app| (app, 5, b"line".to_vec(), vec![]);
    let batches = [batch_of(&[row(1), row(2)]), batch_of(&[row(1)])];
    let (file, _) = file_of(&[batches.to_vec()], &[]);
    let mut cache = StreamCache::default();
    let mut held = Vec::new();
    // The second reader decodes the same streams anew.
    for expected in [[2, 2, 3], [4, 3, 5]] {
        let mut counts = Vec::new();
        let mut reader = Reader::new(&file[..], file.len() as u64).unwrap();
        while let Some(entry) = reader.next_entry().unwrap() {
            let batch = entry.batch(&mut cache).unwrap();
            let labels = batch.streams.iter().map(|stream| &stream.labels);
            counts.extend(labels.map(Arc::strong_count));
            held.push(batch);
        }
        assert_eq!(counts, expected);
    }
}

fn some_file() -> (Vec<LogBatch>, Vec<u8>, Vec<u64>) {
    let row = |app, time, line: &[u8], key: &str| {
        (
            app,
            time,
            line.to_vec(),
            vec![(key.to_owned(), b"v".to_vec())],
        )
    };
    let batches = vec![
        batch_of(&[row(1, 5, b"hello", "k"), row(1, 4, b"", "z")]),
        batch_of(&[row(2, -1, &[0xff, 0], "k")]),
        batch_of(&[]),
        batch_of(&[
            (1, 9, b"plain".to_vec(), vec![]),
            (0, 9, b"new".to_vec(), vec![]),
            (2, 9, b"known".to_vec(), vec![]),
        ]),
    ];
    let (file, ends) = file_of(&[batches[..2].to_vec(), batches[2..].to_vec()], &[]);
    (batches, file, ends)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn batches_come_back_as_they_were_written(
        groups in prop::collection::vec(prop::collection::vec(batches(), 1..4), 0..4),
        anew in prop::collection::vec(0..12_usize, 0..3),
    ) {
        let (file, _) = file_of(&groups, &anew);
        let (read, end, error) = read_all(&file);
        prop_assert!(error.is_none(), "{error:?}");
        prop_assert_eq!(end, file.len() as u64);
        let want: Vec<LogBatch> = groups.into_iter().flatten().collect();
        for (at, (filed, batch)) in read.iter().enumerate() {
            prop_assert_eq!(filed, &filing(10 + at as u64));
            prop_assert_eq!(batch, &want[at]);
        }
        prop_assert_eq!(read.len(), want.len());
    }

    #[test]
    fn arbitrary_payloads_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode_payload(&bytes, &mut StreamCache::default()).is_err());
    }
}

#[test]
fn every_truncation_keeps_the_whole_records_before_it() {
    let (batches, file, _) = some_file();
    for cut in 0..file.len() {
        let (read, end, error) = read_all(&file[..cut]);
        assert!(read.len() <= batches.len() && end <= cut as u64);
        for (at, (_, batch)) in read.iter().enumerate() {
            assert_eq!(batch, &batches[at], "cut at {cut}");
        }
        let whole = error.is_none();
        assert_eq!(
            whole,
            end == cut as u64 && cut >= FILE_HEADER_BYTES,
            "cut at {cut}"
        );
        assert_eq!(synced_after(&file[end as usize..cut], 4, end), None);
    }
}

#[test]
fn every_flipped_bit_is_noticed_at_its_record() {
    let (batches, file, _) = some_file();
    for bit in 0..file.len() * 8 {
        let mut bad = file.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (read, end, error) = read_all(&bad);
        assert!(error.is_some(), "bit {bit}");
        assert!(end as usize <= bit / 8, "bit {bit}");
        assert!(read.len() < batches.len());
    }
}

#[test]
fn a_damaged_payload_with_right_checksums_is_still_refused_or_whole() {
    let batch = some_file().0[0].clone();
    let payload = encode_payload(&filing(1), &batch);
    let (filed, decoded) = decode_payload(&payload, &mut StreamCache::default()).unwrap();
    assert_eq!((filed, &decoded), (filing(1), &batch));
    for at in 40..payload.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = payload.clone();
            bad[at] = value;
            if let Ok((_, batch)) = decode_payload(&bad, &mut StreamCache::default()) {
                (0..batch.len()).for_each(|row| {
                    std::hint::black_box(batch.row(row).identity());
                });
            }
        }
    }
}

#[test]
fn damage_before_a_later_group_is_told_from_a_torn_last_group() {
    let (_, file, ends) = some_file();
    let first = FILE_HEADER_BYTES;
    let second_group = ends[0] as usize;
    let mut bad = file.clone();
    bad[first + 60] ^= 1;
    let (_, end, _) = read_all(&bad);
    assert_eq!(end as usize, first);
    assert_eq!(
        synced_after(&bad[first..], 4, end),
        Some(second_group as u64)
    );
    let mut torn = file.clone();
    torn[second_group + 60] ^= 1;
    let (read, end, _) = read_all(&torn);
    assert_eq!((read.len(), end as usize), (2, second_group));
    assert_eq!(synced_after(&torn[second_group..], 4, end), None);
}

#[test]
fn records_of_another_file_prove_nothing() {
    let (_, file, _) = some_file();
    let start = FILE_HEADER_BYTES as u64;
    assert!(synced_after(&file[FILE_HEADER_BYTES..], 4, start).is_some());
    assert_eq!(synced_after(&file[FILE_HEADER_BYTES..], 5, start), None);
}

fn contains(bytes: &[u8], text: &str) -> usize {
    memchr::memmem::find_iter(bytes, text).count()
}

#[test]
fn labels_stand_in_a_file_once_and_again_where_numbers_begin_anew() {
    let of = |app| vec![batch_of(&[(app, 1, b"x".to_vec(), vec![])])];
    let groups = [of(1), of(2), of(1), of(2), of(1)];
    let (file, _) = file_of(&groups, &[]);
    assert_eq!((contains(&file, "app-1"), contains(&file, "app-2")), (1, 1));
    let (file, _) = file_of(&groups, &[3]);
    assert_eq!((contains(&file, "app-1"), contains(&file, "app-2")), (2, 2));
}

#[test]
fn a_record_that_names_streams_of_one_that_is_not_there_is_refused() {
    let rows = |app| [(app, 1, b"x".to_vec(), vec![])];
    let mut named = NamedStreams::default();
    let mut record =
        |app| Record::new(&filing(1), Arc::new(batch_of(&rows(app))), &mut named).unwrap();
    let (_, mut second) = (record(1), record(1));
    let header = FileHeader {
        ingester: 7,
        file: 4,
        previous: None,
    };
    let mut file = header.encode().to_vec();
    second.place(4, 0, file.len() as u64);
    file.extend(second.parts().concat());
    let (read, end, error) = read_all(&file);
    assert_eq!((read.len(), end), (0, FILE_HEADER_BYTES as u64));
    assert!(error.unwrap().to_string().contains("known before"));
}

#[test]
fn one_id_with_other_labels_is_another_stream() {
    let tenant = TenantId::default();
    let batch_of = |app: &str| {
        let mut builder = LogBatchBuilder::new(tenant.clone());
        let labels = Arc::new(Labels::new([("app", app)]).unwrap());
        builder.stream(StreamId(9), &labels);
        builder.push(1, b"x", &mut []);
        builder.finish()
    };
    let batches: Vec<LogBatch> = ["a", "b", "b", "a"].map(batch_of).to_vec();
    let (file, _) = file_of(std::slice::from_ref(&batches), &[]);
    let read: Vec<LogBatch> = read_all(&file).0.into_iter().map(|(_, b)| b).collect();
    assert_eq!(read, batches);
}

#[test]
fn ever_new_streams_do_not_fill_the_memory() {
    let labels = Arc::new(Labels::new([("app", "a")]).unwrap());
    let batch_of = |first: u128| {
        let mut builder = LogBatchBuilder::new(TenantId::default());
        for id in first..first + 30_000 {
            builder.stream(StreamId(id), &labels);
            builder.push(1, b"x", &mut []);
        }
        builder.finish()
    };
    let batches: Vec<LogBatch> = [0, 30_000, 60_000, 0].map(batch_of).to_vec();
    let (file, _) = file_of(std::slice::from_ref(&batches), &[]);
    let read: Vec<LogBatch> = read_all(&file).0.into_iter().map(|(_, b)| b).collect();
    assert!(read == batches);
}

#[test]
fn another_version_is_named() {
    let mut header = FileHeader {
        ingester: 1,
        file: 1,
        previous: None,
    }
    .encode();
    header[8] = 2;
    let hash = xxhash_rust::xxh3::xxh3_64(&header[..56]);
    header[56..].copy_from_slice(&hash.to_le_bytes());
    let error = FileHeader::decode(&header).unwrap_err();
    assert!(matches!(
        error,
        Error::Version {
            found: 2,
            supported: 3
        }
    ));
    assert_eq!(error.kind(), model::Kind::Corrupt);
}

/// The bytes of version 3, by their hash: a change here makes logs of running installations
/// unreadable, and needs a new version. (Versions 1 and 2 were never released.)
#[test]
fn the_format_does_not_change_by_accident() {
    let (_, file, _) = some_file();
    assert_eq!(&file[..8], b"PHAROWAL");
    assert_eq!(&file[FILE_HEADER_BYTES..FILE_HEADER_BYTES + 4], b"PWR1");
    let hash = xxhash_rust::xxh3::xxh3_64(&file);
    assert_eq!((file.len(), hash), (910, 10_104_968_640_639_814_832));
}
