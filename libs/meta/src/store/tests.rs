//! Both stores do the same; the one on disk finds every kind of damage.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn put(shelf: Shelf, number: u64, value: &[u8]) -> Change {
    Change::Put(shelf, number, value.to_vec())
}

fn write(store: &dyn Store, changes: Vec<Change>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(store.write(changes))
}

fn everything(store: &dyn Store) -> Vec<(Shelf, u64, Vec<u8>)> {
    [Shelf::State, Shelf::Log, Shelf::Snapshot]
        .into_iter()
        .flat_map(|shelf| {
            let values = store.read(shelf, 0..=u64::MAX).unwrap();
            let last = values.last().map(|(number, _)| *number);
            assert_eq!(store.last(shelf).unwrap(), last);
            values
                .into_iter()
                .map(move |(number, value)| (shelf, number, value))
        })
        .collect()
}

/// A folder with values of one piece and of several.
fn folder() -> (TempDir, Vec<(Shelf, u64, Vec<u8>)>) {
    let folder = TempDir::new().unwrap();
    let store = DiskStore::open(folder.path()).unwrap();
    write(&store, vec![put(Shelf::State, 1, b"vote")]).unwrap();
    for index in 1..=3 {
        let value = vec![index as u8; 10_000 * index as usize];
        write(&store, vec![put(Shelf::Log, index, &value)]).unwrap();
    }
    write(&store, vec![Change::Remove(Shelf::Log, 0..=1)]).unwrap();
    let expected = everything(&store);
    assert_eq!(expected.len(), 3);
    (folder, expected)
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let (folder, expected) = folder();
    for _ in 0..3 {
        let store = DiskStore::open(folder.path()).unwrap();
        assert_eq!(everything(&store), expected);
    }
}

#[test]
fn a_shorter_value_leaves_nothing_of_a_longer_one() {
    let (folder, _) = folder();
    let store = DiskStore::open(folder.path()).unwrap();
    write(&store, vec![put(Shelf::Log, 3, b"short")]).unwrap();
    let values = store.read(Shelf::Log, 3..=3).unwrap();
    assert_eq!(values, [(3, b"short".to_vec())]);
    write(&store, vec![put(Shelf::Log, 4, b"")]).unwrap();
    assert_eq!(store.last(Shelf::Log).unwrap(), Some(4));
}

#[test]
fn a_folder_is_open_once_and_free_when_closed() {
    let (folder, expected) = folder();
    let first = DiskStore::open(folder.path()).unwrap();
    let second = DiskStore::open(folder.path());
    assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
    first.close();
    let second = DiskStore::open(folder.path()).unwrap();
    assert_eq!(everything(&second), expected);
    assert!(first.read(Shelf::Log, 0..=9).is_err());
    let closed = write(&first, vec![put(Shelf::Log, 9, b"x")]);
    assert!(matches!(closed, Err(Error::Unavailable { .. })));
    assert_eq!(everything(&second), expected);
}

#[test]
fn a_write_under_way_when_the_store_closes_leaves_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let store = Arc::new(MemoryStore::new(Duration::from_millis(5)));
        store.write(vec![put(Shelf::Log, 1, b"a")]).await.unwrap();
        let late = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.write(vec![put(Shelf::Log, 2, b"b")]).await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let reopened = store.reopen();
        assert!(late.await.unwrap().is_err());
        assert_eq!(reopened.last(Shelf::Log).unwrap(), Some(1));
    });
}

#[test]
fn the_folder_of_a_version_before_clusters_is_left_alone() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    let text = DiskStore::open(folder.path()).unwrap_err().to_string();
    assert!(text.contains("use another data folder"), "{text}");
}

/// Changes a folder through sled.
fn with_db(folder: &Path, change: impl FnOnce(&sled::Db)) {
    let config = sled::Config::new().path(folder.join("raft"));
    let db = (0..2000)
        .find_map(|_| {
            let opened = config.open().ok();
            if opened.is_none() {
                // sled frees its lock on a thread of its own.
                std::thread::yield_now();
                std::thread::sleep(Duration::from_millis(5));
            }
            opened
        })
        .unwrap();
    change(&db);
    db.flush().unwrap();
}

#[test]
fn a_missing_piece_is_found() {
    let keys = |number: u64, piece: u32| {
        let mut key = vec![b'l'];
        key.extend_from_slice(&number.to_be_bytes());
        key.extend_from_slice(&piece.to_be_bytes());
        key
    };
    for (number, piece) in [(2, 0), (2, 1), (3, 3)] {
        let (folder, _) = folder();
        with_db(folder.path(), |db| {
            db.remove(keys(number, piece)).unwrap().unwrap();
        });
        let store = DiskStore::open(folder.path()).unwrap();
        let error = store.read(Shelf::Log, 0..=9).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("restore the folder"), "{error}");
    }
}

#[test]
fn a_damaged_file_never_panics_and_never_gives_other_values() {
    let (folder, expected) = folder();
    let file = folder.path().join("raft/db");
    let whole = fs::read(&file).unwrap();
    let check = |damaged: &[u8], what: &str| {
        fs::write(&file, damaged).unwrap();
        let read = DiskStore::open(folder.path()).and_then(|store| {
            let shelves = [Shelf::State, Shelf::Log, Shelf::Snapshot];
            let mut all = Vec::new();
            for shelf in shelves {
                let values = store.read(shelf, 0..=u64::MAX)?;
                all.extend(values.into_iter().map(|(at, value)| (shelf, at, value)));
            }
            Ok(all)
        });
        if let Ok(values) = read {
            assert!(values == expected, "{what}: other values");
        }
    };
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        check(&damaged, &format!("byte {at}"));
        check(&whole[..at], &format!("cut at {at}"));
    }
}

#[test]
fn files_that_sled_takes_for_new_ones_are_found() {
    let (folder, _) = folder();
    fs::remove_dir_all(folder.path().join("raft")).unwrap();
    for _ in 0..2 {
        let error = DiskStore::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        let expected = "expected write 5 or later, found write 0";
        assert!(error.to_string().contains(expected), "{error}");
    }
}

fn shelf() -> impl Strategy<Value = Shelf> {
    prop_oneof![Just(Shelf::State), Just(Shelf::Log), Just(Shelf::Snapshot)]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (shelf(), 0..9_u64, 0..20_000_usize)
            .prop_map(|(shelf, number, length)| put(shelf, number, &vec![7; length])),
        1 => (shelf(), 0..9_u64, 0..9_u64)
            .prop_map(|(shelf, from, length)| Change::Remove(shelf, from..=from + length)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn the_disk_does_what_the_memory_does(
        changes in prop::collection::vec(change(), 0..12),
        reopen in 0..12_usize,
    ) {
        let folder = TempDir::new().unwrap();
        let mut disk = DiskStore::open(folder.path()).unwrap();
        let memory = MemoryStore::default();
        for (at, change) in changes.into_iter().enumerate() {
            if at == reopen {
                disk.close();
                disk = DiskStore::open(folder.path()).unwrap();
            }
            write(&disk, vec![change.clone()]).unwrap();
            write(&memory, vec![change]).unwrap();
            prop_assert_eq!(everything(&disk), everything(&memory));
        }
    }
}
