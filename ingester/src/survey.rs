//! What a storage holds, by the objects alone: for whoever has to do without a catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Kind;
use rpc::{SegmentId, SegmentMeta, TenantSegment};
use segment::{Opened, Segment, TAIL_BYTES};
use store::{ObjectInfo, ObjectStorage};
use tokio::task::JoinSet;

use crate::{Error, objects};

/// Objects that are read at once: a request for the end of each.
const READS_MAX: usize = 16;

/// What [`survey`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Segments, in order of path; their `id` is 0.
    pub segments: Vec<SegmentMeta>,
    /// Paths of objects that are no segments, or damaged ones, with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// The objects in the folders of clusters, by the number of the cluster.
///
/// # Errors
/// The storage's.
pub async fn clusters_in(
    storage: &ObjectStorage,
) -> Result<BTreeMap<String, Vec<ObjectInfo>>, Error> {
    let mut clusters = BTreeMap::<String, Vec<ObjectInfo>>::new();
    for object in storage.list(objects::ROOT).await? {
        if let Some(named) = objects::parse(&object.path) {
            let cluster = named.cluster.to_owned();
            clusters.entry(cluster).or_default().push(object);
        }
    }
    Ok(clusters)
}

/// Reads the end of each object, which says what is in it.
///
/// # Errors
/// `Unavailable` when the storage does not answer: the survey would be incomplete.
pub async fn survey(storage: &ObjectStorage, objects: Vec<ObjectInfo>) -> Result<Survey, Error> {
    let mut survey = Survey::default();
    let mut left = objects.into_iter();
    let mut reads = JoinSet::new();
    loop {
        while reads.len() < READS_MAX
            && let Some(object) = left.next()
        {
            let storage = storage.clone();
            reads.spawn(async move {
                let read = read(&storage, &object).await;
                (object, read)
            });
        }
        let Some(done) = reads.join_next().await else {
            break;
        };
        let (object, read) = done.map_err(|error| {
            Error::Stopped(format!("reading the end of an object ended early: {error}"))
        })?;
        match read {
            Ok(segment) => survey.segments.push(segment),
            Err(error) if error.kind() == Kind::Unavailable => return Err(error),
            Err(error) => survey.unreadable.push((object.path, error.to_string())),
        }
    }
    survey.segments.sort_by(|a, b| a.path.cmp(&b.path));
    survey.unreadable.sort();
    Ok(survey)
}

async fn read(storage: &ObjectStorage, object: &ObjectInfo) -> Result<SegmentMeta, Error> {
    let path = object.path.as_str();
    let named = objects::parse(path).ok_or_else(|| damaged(path, "its name is no segment's"))?;
    let signal = named
        .signal
        .ok_or_else(|| damaged(path, "its folder names no kind of data that is known"))?;
    let mut tail_bytes = TAIL_BYTES.min(object.bytes);
    let segment = loop {
        let range = object.bytes - tail_bytes..object.bytes;
        let tail = storage.range(path, range).await?;
        match Segment::open(path, tail, object.bytes)? {
            Opened::Segment(segment) => break segment,
            Opened::NeedTail(bytes) if bytes > tail_bytes && bytes <= object.bytes => {
                tail_bytes = bytes;
            }
            Opened::NeedTail(_) => return Err(damaged(path, "its footer is longer than itself")),
        }
    };
    let tenants = segment.tenants().into_iter().map(|tenant| TenantSegment {
        tenant: tenant.tenant,
        records: tenant.records,
        content_bytes: tenant.content_bytes,
        first: tenant.first,
        last: tenant.last,
    });
    Ok(SegmentMeta {
        id: SegmentId(0),
        signal,
        path: Arc::from(path),
        object_bytes: object.bytes,
        created: named.created.unwrap_or(object.modified),
        level: u32::from(named.merged),
        tenants: tenants.collect(),
    })
}

fn damaged(path: &str, why: &str) -> Error {
    Error::Log(format!("object {path:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::{Labels, LogBatchBuilder, Signal, StreamId, TenantId};

    use super::*;
    use crate::codec;

    /// An object with two lines of two tenants' own.
    fn object(tenants: &[&str]) -> (Vec<u8>, codec::Written) {
        let batch = |name: &&str| {
            let tenant = TenantId::new(name).unwrap();
            let labels = Labels::new([("app", *name)]).unwrap();
            let mut builder = LogBatchBuilder::new(tenant.clone());
            let id = StreamId::of(&tenant, Signal::Logs, &labels);
            builder.stream(id, &Arc::new(labels));
            builder.push(5, b"one", &mut []);
            builder.push(7, b"seven", &mut []);
            Arc::new(builder.finish())
        };
        let batches: Vec<_> = tenants.iter().map(batch).collect();
        let mut object = Vec::new();
        let written = codec::encode(&batches, &mut object).unwrap();
        (object, written)
    }

    async fn put(storage: &ObjectStorage, path: &str, object: Vec<u8>) {
        storage.put(path, vec![Bytes::from(object)]).await.unwrap();
    }

    #[tokio::test]
    async fn objects_say_what_their_segments_held_when_they_were_written() {
        let storage = ObjectStorage::in_memory();
        let (object, written) = object(&["b", "a"]);
        let flushed = objects::path("c1", Signal::Logs, 9, 3, "h7-0");
        let merged = objects::path("c1", Signal::Logs, 10, 3, "m2");
        put(&storage, &flushed, object.clone()).await;
        put(&storage, &merged, object).await;
        put(
            &storage,
            "segments/c2/logs/1970-01-01/1-h1-0-3.seg",
            vec![7; 99],
        )
        .await;
        put(&storage, "segments/stray", vec![1]).await;
        let clusters = clusters_in(&storage).await.unwrap();
        assert_eq!(clusters.keys().collect::<Vec<_>>(), ["c1", "c2"]);
        let found = survey(&storage, clusters["c1"].clone()).await.unwrap();
        assert_eq!(found.unreadable, []);
        let expected = |path: &str, created, level| SegmentMeta {
            id: SegmentId(0),
            signal: Signal::Logs,
            path: path.into(),
            object_bytes: written.object_bytes,
            created,
            level,
            tenants: written.tenants.clone(),
        };
        assert_eq!(
            found.segments,
            [expected(&flushed, 9, 0), expected(&merged, 10, 1)]
        );
        let damaged = survey(&storage, clusters["c2"].clone()).await.unwrap();
        assert_eq!((damaged.segments.len(), damaged.unreadable.len()), (0, 1));
    }
}
