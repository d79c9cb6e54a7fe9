use std::borrow::Cow;
use std::sync::Arc;

use model::{Labels, LabelsError, Signal, StreamId, TenantId};
use parking_lot::Mutex;
use proto::STREAMS_AHEAD;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::Limits;
use crate::cache::Cache;
use crate::heat::Heat;
use crate::refusal::Reason;

const SERVICE_NAME: &str = "service_name";
const UNKNOWN_SERVICE: &str = "unknown_service";

/// A stream that has passed the limits.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) labels: Arc<Labels>,
    /// If streams are spread when they are hot.
    pub(crate) heat: Option<Arc<Heat>>,
}

/// Why a stream is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StreamRefusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// Finds streams by their labels as they were sent, and checks the labels of new ones.
pub(crate) struct Streams {
    limits: Limits,
    /// Of the hashes below: who does not know it cannot make labels that have the hash of others.
    seed: u64,
    /// By the hash of tenant and labels as sent, so that these need not be read again. They are not kept: what
    /// has the hash counts as the same, as it does for the id of a stream.
    known: Mutex<Cache<u128, Stream>>,
}

/// Labels hashed with their tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextHasher {
    /// Another one where streams are spread, so that those that were remembered when they were not, and
    /// do not measure their heat, are not found any more.
    seed: u64,
    spreads: bool,
}

impl TextHasher {
    fn hash(self, text: &[u8]) -> u128 {
        xxh3_128_with_seed(text, self.seed)
    }
}

impl Streams {
    /// Of each generation of the cache, bytes of labels and entries: about 26,000 streams of usual size.
    const KNOWN_BYTES: usize = 8 << 20;
    /// What an entry weighs beyond its labels: about what the table needs.
    const ENTRY_BYTES: usize = 128;
    /// Longer keys are not kept.
    const KEY_BYTES_MAX: usize = 4 << 10;

