use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use model::{LogBatch, Shard, TenantId, Timestamp};
use proto::{Flaw, Receiver};

use crate::Limits;
use crate::heat::Heat;
use crate::refusal::{Reason, Refusals};
use crate::shard_batch::{Place, ShardBatch};
use crate::streams::{Stream, StreamRefusal, Streams, TextHasher, excerpt};

/// Takes the records of one request: checks them, counts the bad ones, sorts the good ones by
/// shard.
pub(crate) struct Session<'s> {
    streams: &'s Streams,
    limits: &'s Limits,
    tenant: &'s TenantId,
    /// Whether a stream without labels is one of an unknown service, as in OTLP.
    unlabelled: bool,
    now: Timestamp,
    /// How many bytes of lines a shard may expect.
    shard_bytes: usize,
    /// Latest and earliest time taken, both included.
    newest: Timestamp,
    oldest: Timestamp,
    current: Current,
    /// By shard; made when the first stream of the shard comes.
    batches: Vec<Option<ShardBatch>>,
    refusals: Refusals,
    bytes: u64,
    records: u64,
    /// What the records may still weigh; see [`Session::weigh`].
    room: usize,
    full: bool,
    named_streams: bool,
    unread_labels: Option<String>,
    key: Vec<u8>,
    hasher: TextHasher,
    /// The streams that will be named next, those that are known.
    ahead: VecDeque<Option<Stream>>,
}

/// About what naming a stream costs in labels and tables.
const STREAM_BYTES: usize = 256;

/// What is known of a request before it is decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Whether a stream without labels is one of an unknown service, as in OTLP.
    pub(crate) unlabelled: bool,
    /// Length of the body, decompressed.
    pub(crate) body_bytes: usize,
    /// What its records may weigh in memory, bytes.
    pub(crate) record_bytes_max: usize,
}

/// What the records that come belong to.
enum Current {
    Stream {
        heat: Option<Arc<Heat>>,
        /// Where this request's records of the stream go.
        shard: Shard,
        place: Place,
        /// Bytes of the whole request before them.
        from: u64,
    },
    /// The message is told with the first record, if there is any.
    Refused {
        reason: Reason,
        message: Option<String>,
    },
}

/// What a request brought.
pub(crate) struct Sorted {
    /// The batches, none empty.
    pub(crate) batches: Vec<(Shard, LogBatch)>,
    /// Records in them.
    pub(crate) records: u64,
    /// Bytes of lines and metadata in them.
    pub(crate) bytes: u64,
    pub(crate) refusals: Refusals,
    /// Whether any stream was named.
    pub(crate) named_streams: bool,
    /// What is wrong with labels that cannot be read of a stream without records.
    pub(crate) unread_labels: Option<String>,
}

impl<'s> Session<'s> {
    pub(crate) fn new(
        streams: &'s Streams,
        limits: &'s Limits,
        tenant: &'s TenantId,
        shards: u32,
        request: Request,
        now: Timestamp,
    ) -> Self {
        let newest = match limits.creation_grace_nanos {
            // No range holds the very last nanosecond.
            0 => Timestamp::MAX - 1,
            grace => now.saturating_add(grace),
        };
        let oldest = match limits.record_age_nanos_max {
            0 => Timestamp::MIN,
            age => now.saturating_sub(age),
        };
        Session {
            streams,
            limits,
            tenant,
            now,
            unlabelled: request.unlabelled,
            shard_bytes: request.body_bytes / shards.max(1) as usize,
            newest,
            oldest,
            current: Current::Refused {
                reason: Reason::MissingLabels,
                message: None,
            },
            batches: (0..shards.max(1)).map(|_| None).collect(),
            refusals: Refusals::default(),
            bytes: 0,
            records: 0,
            room: request.record_bytes_max,
            full: false,
            named_streams: false,
            unread_labels: None,
            key: Vec::new(),
            hasher: streams.text_hasher(tenant, shards),
            ahead: VecDeque::new(),
        }
    }

