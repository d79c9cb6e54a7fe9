//! One conformance suite over every kind of storage.

use bytes::Bytes;
use store::{Config, Error, ObjectStorage};
use tempfile::TempDir;
use testkit::object_storage_suite;

use crate::s3_server::S3Server;

#[tokio::test]
async fn memory_conforms() {
    object_storage_suite(&ObjectStorage::in_memory()).await;
}

#[tokio::test]
async fn a_local_folder_conforms() {
    let folder = TempDir::new().unwrap();
    let config = Config::folder(folder.path().join("made/on/opening"));
    object_storage_suite(&ObjectStorage::open(&config).unwrap()).await;
}

#[tokio::test]
async fn s3_conforms_below_a_prefix_of_its_bucket() {
    let server = S3Server::start().await;
    let whole = ObjectStorage::open(&server.config("")).unwrap();
    let below = ObjectStorage::open(&server.config("some/prefix")).unwrap();
    object_storage_suite(&below).await;
    below
        .put("kept/object", vec![Bytes::from("x")])
        .await
        .unwrap();
    assert!(server.has("some/prefix/kept/object"));
    assert_eq!(
        whole.list("").await.unwrap()[0].path,
        "some/prefix/kept/object"
    );
    assert_eq!(below.list("").await.unwrap()[0].path, "kept/object");
}

#[tokio::test]
async fn a_wrong_secret_is_an_error_that_names_the_object() {
    let server = S3Server::start().await;
    let config = Config {
        secret_key: Some("wrong".to_owned()),
        ..server.config("")
    };
    let storage = ObjectStorage::open(&config).unwrap();
    let refused = storage.put("a/b", vec![Bytes::from("x")]).await;
    let Err(Error::Unavailable { action, reason }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(action, "writing object \"a/b\"");
    assert!(reason.contains("403"), "{reason}");
}

#[tokio::test]
async fn settings_may_come_under_their_aws_names() {
    let server = S3Server::start().await;
    let full = server.config("");
    let config = Config {
        region: None,
        access_key: None,
        secret_key: None,
        aws: [
            ("AWS_REGION", full.region.unwrap()),
            ("AWS_ACCESS_KEY_ID", full.access_key.unwrap()),
            ("AWS_SECRET_ACCESS_KEY", full.secret_key.unwrap()),
            ("AWS_PAGER", "less".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec(),
        ..server.config("")
    };
    let storage = ObjectStorage::open(&config).unwrap();
    storage.put("a", vec![Bytes::from("x")]).await.unwrap();
    assert!(server.has("a"));
}
