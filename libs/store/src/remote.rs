//! Objects behind the `object_store` crate: S3, memory, or a backend that a test wraps.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path as FilePath;
use std::str::FromStr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use tokio::io::AsyncReadExt;

use crate::plan::{beyond, coalesce, distribute};
use crate::{Config, Error, ObjectInfo};

/// Ranges nearer than this share a request: at 50 MB/s, 64 KiB arrive in about a millisecond, far
/// less than a request takes.
const GAP_BYTES_MAX: u64 = 64 * 1024;
/// Requests of one call that run at once.
const REQUESTS_MAX: usize = 16;
/// Objects up to this size go in one request. Also the size of a part: S3 allows 10,000 parts, so
/// that objects may have up to 80 GB.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts of one object on their way at once: bounds the memory of an upload to 32 MiB.
const PARTS_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    /// Path of all objects in the bucket; empty or without slashes at the ends.
    prefix: String,
    files: Files,
}

/// How files that are uploaded are read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Files {
    /// On threads of the runtime, while other tasks go on.
    Beside,
    /// At once: in a simulation nothing happens beside a task.
    AtOnce,
}

enum Source {
    Beside(tokio::fs::File),
    AtOnce(std::fs::File),
}

impl Remote {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: String, files: Files) -> Self {
        Remote {
            store,
            prefix,
            files,
        }
    }

    pub(crate) fn s3(config: &Config, bucket: &str, prefix: String) -> Result<Self, Error> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in &config.aws {
            if let Ok(key) = AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()) {
                builder = builder.with_config(key, value);
            }
        }
        builder = builder
            .with_bucket_name(bucket)
            .with_allow_http(config.allow_http)
            .with_virtual_hosted_style_request(!config.path_style);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(key) = &config.access_key {
            builder = builder.with_access_key_id(key);
        }
        if let Some(secret) = &config.secret_key {
            builder = builder.with_secret_access_key(secret);
        }
        if let Some(token) = &config.session_token {
            builder = builder.with_token(token);
        }
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        if let Some(endpoint) = endpoint
            && endpoint.starts_with("http://")
            && !config.allow_http
        {
            return Err(Error::Invalid(format!(
                "the S3 endpoint {endpoint:?} is without TLS: use https://, or set storage_s3_allow_http"
            )));
        }
        let store = builder
            .build()
            .map_err(|error| Error::Invalid(format!("settings of bucket {bucket:?}: {error}")))?;
        Ok(Remote::new(Arc::new(store), prefix, Files::Beside))
    }

    fn location(&self, object: &str) -> Result<Path, Error> {
        let full = match self.prefix.as_str() {
            "" => object.to_owned(),
            prefix => format!("{prefix}/{object}"),
        };
        Path::parse(&full).map_err(|error| Error::Invalid(error.to_string()))
    }

    pub(crate) async fn put(&self, object: &str, parts: Vec<Bytes>) -> Result<(), Error> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let location = self.location(object)?;
        let failed = |error| self.failed("writing", object, &error);
        if bytes <= PART_BYTES {
            let payload = PutPayload::from_iter(parts);
            self.store.put(&location, payload).await.map_err(failed)?;
            return Ok(());
        }
        let mut upload = self.start_upload(object, &location).await?;
        for part in parts {
            // One at a time, so that a part larger than the limit cannot start them all.
            for start in (0..part.len()).step_by(PART_BYTES) {
                let end = part.len().min(start + PART_BYTES);
                if let Err(error) = upload.wait_for_capacity(PARTS_MAX).await {
                    return Err(self.give_up(object, upload, &error).await);
                }
                upload.put(part.slice(start..end));
            }
        }
        self.finish(object, upload).await
    }

    pub(crate) async fn put_file(&self, object: &str, source: &FilePath) -> Result<u64, Error> {
        let reading = |error| Error::failed(format!("reading file {}", source.display()), &error);
        let mut file = Source::open(source, self.files).await.map_err(reading)?;
        let first = file.read_part().await.map_err(reading)?;
        let mut bytes = first.len() as u64;
        if first.len() < PART_BYTES {
            self.put(object, vec![first]).await?;
            return Ok(bytes);
        }
        let location = self.location(object)?;
        let mut upload = self.start_upload(object, &location).await?;
        upload.put(first);
        loop {
            let part = match file.read_part().await {
                Ok(part) => part,
                Err(error) => {
                    self.abort(object, upload).await;
                    return Err(reading(error));
                }
            };
            if part.is_empty() {
                break;
            }
            bytes += part.len() as u64;
            if let Err(error) = upload.wait_for_capacity(PARTS_MAX).await {
                return Err(self.give_up(object, upload, &error).await);
            }
            upload.put(part);
        }
        self.finish(object, upload).await?;
        Ok(bytes)
    }

    async fn start_upload(&self, object: &str, at: &Path) -> Result<WriteMultipart, Error> {
        let upload = self.store.put_multipart(at).await;
        let upload = upload.map_err(|error| self.failed("writing", object, &error))?;
        Ok(WriteMultipart::new_with_chunk_size(upload, PART_BYTES))
    }

    async fn finish(&self, object: &str, mut upload: WriteMultipart) -> Result<(), Error> {
        if let Err(error) = upload.wait_for_capacity(0).await {
            return Err(self.give_up(object, upload, &error).await);
        }
        match upload.finish().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed("writing", object, &error)),
        }
    }

    async fn give_up(
        &self,
        object: &str,
        upload: WriteMultipart,
        error: &object_store::Error,
    ) -> Error {
        self.abort(object, upload).await;
        self.failed("writing", object, error)
    }

    async fn abort(&self, object: &str, upload: WriteMultipart) {
        if let Err(error) = upload.abort().await {
            tracing::warn!(object, %error, "cannot abort an upload: its parts stay in the bucket");
        }
    }

    pub(crate) async fn ranges(
        &self,
        object: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, Error> {
        let location = &self.location(object)?;
        let reads = coalesce(ranges, GAP_BYTES_MAX);
        let requests = futures::stream::iter(reads.into_iter().map(|read| async move {
            let bytes = self.store.get_range(location, read.range.clone()).await;
            match bytes {
                Ok(bytes) if bytes.len() as u64 == read.range.end - read.range.start => {
                    Ok((read, bytes))
                }
                Ok(bytes) => {
                    let size = read.range.start + bytes.len() as u64;
                    Err(self.short(object, ranges, &read.members, size))
                }
                Err(error) => Err(self.unreadable(object, ranges, &read.members, &error).await),
            }
        }));
        let mut requests = requests.buffer_unordered(REQUESTS_MAX);
        let mut out = vec![Bytes::new(); ranges.len()];
        while let Some((read, bytes)) = requests.try_next().await? {
            distribute(&read, &bytes, ranges, &mut out);
        }
        Ok(out)
    }

    /// A service answers a range beyond the end with an error of its own: the size tells.
    async fn unreadable(
        &self,
        object: &str,
        ranges: &[Range<u64>],
        members: &[usize],
        error: &object_store::Error,
    ) -> Error {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return self.failed("reading", object, error);
        }
        match self.size(object).await {
            Ok(size) if beyond(ranges, members, size).is_some() => {
                self.short(object, ranges, members, size)
            }
            _ => self.failed("reading", object, error),
        }
    }

    fn short(&self, object: &str, ranges: &[Range<u64>], members: &[usize], size: u64) -> Error {
        match beyond(ranges, members, size) {
            Some(range) => Error::corrupt(object, &range, size.saturating_sub(range.start)),
            None => Error::Unavailable {
                action: format!("reading object {object:?}"),
                reason: "the answer is not as long as the range asked for".to_owned(),
            },
        }
    }

    pub(crate) async fn size(&self, object: &str) -> Result<u64, Error> {
        let location = self.location(object)?;
        let head = self.store.head(&location).await;
        let head = head.map_err(|error| self.failed("asking for the size of", object, &error))?;
        Ok(head.size)
    }

    pub(crate) async fn delete(&self, object: &str) -> Result<(), Error> {
        let location = self.location(object)?;
        match self.store.delete(&location).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("deleting", object, &error)),
        }
    }

    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, Error> {
        let below = match (self.prefix.as_str(), folder) {
            ("", "") => None,
            (prefix, "") => Some(Path::parse(prefix)),
            _ => Some(Ok(self.location(folder)?)),
        };
        let below = below
            .transpose()
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let listed: Result<Vec<_>, _> = self.store.list(below.as_ref()).try_collect().await;
        let listed = listed
            .map_err(|error| Error::failed(format!("listing objects below {folder:?}"), &error))?;
        let skip = match self.prefix.len() {
            0 => 0,
            length => length + 1,
        };
        let mut found: Vec<ObjectInfo> = listed
            .into_iter()
            .filter_map(|meta| {
                Some(ObjectInfo {
                    path: meta.location.as_ref().get(skip..)?.to_owned(),
                    bytes: meta.size,
                    modified: meta.last_modified.timestamp_nanos_opt().unwrap_or(0),
                })
            })
            .collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn failed(&self, doing: &str, object: &str, error: &object_store::Error) -> Error {
        match error {
            object_store::Error::NotFound { .. } => Error::NotFound {
                object: object.to_owned(),
            },
            _ => Error::failed(format!("{doing} object {object:?}"), error),
        }
    }
}