    /// What was taken; `None` if it is more than the request may bring.
    pub(crate) fn finish(mut self) -> Option<Sorted> {
        self.leave();
        if self.full {
            return None;
        }
        let batches = self.batches.into_iter().zip(0..).filter_map(|(batch, n)| {
            let mut batch = batch?.finish();
            trim(&mut batch);
            (!batch.is_empty()).then_some((Shard(n), batch))
        });
        Some(Sorted {
            batches: batches.collect(),
            records: self.records,
            bytes: self.bytes,
            refusals: self.refusals,
            named_streams: self.named_streams,
            unread_labels: self.unread_labels,
        })
    }

    /// Takes from the room what the record needs in columns, also if it will be refused, for that
    /// costs time; `false` when there is no room.
    #[inline]
    fn weigh(&mut self, line: &[u8], metadata: &[(&str, &[u8])]) -> bool {
        const ROW_BYTES: usize = 16;
        let pairs = metadata.iter().map(|(_, value)| ROW_BYTES + value.len());
        self.spend(ROW_BYTES + line.len() + pairs.sum::<usize>())
    }

    #[inline]
    fn spend(&mut self, weight: usize) -> bool {
        match self.room.checked_sub(weight) {
            Some(room) => self.room = room,
            None => self.full = true,
        }
        !self.full
    }

    /// Counts what the current stream got, if hot streams are spread; keeps what is wrong with its
    /// labels, if no record told it.
    fn leave(&mut self) {
        match &mut self.current {
            Current::Stream {
                heat: Some(heat),
                from,
                ..
            } => heat.add(self.bytes - *from, self.now),
            Current::Refused {
                reason: Reason::InvalidLabels | Reason::InvalidUtf8,
                message,
            } if self.unread_labels.is_none() => self.unread_labels = message.take(),
            _ => {}
        }
    }

    fn shard_of(&self, stream: &Stream) -> Shard {
        let shards = self.batches.len() as u32;
        let home = Shard::of(stream.id, shards);
        let Some(heat) = &stream.heat else {
            return home;
        };
        let rate_max = self.limits.shard_stream_bytes_per_second;
        heat.shard(home, shards, rate_max, self.now)
    }

    fn enter(&mut self, found: Result<Stream, StreamRefusal>) {
        self.named_streams = true;
        self.leave();
        self.current = match found {
            Ok(stream) => {
                let shard = self.shard_of(&stream);
                let batch = &mut self.batches[shard.0 as usize];
                let batch =
                    batch.get_or_insert_with(|| ShardBatch::new(self.tenant, self.shard_bytes));
                let place = batch.stream(stream.id, stream.labels);
                let from = self.bytes;
                Current::Stream {
                    heat: stream.heat,
                    shard,
                    place,
                    from,
                }
            }
            Err(StreamRefusal { reason, message }) => Current::Refused {
                reason,
                message: Some(message),
            },
        };
    }

    /// Whether line and time are good; what is wrong with them otherwise.
    #[inline]
    fn check(&self, timestamp: Timestamp, line: &[u8]) -> Result<(), Reason> {
        if line.len() > self.limits.line_bytes_max {
            return Err(Reason::LineTooLong);
        }
        if timestamp > self.newest {
            return Err(Reason::TooFarInFuture);
        }
        if timestamp < self.oldest {
            return Err(Reason::TooOld);
        }
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, reason: Reason, timestamp: Timestamp, line: &[u8]) {
        self.refusals.add(reason, || {
            let stream = format!("stream '{}'", shown_stream(&self.current, &self.batches));
            match reason {
                Reason::LineTooLong => format!(
                    "max entry size '{}' bytes exceeded for {stream} while adding an entry with \
                     length '{}' bytes",
                    self.limits.line_bytes_max,
                    line.len()
                ),
                Reason::TooFarInFuture => format!(
                    "entry for {stream} has timestamp too new: {}, newest acceptable timestamp is: {}",
                    shown_time(timestamp),
                    shown_time(self.newest)
                ),
                _ => format!(
                    "entry for {stream} has timestamp too old: {}, oldest acceptable timestamp is: {}",
                    shown_time(timestamp),
                    shown_time(self.oldest)
                ),
            }
        });
    }

