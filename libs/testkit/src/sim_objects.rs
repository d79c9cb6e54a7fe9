//! Object storage for simulations: a bucket in memory, and for each process a way to it that the
//! simulation makes slow, or on which it loses requests and answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use store::ObjectStorage;

use crate::Operation;

/// What many processes store their objects in; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SimBucket {
    objects: Arc<InMemory>,
    /// Path -> when it was written, and its size.
    written: Arc<Mutex<BTreeMap<String, (SystemTime, u64)>>>,
}

/// One process's way to the bucket.
#[async_trait]
pub trait BucketLink: fmt::Debug + Send + Sync + 'static {
    /// A request on its way there; `false` when it is lost.
    async fn there(&self, operation: Operation, path: &str, bytes: u64) -> bool;

    /// The answer on its way back; `false` when it is lost.
    async fn back(&self, operation: Operation, path: &str, bytes: u64) -> bool;

    /// The time at the bucket.
    fn now(&self) -> SystemTime;
}

#[derive(Debug)]
struct Linked {
    bucket: SimBucket,
    link: Arc<dyn BucketLink>,
}

impl SimBucket {
    /// The bucket as a process sees it.
    pub fn storage(&self, link: Arc<dyn BucketLink>) -> ObjectStorage {
        let bucket = self.clone();
        ObjectStorage::simulated(Arc::new(Linked { bucket, link }))
    }

    /// Every object with its size, by path.
    pub fn objects(&self) -> BTreeMap<String, u64> {
        let written = self.written.lock();
        let objects = written.iter();
        objects
            .map(|(path, (_, bytes))| (path.clone(), *bytes))
            .collect()
    }

    fn dated(&self, meta: ObjectMeta) -> ObjectMeta {
        let written = self.written.lock();
        let at = written.get(meta.location.as_ref());
        ObjectMeta {
            last_modified: at.map_or(meta.last_modified, |(at, _)| (*at).into()),
            ..meta
        }
    }
}

impl Linked {
    async fn there(&self, operation: Operation, path: &str, bytes: u64) -> Result<()> {
        arrived(self.link.there(operation, path, bytes).await)
    }

    async fn back(&self, operation: Operation, path: &str, bytes: u64) -> Result<()> {
        arrived(self.link.back(operation, path, bytes).await)
    }
}

fn arrived(arrived: bool) -> Result<()> {
    match arrived {
        true => Ok(()),
        false => Err(Error::Generic {
            store: "simulated bucket",
            source: "the connection was lost".into(),
        }),
    }
}

impl fmt::Display for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated bucket")
    }
}

#[async_trait]
impl ObjectStore for Linked {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (path, bytes) = (location.as_ref(), payload.content_length() as u64);
        self.there(Operation::Put, path, bytes).await?;
        let put = self.bucket.objects.put_opts(location, payload, options);
        let put = put.await?;
        let written = (self.link.now(), bytes);
        self.bucket.written.lock().insert(path.to_owned(), written);
        self.back(Operation::Put, path, 0).await?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "uploads in parts".to_owned(),
            implementer: "the simulated bucket, whose objects are small".to_owned(),
        })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.as_ref();
        self.there(Operation::Get, path, 0).await?;
        let got = self.bucket.objects.get_opts(location, options).await;
        let bytes = match &got {
            Ok(got) => got.range.end - got.range.start,
            Err(_) => 0,
        };
        self.back(Operation::Get, path, bytes).await?;
        let mut got = got?;
        got.meta = self.bucket.dated(got.meta);
        Ok(got)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (bucket, link) = (self.bucket.clone(), Arc::clone(&self.link));
        let deleted = locations.then(move |location| {
            let linked = Linked {
                bucket: bucket.clone(),
                link: Arc::clone(&link),
            };
            async move {
                let location = location?;
                let path = location.as_ref();
                linked.there(Operation::Delete, path, 0).await?;
                let one = futures::stream::iter([Ok(location.clone())]);
                let mut gone = linked.bucket.objects.delete_stream(one.boxed());
                let gone = gone.next().await;
                linked.bucket.written.lock().remove(path);
                linked.back(Operation::Delete, path, 0).await?;
                gone.unwrap_or(Ok(location.clone()))
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let linked = Linked {
            bucket: self.bucket.clone(),
            link: Arc::clone(&self.link),
        };
        let prefix = prefix.cloned();
        let listing = async move {
            let path = prefix.as_ref().map_or("", |prefix| prefix.as_ref());
            if let Err(error) = linked.there(Operation::List, path, 0).await {
                return futures::stream::iter([Err(error)]).boxed();
            }
            let bucket = linked.bucket.clone();
            let listed = bucket.objects.list(prefix.as_ref());
            let dated = listed.map(move |meta| Ok(bucket.dated(meta?)));
            dated.boxed()
        };
        futures::stream::once(listing).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.map_or("", |prefix| prefix.as_ref());
        self.there(Operation::List, path, 0).await?;
        self.bucket.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.there(Operation::Put, to.as_ref(), 0).await?;
        self.bucket.objects.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Straight;

    #[async_trait]
    impl BucketLink for Straight {
        async fn there(&self, _operation: Operation, path: &str, _bytes: u64) -> bool {
            path != "lost"
        }
        async fn back(&self, _operation: Operation, path: &str, _bytes: u64) -> bool {
            path != "unsaid"
        }
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7)
        }
    }

    #[tokio::test]
    async fn requests_and_answers_are_lost_apart() {
        let bucket = SimBucket::default();
        let storage = bucket.storage(Arc::new(Straight));
        for (path, told) in [("lost", false), ("unsaid", false), ("there", true)] {
            let put = storage.put(path, vec![bytes::Bytes::from_static(b"x")]);
            assert_eq!(put.await.is_ok(), told, "{path}");
        }
        let stored: Vec<String> = bucket.objects().into_keys().collect();
        assert_eq!(stored, ["there", "unsaid"]);
        let listed = storage.list("").await.unwrap();
        assert!(listed.iter().all(|object| object.modified == 7_000_000_000));
        storage.delete("there").await.unwrap();
        assert_eq!(bucket.objects().len(), 1);
    }
}