impl Source {
    async fn open(path: &FilePath, files: Files) -> io::Result<Self> {
        Ok(match files {
            Files::Beside => Source::Beside(tokio::fs::File::open(path).await?),
            Files::AtOnce => Source::AtOnce(std::fs::File::open(path)?),
        })
    }

    /// The next [`PART_BYTES`] of the file, fewer only at its end.
    async fn read_part(&mut self) -> io::Result<Bytes> {
        let file = match self {
            Source::Beside(file) => file,
            Source::AtOnce(file) => {
                let mut part = Vec::new();
                file.take(PART_BYTES as u64).read_to_end(&mut part)?;
                return Ok(part.into());
            }
        };
        let mut part = BytesMut::with_capacity(PART_BYTES);
        while part.len() < PART_BYTES {
            let room = (PART_BYTES - part.len()) as u64;
            if file.take(room).read_buf(&mut part).await? == 0 {
                break;
            }
        }
        Ok(part.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_tls_is_refused_unless_it_is_allowed() {
        let mut config = Config {
            url: "s3://logs".to_owned(),
            endpoint: Some("http://127.0.0.1:9000".to_owned()),
            ..Config::default()
        };
        let refused = Remote::s3(&config, "logs", String::new()).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("storage_s3_allow_http"), "{text}");
        config.endpoint = None;
        config.aws = vec![("AWS_ENDPOINT_URL".into(), "http://127.0.0.1:9000".into())];
        assert_eq!(
            Remote::s3(&config, "logs", String::new()).err(),
            Some(refused)
        );
        config.allow_http = true;
        assert!(Remote::s3(&config, "logs", String::new()).is_ok());
    }
}