    /// Checks the metadata; says whether all of it can be kept as it is.
    fn check_metadata(&self, metadata: &[(&str, &[u8])]) -> Result<bool, (Reason, String)> {
        let limits = self.limits;
        let mut bytes = 0;
        let mut plain = true;
        for (name, value) in metadata {
            bytes += name.len() + value.len();
            plain &= !value.is_empty() && proto::otlp::is_plain_name(name) && !is_marked(value);
        }
        if bytes > limits.metadata_bytes_max {
            return Err((
                Reason::MetadataTooLarge,
                format!(
                    "has structured metadata too large: '{bytes}' bytes, limit: '{}' bytes",
                    limits.metadata_bytes_max
                ),
            ));
        }
        if metadata.len() > limits.metadata_pairs_max {
            return Err((
                Reason::MetadataTooMany,
                format!(
                    "has too many structured metadata labels: '{}', limit: '{}'",
                    metadata.len(),
                    limits.metadata_pairs_max
                ),
            ));
        }
        Ok(plain)
    }

    fn take(&mut self, timestamp: Timestamp, line: &[u8], metadata: &mut [(&str, &[u8])]) {
        if let Current::Stream { shard, place, .. } = &self.current
            && let Some(batch) = &mut self.batches[shard.0 as usize]
        {
            self.records += 1;
            self.bytes += line.len() as u64;
            for (_, value) in metadata.iter() {
                self.bytes += value.len() as u64;
            }
            batch.builder(*place).push(timestamp, line, metadata);
        }
    }

    /// Takes a record of which not all is UTF-8, as Loki does: who sends such lines could do nothing
    /// about a refusal but throw them away. A line is longer then, and is weighed and checked as it will
    /// be stored; a space is as long as the byte for which it stands.
    #[cold]
    fn take_repaired(&mut self, timestamp: Timestamp, line: &[u8], metadata: &[(&str, &[u8])]) {
        let weighed = line.len();
        let line = proto::repaired(line, char::REPLACEMENT_CHARACTER);
        if !self.spend(line.len() - weighed) {
            return;
        }
        if let Err(reason) = self.check(timestamp, line.as_bytes()) {
            self.refuse(reason, timestamp, line.as_bytes());
            return;
        }
        let repaired = |(name, value): &(&'_ str, &'_ [u8])| {
            (name.to_string(), proto::repaired(value, ' ').into_owned())
        };
        let texts: Vec<(String, String)> = metadata.iter().map(repaired).collect();
        let pairs = texts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let mut pairs: Vec<(&str, &[u8])> = pairs.collect();
        self.take_with_metadata(timestamp, line.as_bytes(), &mut pairs);
    }

    fn take_with_metadata(
        &mut self,
        timestamp: Timestamp,
        line: &[u8],
        metadata: &mut [(&str, &[u8])],
    ) {
        match self.check_metadata(metadata) {
            Ok(true) => self.take(timestamp, line, metadata),
            Ok(false) => {
                // As in Loki, what says nothing is not kept.
                let said = metadata.iter().filter(|(_, value)| !value.is_empty());
                let rewritten: Vec<(String, Cow<'_, [u8]>)> = said
                    .map(|(name, value)| (proto::otlp::sanitize_name(name), unmarked(value)))
                    .collect();
                let mut pairs: Vec<(&str, &[u8])> = rewritten
                    .iter()
                    .map(|(name, value)| (name.as_str(), &**value))
                    .collect();
                self.take(timestamp, line, &mut pairs);
            }
            Err((reason, problem)) => {
                self.refusals.add(reason, || {
                    let stream = shown_stream(&self.current, &self.batches);
                    format!("entry for stream '{stream}' {problem}")
                });
            }
        }
    }
}

impl Receiver for Session<'_> {
    fn stream_text(&mut self, labels: &[u8]) {
        let known = self.ahead.pop_front().flatten();
        if !self.spend(STREAM_BYTES) {
            return;
        }
        let found = match known {
            Some(stream) => Ok(stream),
            None => self.streams.of_text(self.hasher, self.tenant, labels),
        };
        self.enter(found);
    }

