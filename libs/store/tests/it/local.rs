//! What only a local folder has: temporary files, names on disk, errors of the file system.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use store::{Config, Error, ObjectStorage};
use tempfile::TempDir;

fn open(folder: &TempDir) -> ObjectStorage {
    ObjectStorage::open(&Config::folder(folder.path())).unwrap()
}

fn temporary_files(folder: &TempDir) -> usize {
    fs::read_dir(folder.path().join(".tmp")).unwrap().count()
}

#[tokio::test]
async fn an_object_is_a_file_below_the_root() {
    let folder = TempDir::new().unwrap();
    let url = format!("file://{}", folder.path().display());
    let config = Config {
        url,
        ..Config::default()
    };
    let storage = ObjectStorage::open(&config).unwrap();
    storage.put("a/b", vec![Bytes::from("x")]).await.unwrap();
    assert_eq!(fs::read(folder.path().join("a/b")).unwrap(), b"x");
    assert_eq!(temporary_files(&folder), 0);
}

#[tokio::test]
async fn unfinished_writes_of_the_dead_are_removed_and_those_of_the_living_kept() {
    let folder = TempDir::new().unwrap();
    let storage = open(&folder);
    storage.put("a", vec![Bytes::from("x")]).await.unwrap();
    fs::write(folder.path().join(".tmp/dead"), b"half").unwrap();
    let living = File::create(folder.path().join(".tmp/living")).unwrap();
    living.lock().unwrap();
    open(&folder);
    assert!(!folder.path().join(".tmp/dead").exists());
    assert!(folder.path().join(".tmp/living").exists());
    assert_eq!(storage.get("a").await.unwrap(), "x");
}

#[tokio::test]
async fn a_write_that_fails_leaves_the_old_object_and_no_temporary_file() {
    let folder = TempDir::new().unwrap();
    let storage = open(&folder);
    storage.put("a", vec![Bytes::from("old")]).await.unwrap();
    // A file cannot be a folder, so the rename fails after the write.
    let failed = storage.put("a/b", vec![Bytes::from("new")]).await;
    assert!(
        matches!(failed, Err(Error::Unavailable { .. })),
        "{failed:?}"
    );
    assert_eq!(storage.get("a").await.unwrap(), "old");
    assert_eq!(temporary_files(&folder), 0);
}

#[tokio::test]
async fn folders_removed_by_hand_are_made_again() {
    let folder = TempDir::new().unwrap();
    let storage = open(&folder);
    storage.put("a/b/c", vec![Bytes::from("x")]).await.unwrap();
    fs::remove_dir_all(folder.path().join("a")).unwrap();
    storage.put("a/b/d", vec![Bytes::from("y")]).await.unwrap();
    assert_eq!(storage.get("a/b/d").await.unwrap(), "y");
}

#[tokio::test]
async fn a_folder_in_the_place_of_an_object_is_no_object() {
    let folder = TempDir::new().unwrap();
    let storage = open(&folder);
    storage.put("a/b", vec![Bytes::from("x")]).await.unwrap();
    let missing = |object: &str| {
        let object = object.to_owned();
        Error::NotFound { object }
    };
    assert_eq!(storage.size("a").await, Err(missing("a")));
    assert_eq!(storage.size("a/b/c").await, Err(missing("a/b/c")));
    storage.delete("a/b/c").await.unwrap();
}

#[tokio::test]
async fn a_root_that_cannot_be_made_is_an_error_that_names_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let error = ObjectStorage::open(&Config::folder(file.join("root"))).unwrap_err();
    assert!(
        error.to_string().contains(&file.display().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn calls_and_bytes_are_counted() {
    let folder = TempDir::new().unwrap();
    let storage = open(&folder);
    storage
        .put("a", vec![Bytes::from("0123456789")])
        .await
        .unwrap();
    storage.clone().ranges("a", &[0..2, 5..8]).await.unwrap();
    let counts = storage.counts();
    assert_eq!((counts.writes, counts.bytes_written), (1, 10));
    assert_eq!((counts.reads, counts.bytes_read), (1, 5));
}

#[tokio::test]
async fn what_was_just_written_is_at_hand_and_a_service_has_nothing_at_hand() {
    let folder = TempDir::new().unwrap();
    let storage = open(&folder);
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let part = Bytes::from(bytes.clone());
    storage.put("a", vec![part.clone()]).await.unwrap();
    let ranges = [0..10, 90_000..100_000, 20..20, 5_000..70_000];
    let read = storage.ranges_at_hand("a", &ranges).unwrap();
    // Not every file system can tell.
    if let Some(read) = read {
        assert_eq!(read, storage.ranges("a", &ranges).await.unwrap());
        assert_eq!(read[1], bytes[90_000..]);
        assert_eq!(storage.counts().reads, 2);
        let beyond = storage.ranges_at_hand("a", &[0..5, 99_990..100_001]);
        assert!(matches!(beyond, Err(Error::Corrupt { .. })), "{beyond:?}");
    }
    let absent = storage.ranges_at_hand("b", &ranges);
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
    let service = ObjectStorage::in_memory();
    service.put("a", vec![part]).await.unwrap();
    assert_eq!(service.ranges_at_hand("a", &ranges).unwrap(), None);
}
