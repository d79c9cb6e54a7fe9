use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = 1_700_000_000_000_000_000;
const MINUTE: i64 = 60 * model::NANOS_PER_SECOND;

fn sorted(limits: &Limits, shards: u32, feed: impl FnOnce(&mut Session<'_>)) -> Sorted {
    let streams = Streams::new(limits.clone(), 7);
    let tenant = TenantId::default();
    let request = Request {
        unlabelled: false,
        body_bytes: 1000,
        record_bytes_max: 100_000,
    };
    let mut session = Session::new(&streams, limits, &tenant, shards, request, NOW);
    feed(&mut session);
    session.finish().unwrap()
}

/// The reason for which the one record is refused, and the message; `None` when it is taken.
fn refusal(
    limits: &Limits,
    time: Timestamp,
    line: &[u8],
    metadata: &[(&str, &[u8])],
) -> Option<(Reason, String)> {
    let sorted = sorted(limits, 1, |session| {
        session.stream_text(br#"{app="x"}"#);
        session.record(NOW, b"before", &mut []);
        session.record(time, line, &mut metadata.to_vec());
        session.record(NOW, b"after", &mut []);
    });
    let refused = sorted.refusals.records();
    assert_eq!(sorted.records + refused, 3);
    assert_eq!(sorted.batches[0].1.len() as u64, sorted.records);
    let (reason, _) = sorted.refusals.counts().find(|(_, count)| *count == 1)?;
    Some((reason, sorted.refusals.messages()[0].clone()))
}

#[test]
fn a_bad_record_is_refused_and_its_neighbours_are_kept() {
    let limits = Limits {
        line_bytes_max: 10,
        metadata_bytes_max: 12,
        metadata_pairs_max: 2,
        record_age_nanos_max: MINUTE,
        ..Limits::default()
    };
    let stream = r#"stream '{app="x", service_name="x"}'"#;
    let check = |time, line: &[u8], metadata: &[(&str, &[u8])], reason, message: &str| {
        let message = message.replace("STREAM", stream);
        let found = refusal(&limits, time, line, metadata);
        assert_eq!(found, Some((reason, message)));
    };
    check(
        NOW,
        b"12345678901",
        &[],
        Reason::LineTooLong,
        "max entry size '10' bytes exceeded for STREAM while adding an entry with length '11' bytes",
    );
    check(
        NOW,
        b"repair\xff\xff",
        &[],
        Reason::LineTooLong,
        "max entry size '10' bytes exceeded for STREAM while adding an entry with length '12' bytes",
    );
    let longest: &[(&str, &[u8])] = &[("key", b"12345678\xff")];
    assert_eq!(refusal(&limits, NOW, b"1234567\xff", longest), None);
    check(
        NOW + 10 * MINUTE + 1,
        b"x",
        &[],
        Reason::TooFarInFuture,
        "entry for STREAM has timestamp too new: 2023-11-14T22:23:20.000000001Z, newest acceptable \
         timestamp is: 2023-11-14T22:23:20Z",
    );
    check(
        0,
        b"x",
        &[],
        Reason::TooOld,
        "entry for STREAM has timestamp too old: 1970-01-01T00:00:00Z, oldest acceptable timestamp \
         is: 2023-11-14T22:12:20Z",
    );
    check(
        NOW,
        b"x",
        &[("key", b"1234567890")],
        Reason::MetadataTooLarge,
        "entry for STREAM has structured metadata too large: '13' bytes, limit: '12' bytes",
    );
    check(
        NOW,
        b"x",
        &[("a", b""), ("b", b""), ("c", b"")],
        Reason::MetadataTooMany,
        "entry for STREAM has too many structured metadata labels: '3', limit: '2'",
    );
    for time in [NOW + 10 * MINUTE, NOW - MINUTE] {
        assert_eq!(refusal(&limits, time, b"1234567890", &[]), None);
    }
}

#[test]
fn by_default_1970_is_taken_and_2100_is_not() {
    let limits = Limits::default();
    let year_2100 = 4_102_444_800_000_000_000;
    for time in [i64::MIN, -1, 0, 1] {
        assert_eq!(refusal(&limits, time, b"x", &[]), None);
    }
    let (reason, message) = refusal(&limits, year_2100, b"x", &[]).unwrap();
    assert_eq!(reason, Reason::TooFarInFuture);
    assert!(
        message.contains("too new: 2100-01-01T00:00:00Z"),
        "{message}"
    );
    let any = Limits {
        creation_grace_nanos: 0,
        ..limits
    };
    assert_eq!(refusal(&any, i64::MAX - 1, b"x", &[]), None);
    let (reason, _) = refusal(&any, i64::MAX, b"x", &[]).unwrap();
    assert_eq!(reason, Reason::TooFarInFuture, "no range ends after it");
}

#[test]
fn a_refused_stream_refuses_its_records_with_one_message() {
    let sorted = sorted(&Limits::default(), 1, |session| {
        session.stream_text(b"{no");
        session.stream_text(b"{bad");
        for _ in 0..3 {
            session.record(NOW, b"x", &mut []);
        }
        session.stream_text(br#"{app="x"}"#);
        session.record(NOW, b"y", &mut []);
        session.flawed(Flaw::Timestamp("soon".into()));
    });
    assert_eq!(sorted.records, 1);
    assert_eq!(sorted.refusals.records(), 4);
    let messages = sorted.refusals.messages();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("error parsing labels '{bad' with error: 1:5"));
    assert!(messages[1].contains("timestamp 'soon' is not a time"));
}

#[test]
fn a_request_whose_records_are_too_much_is_refused_whole() {
    let limits = Limits::default();
    let streams_of = Streams::new(limits.clone(), 7);
    let tenant = TenantId::default();
    let fits_of = |streams: usize, records: usize, line: &[u8], metadata: &[(&str, &[u8])]| {
        let request = Request {
            unlabelled: false,
            body_bytes: 0,
            record_bytes_max: 10 * STREAM_BYTES + 1000,
        };
        let mut session = Session::new(&streams_of, &limits, &tenant, 1, request, NOW);
        for _ in 0..streams {
            session.stream_text(br#"{app="x"}"#);
        }
        for _ in 0..records {
            session.record(NOW, line, &mut metadata.to_vec());
        }
        let full = session.is_full();
        assert_eq!(session.finish().is_none(), full);
        !full
    };
    let fits = |streams, records, metadata| fits_of(streams, records, b"1234", metadata);
    assert!(fits(10, 50, &[]) && !fits(10, 51, &[]));
    let pairs: [(&str, &[u8]); 2] = [("a", b"12"), ("b", b"12")];
    assert!(fits(10, 17, &pairs) && !fits(10, 18, &pairs));
    assert!(fits(13, 0, &[]) && !fits(14, 0, &[]));
    let repaired = |records| fits_of(10, records, b"1\xff", &[]);
    assert!(repaired(50) && !repaired(51));
}

#[test]
fn metadata_names_that_are_no_label_names_are_replaced_and_values_that_are_empty_left_out() {
    let sorted = sorted(&Limits::default(), 1, |session| {
        session.stream_text(br#"{app="x"}"#);
        let metadata: &mut [(&str, &[u8])] = &mut [("user..id", b"7"), ("a", b"b"), ("c", b"")];
        session.record(NOW, b"x", metadata);
    });
    let row = sorted.batches[0].1.row(0);
    let metadata: Vec<_> = row.metadata().collect();
    assert_eq!(metadata, [("a", &b"b"[..]), ("user_id", b"7")]);
    assert_eq!(sorted.bytes, 3);
}

#[test]
fn bytes_that_are_no_text_are_spaces_in_metadata_whether_a_decoder_has_marked_them_or_not() {
    for value in [&b"a\xe9b"[..], "a\u{fffd}b".as_bytes()] {
        let sorted = sorted(&Limits::default(), 1, |session| {
            session.stream_text(br#"{app="x"}"#);
            session.record(
                NOW,
                b"l\xe9l",
                &mut [("k", value), ("n", "\u{ff01}".as_bytes())],
            );
        });
        let row = sorted.batches[0].1.row(0);
        let metadata: Vec<_> = row.metadata().collect();
        assert_eq!(metadata, [("k", &b"a b"[..]), ("n", "\u{ff01}".as_bytes())]);
        assert_eq!(row.line(), "l\u{fffd}l".as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Against a map from stream to records: whatever the order in which streams are named, each is
    /// in one piece of its shard's batch, with its records in the order in which they came.
    #[test]
    fn streams_named_in_any_order_end_in_one_piece_each(
        pieces in prop::collection::vec((0u8..6, 0usize..4), 0..30),
        shards in 1u32..5,
    ) {
        let mut want: BTreeMap<String, Vec<(i64, bool)>> = BTreeMap::new();
        let mut time = 0;
        let sorted = sorted(&Limits::default(), shards, |session| {
            for (stream, records) in pieces {
                let labels = format!("{{app=\"{stream}\"}}");
                session.stream_text(labels.as_bytes());
                for _ in 0..records {
                    time += 1;
                    let odd = time % 2 == 1;
                    let mut metadata: Vec<(&str, &[u8])> = Vec::new();
                    if odd {
                        metadata.push(("odd", b"1"));
                    }
                    session.record(time, b"x", &mut metadata);
                    want.entry(stream.to_string()).or_default().push((time, odd));
                }
            }
        });
        let mut found = BTreeMap::new();
        for (shard, batch) in &sorted.batches {
            prop_assert!(!batch.is_empty());
            for stream in &batch.streams {
                prop_assert_eq!(Shard::of(stream.id, shards), *shard);
                let rows = stream.rows.clone().map(|row| {
                    let row = batch.row(row as usize);
                    (row.timestamp(), row.metadata().len() == 1)
                });
                let app = stream.labels.get("app").unwrap().to_owned();
                prop_assert!(found.insert(app, rows.collect::<Vec<_>>()).is_none());
            }
        }
        prop_assert_eq!(found, want);
    }
}

#[test]
fn a_hot_stream_is_spread_over_shards_and_the_others_stay_where_they_are() {
    let limits = Limits {
        shard_stream_bytes_per_second: 1000,
        ..Limits::default()
    };
    let (streams, tenant) = (Streams::new(limits.clone(), 7), TenantId::default());
    let request = Request {
        unlabelled: false,
        body_bytes: 1000,
        record_bytes_max: 100_000,
    };
    let mut used: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
    for push in 0..300 {
        let now = NOW + push * model::NANOS_PER_SECOND / 10;
        let mut session = Session::new(&streams, &limits, &tenant, 8, request, now);
        for _ in 0..2 {
            session.stream_text(br#"{app="hot"}"#);
            session.record(now, &[b'x'; 150], &mut []);
            session.stream_text(br#"{app="cool"}"#);
            session.record(now, b"xx", &mut []);
        }
        let sorted = session.finish().unwrap();
        assert_eq!(sorted.records, 4);
        for (shard, batch) in &sorted.batches {
            for stream in &batch.streams {
                let app = stream.labels.get("app").unwrap().to_owned();
                *used.entry(app).or_default().entry(shard.0).or_default() +=
                    stream.rows.len() as u64;
            }
        }
    }
    // 3,000 bytes per second.
    assert_eq!(used["hot"].len(), 3);
    assert_eq!(used["cool"].len(), 1);
    assert!(
        used.values()
            .all(|shards| shards.values().sum::<u64>() == 600)
    );
}
