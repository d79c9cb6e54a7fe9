//! Damaged objects give errors that say where, never a panic and never another answer.

use proptest::prelude::*;
use segment::{Error, Opened, Segment};

use crate::support::{Object, Record, all, as_set, object, open, record, write};

fn sample() -> (Vec<Record>, Vec<u8>) {
    let records: Vec<Record> = (0..60)
        .map(|n| {
            let line = match n % 3 {
                0 => format!("GET /a/{n} 200 took {}ms", n * 7),
                1 => format!("user user{n} trace_id=4f8a0c93d17be2650f3344aa91c7d{n:03x}"),
                _ => "plain text without a number".to_owned(),
            };
            let mut record = record(if n % 2 == 0 { "a" } else { "b" }, n * 1000, &line);
            record.metadata = vec![("level".into(), b"info".to_vec())];
            record
        })
        .collect();
    let (object, _) = write(&records, 1024);
    (as_set(&records), object.bytes.to_vec())
}

/// Reads all that the bytes hold: an error, or the right answer.
fn check(bytes: Vec<u8>, wanted: &[Record]) {
    match all(&object(bytes), "default") {
        Ok(found) => assert_eq!(as_set(&found), wanted),
        Err(error) => assert!(
            matches!(error, Error::Corrupt { .. } | Error::Version { .. }),
            "{error}"
        ),
    }
}

#[test]
fn every_truncation_is_an_error() {
    let (_, bytes) = sample();
    for end in 0..bytes.len() {
        assert!(open(&object(bytes[..end].to_vec())).is_err(), "{end}");
    }
}

#[test]
fn every_changed_byte_is_an_error_or_changes_nothing() {
    let (records, bytes) = sample();
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        check(bytes, &records);
    }
}

#[test]
fn another_version_is_named_as_such() {
    for version in [0, 1, 3] {
        let (_, mut bytes) = sample();
        let at = bytes.len() - 16;
        bytes[at] = version;
        let error = open(&object(bytes)).unwrap_err();
        let Error::Version {
            found, supported, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((found, supported), (u32::from(version), 2));
        assert_eq!(error.kind(), model::Kind::Corrupt);
    }
}

#[test]
fn errors_name_object_offset_expected_and_found() {
    let (_, mut bytes) = sample();
    bytes[20] ^= 0xff;
    let error = all(&object(bytes), "default").unwrap_err().to_string();
    assert!(
        error.starts_with("segment test.seg is damaged at byte "),
        "{error}"
    );
    assert!(
        error.contains("expected checksum") && error.contains("found"),
        "{error}"
    );
}

#[test]
fn a_tail_that_is_too_short_says_how_much_is_needed() {
    let (_, bytes) = sample();
    let whole = Object {
        name: "test.seg".into(),
        bytes: bytes.into(),
    };
    let length = whole.bytes.len();
    let tail = whole.bytes.slice(length - 41..);
    let Opened::NeedTail(needed) = Segment::open("test.seg", tail, length as u64).unwrap() else {
        panic!("opened by 41 bytes");
    };
    let tail = whole.bytes.slice(length - needed as usize..);
    let opened = Segment::open("test.seg", tail, length as u64).unwrap();
    assert!(matches!(opened, Opened::Segment(_)));
}

/// The footer of a segment with other content but a right checksum: the reader is on its own.
fn reseal(bytes: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let trailer = bytes.len() - 40;
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (stored, raw) = (word(trailer), word(trailer + 4));
    let mut footer = zstd::bulk::decompress(&bytes[trailer - stored..trailer], raw).unwrap();
    change(&mut footer);
    let stored_again = zstd::bulk::compress(&footer, 1).unwrap();
    let mut out = bytes[..trailer - stored].to_vec();
    out.extend_from_slice(&stored_again);
    let total = (out.len() + 40) as u64;
    let mut sizes = (stored_again.len() as u32).to_le_bytes().to_vec();
    sizes.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    sizes.extend_from_slice(&total.to_le_bytes());
    let mut sum = stored_again.clone();
    sum.extend_from_slice(&sizes);
    out.extend_from_slice(&sizes);
    out.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&sum).to_le_bytes());
    out.extend_from_slice(&bytes[trailer + 24..]);
    out
}

#[test]
fn a_footer_sealed_again_unchanged_still_reads() {
    let (records, bytes) = sample();
    let found = all(&object(reseal(&bytes, |_| {})), "default").unwrap();
    assert_eq!(as_set(&found), records);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// A stable, bounded stand-in for the fuzz target `segment_open`.
    #[test]
    fn footers_that_lie_under_a_right_checksum_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in 0usize..4,
    ) {
        let (_, bytes) = sample();
        let bytes = reseal(&bytes, |footer| {
            for (index, byte) in &changes {
                let at = index.index(footer.len());
                footer[at] = *byte;
            }
            footer.truncate(footer.len() - cut.saturating_sub(2));
        });
        // Whatever comes, it comes without a panic.
        let _ = all(&object(bytes), "default");
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open(&object(bytes)).is_err());
    }
}