    /// `seed` is a number of this process that senders do not know.
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Streams {
            limits,
            seed,
            known: Mutex::new(Cache::new(Self::KNOWN_BYTES)),
        }
    }

    /// What hashes labels of the tenant, while there are so many shards.
    pub(crate) fn text_hasher(&self, tenant: &TenantId, shards: u32) -> TextHasher {
        let spreads = self.limits.shard_stream_bytes_per_second > 0 && shards > 1;
        let seed = self.seed ^ u64::from(spreads);
        TextHasher {
            seed: xxh3_64_with_seed(tenant.as_str().as_bytes(), seed),
            spreads,
        }
    }

    /// Those of the texts that are known, in their order, added to `found`; no more than [`STREAMS_AHEAD`]
    /// texts are looked up. With many streams most of what is read here is far away: the first reads of all
    /// of them do not depend on each other, so that the core waits for them together.
    pub(crate) fn of_texts(
        &self,
        hasher: TextHasher,
        texts: &[&[u8]],
        found: &mut impl Extend<Option<Stream>>,
    ) {
        let mut hashes = [0; STREAMS_AHEAD];
        for (hash, text) in hashes.iter_mut().zip(texts) {
            *hash = hasher.hash(text);
        }
        let hashes = &hashes[..texts.len().min(STREAMS_AHEAD)];
        let known = self.known.lock();
        let mut streams = [None; STREAMS_AHEAD];
        for (stream, hash) in streams.iter_mut().zip(hashes) {
            *stream = known.get_young(hash);
        }
        let streams = &streams[..hashes.len()];
        let labels = streams.iter().flatten().map(|stream| &stream.labels);
        std::hint::black_box(labels.map(Arc::strong_count).sum::<usize>());
        found.extend(streams.iter().map(|stream| stream.cloned()));
    }

    /// The stream with these labels as text; no text is no label. Without any label at all, it is
    /// a stream of `unknown_service` if such names are given, else refused.
    pub(crate) fn of_text(
        &self,
        hasher: TextHasher,
        tenant: &TenantId,
        text: &[u8],
    ) -> Result<Stream, StreamRefusal> {
        let keep = text.len() <= Self::KEY_BYTES_MAX;
        self.lookup(hasher.hash(text), keep, || {
            self.check_text(tenant, text, hasher.spreads)
        })
    }

    /// The stream with these labels; of equal names the last counts. Without any label at all, it
    /// is a stream of `unknown_service` if `unlabelled` and such names are given, else refused.
    pub(crate) fn of_pairs(
        &self,
        hasher: TextHasher,
        tenant: &TenantId,
        pairs: &[(&str, &str)],
        unlabelled: bool,
        key: &mut Vec<u8>,
    ) -> Result<Stream, StreamRefusal> {
        key.clear();
        key.extend_from_slice(tenant.as_str().as_bytes());
        let kind = if unlabelled { b'u' } else { b'p' };
        key.extend_from_slice(&[0, kind, u8::from(hasher.spreads)]);
        for (name, value) in pairs {
            for text in [name, value] {
                key.extend_from_slice(&(text.len() as u32).to_le_bytes());
                key.extend_from_slice(text.as_bytes());
            }
        }
        let keep = key.len() <= Self::KEY_BYTES_MAX;
        self.lookup(xxh3_128_with_seed(key, self.seed), keep, || {
            // The sort is stable, so the last of equal names stays the last.
            let mut sorted = pairs.to_vec();
            sorted.sort_by_key(|(name, _)| *name);
            let next = sorted.iter().skip(1).map(Some).chain([None]);
            let last = sorted.iter().zip(next);
            let last = last.filter(|(pair, next)| next.is_none_or(|next| next.0 != pair.0));
            let last = last.map(|((name, value), _)| (*name, Cow::Borrowed(*value)));
            let labels = self.check(last.collect(), unlabelled)?;
            Ok(Stream::new(tenant, labels, hasher.spreads))
        })
    }

    /// The stream under the hash; else makes it, to be known from then on if `keep`.
    fn lookup(
        &self,
        hash: u128,
        keep: bool,
        make: impl FnOnce() -> Result<Stream, StreamRefusal>,
    ) -> Result<Stream, StreamRefusal> {
        let weigh = |stream: &Stream| stream.labels.memory_bytes() + Self::ENTRY_BYTES;
        if let Some(stream) = self.known.lock().get(&hash, weigh) {
            return Ok(stream);
        }
        let stream = make()?;
        if keep {
            let (value, weight) = (stream.clone(), weigh(&stream));
            self.known.lock().insert(hash, value, weight);
        }
        Ok(stream)
    }

    fn check_text(
        &self,
        tenant: &TenantId,
        text: &[u8],
        spreads: bool,
    ) -> Result<Stream, StreamRefusal> {
        let text = std::str::from_utf8(text).map_err(|error| StreamRefusal {
            reason: Reason::InvalidUtf8,
            message: format!(
                "labels '{}' are not valid UTF-8 at byte {}",
                excerpt(&String::from_utf8_lossy(text)),
                error.valid_up_to()
            ),
        })?;
        let written = if text.is_empty() { "{}" } else { text };
        let pairs = proto::loki::parse_labels(written).map_err(|error| StreamRefusal {
            reason: Reason::InvalidLabels,
            message: format!(
                "error parsing labels '{}' with error: {error}",
                excerpt(text)
            ),
        })?;
        let labels = self.check(pairs, true)?;
        Ok(Stream::new(tenant, labels, spreads))
    }

    fn check(
        &self,
        mut pairs: Vec<(&str, Cow<'_, str>)>,
        unlabelled: bool,
    ) -> Result<Labels, StreamRefusal> {
        pairs.retain(|(_, value)| !value.is_empty());
        let has_service = pairs.iter().any(|(name, _)| *name == SERVICE_NAME);
        let count = pairs.len() - usize::from(has_service);
        let refuse = |reason, problem: String| {
            let message = format!("stream '{}' {problem}", shown(&pairs));
            Err(StreamRefusal { reason, message })
        };
        let limits = &self.limits;
        let discovers = !limits.service_labels.is_empty();
        if pairs.is_empty() && !(unlabelled && discovers) {
            return refuse(
                Reason::MissingLabels,
                "has no labels: at least one is required".to_owned(),
            );
        }
        if count > limits.label_names_max {
            let limit = limits.label_names_max;
            return refuse(
                Reason::TooManyLabels,
                format!("has {count} label names; limit {limit}"),
            );
        }
        for (name, value) in &pairs {
            if name.len() > limits.label_name_bytes_max {
                let problem = format!(
                    "has label name too long: '{}' has {} bytes, limit {}",
                    excerpt(name),
                    name.len(),
                    limits.label_name_bytes_max
                );
                return refuse(Reason::LabelNameTooLong, problem);
            }
            if value.len() > limits.label_value_bytes_max {
                let problem = format!(
                    "has label value too long: '{}' of '{name}' has {} bytes, limit {}",
                    excerpt(value),
                    value.len(),
                    limits.label_value_bytes_max
                );
                return refuse(Reason::LabelValueTooLong, problem);
            }
        }
        let service = (discovers && !has_service).then(|| self.service_of(&pairs));
        let labels = pairs
            .iter()
            .map(|(name, value)| (*name, &**value))
            .chain(service.map(|service| (SERVICE_NAME, service)));
        match Labels::new(labels) {
            Ok(labels) => Ok(labels),
            Err(LabelsError::Duplicate(name)) => refuse(
                Reason::DuplicateLabelNames,
                format!("has duplicate label name: '{name}'"),
            ),
            Err(LabelsError::Name(name)) => refuse(
                Reason::InvalidLabels,
                format!(
                    "has invalid label name: '{}', want [a-zA-Z_][a-zA-Z0-9_]*",
                    excerpt(&name)
                ),
            ),
        }
    }

    fn service_of<'a>(&self, pairs: &'a [(&str, Cow<'_, str>)]) -> &'a str {
        let value_of = |wanted: &String| {
            let found = pairs.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| &**value)
        };
        let mut names = self.limits.service_labels.iter();
        names.find_map(value_of).unwrap_or(UNKNOWN_SERVICE)
    }
}

impl Stream {
    fn new(tenant: &TenantId, labels: Labels, spreads: bool) -> Self {
        Stream {
            id: StreamId::of(tenant, Signal::Logs, &labels),
            labels: Arc::new(labels),
            heat: spreads.then(Arc::default),
        }
    }
}

/// The pairs as a label set, cut short.
fn shown(pairs: &[(&str, Cow<'_, str>)]) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&format!("{}={:?}", excerpt(name), excerpt(value)));
        if text.len() > 300 {
            text.push_str(", ...");
            break;
        }
    }
    text.push('}');
    text
}

/// The beginning of a text that may be long.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    const BYTES_MAX: usize = 200;
    if text.len() <= BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(BYTES_MAX);
    Cow::Owned(format!("{}...", &text[..end]))
}

#[cfg(test)]
mod tests;
