//! A backend for object storage that fails or waits on command.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use store::ObjectStorage;
use tokio::sync::{Semaphore, watch};

/// A backend around another that counts requests, fails a number of them, or holds them back until
/// it is told to go on. Clones are the same backend.
#[derive(Clone, Debug)]
pub struct FaultyBackend {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Mutex<Faults>>,
    held: watch::Sender<bool>,
    /// How many of the requests that are held may go on.
    passes: Arc<Semaphore>,
}

/// Which requests a [`FaultyBackend`] counts and fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads of bytes or of sizes.
    Get,
    /// Writes, in one request or in parts.
    Put,
    /// Deletions.
    Delete,
    /// Listings.
    List,
}

/// Requests that reached a [`FaultyBackend`], those that failed included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Reads of bytes or of sizes.
    pub gets: u64,
    /// Writes; each part of a large one counts.
    pub puts: u64,
    /// Deletions.
    pub deletes: u64,
    /// Listings.
    pub lists: u64,
}

#[derive(Debug, Default)]
struct Faults {
    counts: RequestCounts,
    get_failures: u64,
    put_failures: u64,
    delete_failures: u64,
    list_failures: u64,
    out_of_space: bool,
}

impl FaultyBackend {
    /// A backend that does all that `inner` does, without faults.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        FaultyBackend {
            inner,
            faults: Arc::default(),
            held: watch::channel(false).0,
            passes: Arc::new(Semaphore::new(0)),
        }
    }

    /// An empty one in memory.
    pub fn in_memory() -> Self {
        FaultyBackend::new(Arc::new(object_store::memory::InMemory::new()))
    }

    /// A storage over it.
    pub fn storage(&self) -> ObjectStorage {
        ObjectStorage::with_backend(Arc::new(self.clone()))
    }

    /// The next `times` requests of this kind fail; then they succeed again.
    pub fn fail(&self, operation: Operation, times: u64) {
        *self.faults.lock().failures(operation) = times;
    }

    /// From now on every write fails as on a full disk, or no longer does.
    pub fn set_out_of_space(&self, full: bool) {
        self.faults.lock().out_of_space = full;
    }

    /// From now on requests wait (they are counted before), until [`release`](Self::release).
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets the waiting requests go on.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Lets so many of the requests that are held go on, now or as soon as they come.
    pub fn pass(&self, requests: usize) {
        self.passes.add_permits(requests);
    }

    /// What reached it so far.
    pub fn counts(&self) -> RequestCounts {
        self.faults.lock().counts
    }

    async fn enter(&self, operation: Operation) -> Result<()> {
        let admitted = self.admit(operation);
        let mut held = self.held.subscribe();
        // Sender and semaphore are part of this value: waiting cannot fail.
        tokio::select! {
            biased;
            _ = held.wait_for(|held| !held) => {}
            Ok(pass) = self.passes.acquire() => pass.forget(),
        }
        admitted
    }

    fn admit(&self, operation: Operation) -> Result<()> {
        let mut faults = self.faults.lock();
        *faults.count(operation) += 1;
        if operation == Operation::Put && faults.out_of_space {
            return Err(failure(std::io::ErrorKind::StorageFull.into()));
        }
        let failures = faults.failures(operation);
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err(failure(std::io::Error::other("failed on command")))
    }
}

impl Faults {
    fn failures(&mut self, operation: Operation) -> &mut u64 {
        match operation {
            Operation::Get => &mut self.get_failures,
            Operation::Put => &mut self.put_failures,
            Operation::Delete => &mut self.delete_failures,
            Operation::List => &mut self.list_failures,
        }
    }

    fn count(&mut self, operation: Operation) -> &mut u64 {
        match operation {
            Operation::Get => &mut self.counts.gets,
            Operation::Put => &mut self.counts.puts,
            Operation::Delete => &mut self.counts.deletes,
            Operation::List => &mut self.counts.lists,
        }
    }
}

fn failure(source: std::io::Error) -> Error {
    Error::Generic {
        store: "faulty backend",
        source: Box::new(source),
    }
}

impl fmt::Display for FaultyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyBackend {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.enter(Operation::Put).await?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await?;
        let backend = self.clone();
        Ok(Box::new(FaultyUpload { upload, backend }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.enter(Operation::Get).await?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.admit(Operation::Delete) {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => Box::pin(futures::stream::iter([Err(error)])),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.admit(Operation::List) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => Box::pin(futures::stream::iter([Err(error)])),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.enter(Operation::List).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.enter(Operation::Put).await?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    backend: FaultyBackend,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> object_store::UploadPart {
        let part = self.upload.put_part(data);
        let backend = self.backend.clone();
        Box::pin(async move {
            backend.enter(Operation::Put).await?;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.backend.enter(Operation::Put).await?;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