    fn streams_ahead(&mut self, labels: &[&[u8]]) {
        self.ahead.clear();
        self.streams.of_texts(self.hasher, labels, &mut self.ahead);
    }

    fn stream_pairs(&mut self, labels: &[(&str, &str)]) {
        if !self.spend(STREAM_BYTES) {
            return;
        }
        let (hasher, unlabelled) = (self.hasher, self.unlabelled);
        let found = self
            .streams
            .of_pairs(hasher, self.tenant, labels, unlabelled, &mut self.key);
        self.enter(found);
    }

    #[inline]
    fn record(&mut self, timestamp: Timestamp, line: &[u8], metadata: &mut [(&str, &[u8])]) {
        if !self.weigh(line, metadata) {
            return;
        }
        if let Current::Refused { reason, message } = &mut self.current {
            match message.take() {
                Some(message) => self.refusals.add(*reason, || message),
                None => self.refusals.add_silently(*reason),
            }
            return;
        }
        match self.check(timestamp, line) {
            Err(reason) => self.refuse(reason, timestamp, line),
            Ok(()) if !is_text(line, metadata) => self.take_repaired(timestamp, line, metadata),
            Ok(()) if metadata.is_empty() => self.take(timestamp, line, metadata),
            Ok(()) => self.take_with_metadata(timestamp, line, metadata),
        }
    }

    fn flawed(&mut self, flaw: Flaw) {
        self.refusals
            .add(Reason::from(&flaw), || match &self.current {
                _ if matches!(flaw, Flaw::Item { .. }) => flaw.to_string(),
                Current::Stream { .. } => {
                    let stream = shown_stream(&self.current, &self.batches);
                    format!("entry for stream '{stream}': {flaw}")
                }
                Current::Refused { .. } => flaw.to_string(),
            });
    }

    fn is_full(&self) -> bool {
        self.full
    }
}

fn is_text(line: &[u8], metadata: &[(&str, &[u8])]) -> bool {
    let is_text = |text| std::str::from_utf8(text).is_ok();
    is_text(line) && metadata.iter().all(|(_, value)| is_text(value))
}

/// Whether the value has U+FFFD, which decoders of JSON and of OTLP put for bytes that are no text.
fn is_marked(value: &[u8]) -> bool {
    let mark = "\u{fffd}".as_bytes();
    value.contains(&mark[0]) && value.windows(mark.len()).any(|bytes| bytes == mark)
}

/// The value with a space for each U+FFFD: Loki has that in metadata, whoever wrote the mark.
fn unmarked(value: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(value) {
        Ok(text) if is_marked(value) => {
            Cow::Owned(text.replace(char::REPLACEMENT_CHARACTER, " ").into_bytes())
        }
        _ => Cow::Borrowed(value),
    }
}

/// The labels of the current stream, for a message.
fn shown_stream(current: &Current, batches: &[Option<ShardBatch>]) -> String {
    let labels = match current {
        Current::Stream { shard, place, .. } => {
            let batch = batches[shard.0 as usize].as_ref();
            batch.and_then(|batch| batch.labels(*place))
        }
        Current::Refused { .. } => None,
    };
    labels.map_or_else(String::new, |labels| {
        excerpt(&labels.to_string()).into_owned()
    })
}

/// Gives back memory that columns have taken in advance, if it is much: a batch may live for
/// minutes. Up to a quarter is left, for that is not worth a copy of the column.
fn trim(batch: &mut LogBatch) {
    fn trim<T>(column: &mut Vec<T>) {
        if column.capacity() - column.len() > column.len() / 4 {
            column.shrink_to_fit();
        }
    }
    trim(&mut batch.lines);
    trim(&mut batch.timestamps);
    trim(&mut batch.line_ends);
    trim(&mut batch.row_ends);
    trim(&mut batch.pair_keys);
    trim(&mut batch.value_ends);
    trim(&mut batch.values);
}

/// RFC 3339 where there is such a time, else nanoseconds.
fn shown_time(timestamp: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(timestamp.into()) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{timestamp} ns since 1970"),
    }
}

#[cfg(test)]
mod tests;
