//! Recovery, and every kind of damage: an error that says what was found, never a panic and never
//! an older state.

use tempfile::TempDir;

use super::*;
use crate::testing::{flush, form, swap};

/// A folder whose log makes a catalog of version 4, snapshot (if any) at 2.
fn folder(with_snapshot: bool) -> (TempDir, Catalog) {
    let folder = TempDir::new().unwrap();
    let (mut log, catalog) = Log::open(folder.path()).unwrap();
    let mut machine = StateMachine::new(catalog);
    // Long enough for several pieces.
    let paths: Vec<String> = (0..100).map(|at| format!("logs/{at}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let commands = [
        flush(1, 1, &paths),
        form(),
        swap(&[1, 2], &["merged"], 9),
        flush(1, 2, &["last"]),
    ];
    for command in commands {
        machine.apply(&command).unwrap();
        let version = machine.catalog().version;
        log.append(&[(version, wire::encode_command(&command))])
            .unwrap();
        if with_snapshot && version == 2 {
            log.compact(machine.catalog()).unwrap();
        }
    }
    (folder, (**machine.catalog()).clone())
}

fn with_db(folder: &TempDir, change: impl FnOnce(&sled::Db)) {
    let (log, _) = Log::open(folder.path()).unwrap();
    change(&log.db);
    log.sync().unwrap();
}

#[track_caller]
fn opens_with_corrupt(folder: &TempDir, expected: &str) {
    let error = Log::open(folder.path()).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Corrupt { .. }), "{text}");
    assert!(
        text.contains(&folder.path().display().to_string()),
        "{text}"
    );
    assert!(text.contains(expected), "{text}");
}

#[test]
fn what_was_appended_is_recovered_with_and_without_a_snapshot() {
    for (with_snapshot, commands) in [(false, 4), (true, 2)] {
        let (folder, expected) = folder(with_snapshot);
        for _ in 0..3 {
            let (log, catalog) = Log::open(folder.path()).unwrap();
            assert_eq!(catalog, expected);
            assert_eq!(log.commands(), commands);
        }
    }
}

#[test]
fn a_snapshot_that_was_begun_and_not_finished_changes_nothing() {
    let (folder, expected) = folder(true);
    with_db(&folder, |db| {
        db.insert(key(b's', 4, 0), b"half a snapshot").unwrap();
    });
    let (mut log, catalog) = Log::open(folder.path()).unwrap();
    assert_eq!(catalog, expected);
    // The next snapshot removes what the unfinished one and the one before left.
    log.compact(&catalog).unwrap();
    drop(log);
    let (log, catalog) = Log::open(folder.path()).unwrap();
    assert_eq!(catalog, expected);
    let versions = log.db.scan_prefix(b"s").keys().map(|key| key.unwrap()[8]);
    assert!(versions.into_iter().all(|version| version == 4));
    assert_eq!(log.db.scan_prefix(b"l").count(), 0);
}

#[test]
fn a_gap_in_the_log_is_found() {
    for (version, piece, expected) in [
        (1, 0, "expected piece 0 of the command that makes version 1"),
        (1, 1, "expected piece 1 of the command that makes version 1"),
        (2, 0, "expected piece 0 of the command that makes version 2"),
    ] {
        let (folder, _) = folder(false);
        with_db(&folder, |db| {
            db.remove(key(b'l', version, piece)).unwrap();
        });
        opens_with_corrupt(&folder, expected);
    }
}

#[test]
fn a_command_cut_off_at_the_end_of_the_log_is_found() {
    let (folder, _) = folder(false);
    with_db(&folder, |db| {
        db.insert(key(b'l', 5, 0), b"\0{").unwrap();
    });
    opens_with_corrupt(&folder, "found the end of the log");
}

#[test]
fn entries_that_are_no_commands_are_found() {
    for (value, expected) in [
        (&b"\x01{"[..], "version 5: EOF"),
        (b"", "found key"),
        (
            b"\x01{\"format\":1,\"command\":\"nonsense\"}",
            "unknown variant",
        ),
    ] {
        let (folder, _) = folder(true);
        with_db(&folder, |db| {
            db.insert(key(b'l', 5, 0), value).unwrap();
        });
        opens_with_corrupt(&folder, expected);
    }
    let (folder, _) = folder(true);
    let refused = [&[1], &wire::encode_command(&flush(1, 1, &[]))[..]].concat();
    with_db(&folder, |db| {
        db.insert(key(b'l', 5, 0), refused).unwrap();
    });
    opens_with_corrupt(
        &folder,
        "version 5 is refused: head 1 of ingester 1 is covered already",
    );
}

#[test]
fn an_entry_of_a_newer_program_is_named() {
    let (folder, _) = folder(true);
    with_db(&folder, |db| {
        let entry = &b"\x01{\"format\":2,\"command\":{\"new\":1}}"[..];
        db.insert(key(b'l', 5, 0), entry).unwrap();
    });
    let error = Log::open(folder.path()).map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooNew {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_damaged_snapshot_is_found() {
    type Change = fn(&sled::Db);
    let cases: [(Change, &str); 4] = [
        (
            |db| drop(db.remove(key(b's', 2, 1)).unwrap()),
            "piece 1 is missing",
        ),
        (
            |db| drop(db.insert(key(b's', 2, 0), b"short").unwrap()),
            "bytes, found",
        ),
        (
            |db| drop(db.insert(b"c", b"{}").unwrap()),
            "the snapshot's description: missing field",
        ),
        (
            |db| {
                let piece = db.get(key(b's', 2, 0)).unwrap().unwrap().to_vec();
                let text = String::from_utf8(piece).unwrap();
                let text = text.replacen("\"version\":2", "\"version\":3", 1);
                db.insert(key(b's', 2, 0), text.as_bytes()).unwrap();
            },
            "found version 3 in it",
        ),
    ];
    for (change, expected) in cases {
        let (folder, _) = folder(true);
        with_db(&folder, change);
        opens_with_corrupt(&folder, expected);
    }
}

#[test]
fn a_damaged_file_never_panics_and_never_gives_another_catalog() {
    let (folder, expected) = folder(true);
    let file = folder.path().join("log/db");
    let whole = fs::read(&file).unwrap();
    let check = |damaged: &[u8], what: &str| {
        fs::write(&file, damaged).unwrap();
        match Log::open(folder.path()) {
            Ok((_, catalog)) => assert!(catalog == expected, "{what}: another catalog"),
            Err(error) => assert_ne!(error.kind(), model::Kind::Internal, "{what}: {error}"),
        }
    };
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        check(&damaged, &format!("byte {at}"));
        check(&whole[..at], &format!("cut at {at}"));
    }
}

#[test]
fn a_log_that_sled_takes_for_a_new_one_is_found() {
    let (folder, _) = folder(true);
    fs::remove_dir_all(folder.path().join("log")).unwrap();
    opens_with_corrupt(&folder, "expected version 4 or later, found version 0");
    // And again, now that sled has made new files.
    opens_with_corrupt(&folder, "expected version 4 or later, found version 0");
}
