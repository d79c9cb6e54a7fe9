//! The ports' words as bytes. Numbers are little-endian; a batch is the payload of a write-ahead log
//! record (`segment::wal`), which names head, key and batch id.

mod share;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use model::{
    BatchId, HeadId, HeadKey, LabelMatcher, LogBatch, MatchOp, RingVersion, Selector, Shard, Slot,
    TenantId, TimeRange,
};
use segment::wal::{self, Filing, StreamCache};

use super::CompilePattern;
use crate::{
    CoveredHeads, HeadBatches, HeldBatch, IngestRequest, MetaCall, RecentRequest, ReconcileRequest,
    Reconciled, SealedHead,
};

pub(super) use share::{decode_share, encode_share};

/// Why bytes are not the message that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of another node is damaged: {0}")]
pub struct WireError(String);

impl WireError {
    /// A stream ended before what must come first.
    pub(super) fn early() -> Self {
        WireError("it ended before its first message".to_owned())
    }
}

/// A batch with where it belongs.
#[derive(Debug)]
pub(super) struct Filed {
    pub(super) filing: Filing,
    pub(super) batch: Arc<LogBatch>,
}

/// No head: what is filed has not reached an owner yet, or its head does not matter.
const NO_HEAD: HeadId = HeadId {
    ingester: 0,
    sequence: 0,
};

const NO_KEY: HeadKey = HeadKey {
    shard: Shard(0),
    slot: Slot(0),
    ring: RingVersion(0),
};

pub(super) fn encode_ingest(requests: &[IngestRequest]) -> Bytes {
    let mut out = BytesMut::new();
    for request in requests {
        let filing = Filing {
            head: NO_HEAD,
            batch_id: request.batch_id,
            key: HeadKey {
                shard: request.shard,
                slot: request.slot,
                ring: request.ring,
            },
        };
        let payload = wal::encode_payload(&filing, &request.batch);
        out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        out.extend_from_slice(&payload);
    }
    out.freeze()
}

pub(super) fn decode_ingest(
    bytes: &[u8],
    cache: &mut StreamCache,
) -> Result<Vec<IngestRequest>, WireError> {
    let mut rest = Reader(bytes);
    let mut requests = Vec::new();
    while !rest.0.is_empty() {
        let length = rest.u64()? as usize;
        let Filed { filing, batch } = decode_filed(rest.take(length)?, cache)?;
        requests.push(IngestRequest {
            batch_id: filing.batch_id,
            shard: filing.key.shard,
            slot: filing.key.slot,
            ring: filing.key.ring,
            batch,
        });
    }
    Ok(requests)
}

pub(super) fn encode_filed(head: HeadId, key: HeadKey, held: &HeldBatch) -> Bytes {
    let filing = Filing {
        head,
        batch_id: held.id,
        key,
    };
    wal::encode_payload(&filing, &held.batch).into()
}

pub(super) fn encode_held(held: &HeldBatch) -> Bytes {
    encode_filed(NO_HEAD, NO_KEY, held)
}

pub(super) fn decode_filed(bytes: &[u8], cache: &mut StreamCache) -> Result<Filed, WireError> {
    let (filing, batch) =
        wal::decode_payload(bytes, cache).map_err(|error| WireError(error.to_string()))?;
    Ok(Filed {
        filing,
        batch: Arc::new(batch),
    })
}

pub(super) fn encode_recent(request: &RecentRequest) -> Bytes {
    let mut out = BytesMut::new();
    out.extend_from_slice(&request.range.start.to_le_bytes());
    out.extend_from_slice(&request.range.end.to_le_bytes());
    put_text(&mut out, request.tenant.as_str());
    out.extend_from_slice(&request.covered.below.to_le_bytes());
    put_count(&mut out, request.covered.also.len());
    for sequence in &request.covered.also {
        out.extend_from_slice(&sequence.to_le_bytes());
    }
    for selector in &request.selectors {
        put_count(&mut out, selector.matchers.len());
        for matcher in &selector.matchers {
            out.extend_from_slice(&[match matcher.op {
                MatchOp::Equal => 0,
                MatchOp::NotEqual => 1,
                MatchOp::Regex => 2,
                MatchOp::NotRegex => 3,
            }]);
            put_text(&mut out, &matcher.name);
            put_text(&mut out, &matcher.value);
        }
    }
    out.freeze()
}

/// Regular expressions are compiled by `compile`; a matcher whose expression it does not know is left
/// out, so that more streams match: the reader filters anyway.
pub(super) fn decode_recent(
    bytes: &[u8],
    compile: CompilePattern,
) -> Result<RecentRequest, WireError> {
    let mut rest = Reader(bytes);
    let range = TimeRange {
        start: rest.i64()?,
        end: rest.i64()?,
    };
    let tenant =
        TenantId::new(rest.text()?).map_err(|error| WireError(format!("tenant: {error}")))?;
    let mut covered = CoveredHeads {
        below: rest.u64()?,
        also: BTreeSet::new(),
    };
    for _ in 0..rest.u32()? {
        covered.also.insert(rest.u64()?);
    }
    let mut selectors = Vec::new();
    while !rest.0.is_empty() {
        let mut matchers = Vec::new();
        for _ in 0..rest.u32()? {
            let [op] = rest.array::<1>()?;
            let (name, value) = (rest.text()?, rest.text()?);
            match op {
                0 | 1 => matchers.push(LabelMatcher::text(name, op == 1, value)),
                _ => {
                    let pattern = compile(value);
                    let matcher = pattern.map(|p| LabelMatcher::regex(name, op == 3, value, p));
                    matchers.extend(matcher);
                }
            }
        }
        selectors.push(Selector { matchers });
    }
    Ok(RecentRequest {
        tenant,
        selectors,
        range,
        covered,
    })
}

/// Puts a batch of an answer to its head; batches of one head come one after another.
pub(super) fn gather(heads: &mut Vec<HeadBatches>, filed: Filed) {
    let Filed { filing, batch } = filed;
    let held = HeldBatch {
        id: filing.batch_id,
        batch,
    };
    match heads.last_mut() {
        Some(last) if last.head == filing.head => last.batches.push(held),
        _ => heads.push(HeadBatches {
            head: filing.head,
            key: filing.key,
            batches: vec![held],
        }),
    }
}

pub(super) fn encode_reconcile(request: &ReconcileRequest) -> Bytes {
    let mut out = BytesMut::new();
    out.extend_from_slice(&request.key.slot.0.to_le_bytes());
    out.extend_from_slice(&request.key.ring.0.to_le_bytes());
    out.extend_from_slice(&request.key.shard.0.to_le_bytes());
    put_ids(&mut out, &request.ids);
    out.freeze()
}

pub(super) fn decode_reconcile(bytes: &[u8]) -> Result<ReconcileRequest, WireError> {
    let mut rest = Reader(bytes);
    let (slot, ring) = (Slot(rest.i64()?), RingVersion(rest.u64()?));
    let shard = Shard(rest.u32()?);
    let ids = rest.ids()?;
    rest.end()?;
    let key = HeadKey { shard, slot, ring };
    Ok(ReconcileRequest { key, ids })
}

pub(super) fn encode_reconciled(answer: &Reconciled) -> Bytes {
    let mut out = BytesMut::new();
    put_ids(&mut out, &answer.flushed);
    for sealed in &answer.heads {
        out.extend_from_slice(&sealed.head.ingester.to_le_bytes());
        out.extend_from_slice(&sealed.head.sequence.to_le_bytes());
        put_ids(&mut out, &sealed.ids);
    }
    out.freeze()
}

pub(super) fn decode_reconciled(bytes: &[u8]) -> Result<Reconciled, WireError> {
    let mut rest = Reader(bytes);
    let flushed = rest.ids()?;
    let mut heads = Vec::new();
    while !rest.0.is_empty() {
        let head = HeadId {
            ingester: rest.u64()?,
            sequence: rest.u64()?,
        };
        let ids = rest.ids()?;
        heads.push(SealedHead { head, ids });
    }
    Ok(Reconciled { heads, flushed })
}

pub(super) fn encode_call(call: MetaCall, body: &[u8]) -> Bytes {
    let tag = match call {
        MetaCall::Raft => 1,
        MetaCall::Propose => 2,
        MetaCall::Status => 3,
        MetaCall::Join => 4,
    };
    let mut out = BytesMut::with_capacity(1 + body.len());
    out.extend_from_slice(&[tag]);
    out.extend_from_slice(body);
    out.freeze()
}

pub(super) fn decode_call(bytes: &Bytes) -> Result<(MetaCall, Bytes), WireError> {
    let call = match bytes.first() {
        Some(1) => MetaCall::Raft,
        Some(2) => MetaCall::Propose,
        Some(3) => MetaCall::Status,
        Some(4) => MetaCall::Join,
        other => return Err(WireError(format!("{other:?} is no call to a coordinator"))),
    };
    Ok((call, bytes.slice(1..)))
}

pub(super) fn encode_number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

pub(super) fn decode_number(bytes: &[u8]) -> Result<u64, WireError> {
    let mut rest = Reader(bytes);
    let number = rest.u64()?;
    rest.end()?;
    Ok(number)
}

/// The tenant of which somebody asks for the rules: its name and nothing else.
pub(super) fn decode_tenant(bytes: &[u8]) -> Result<TenantId, WireError> {
    let name = std::str::from_utf8(bytes).map_err(|error| WireError(error.to_string()))?;
    TenantId::new(name).map_err(|error| WireError(error.to_string()))
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn put_ids(out: &mut BytesMut, ids: &[BatchId]) {
    put_count(out, ids.len());
    for id in ids {
        out.extend_from_slice(&id.0.to_le_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.0.split_at_checked(bytes) else {
            let left = self.0.len();
            return Err(WireError(format!("{bytes} bytes expected, {left} left")));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, WireError> {
        let bytes = self.u32()? as usize;
        std::str::from_utf8(self.take(bytes)?)
            .map_err(|error| WireError(format!("a text is not UTF-8: {error}")))
    }

    fn ids(&mut self) -> Result<Vec<BatchId>, WireError> {
        let count = self.u32()? as usize;
        let bytes = self.take(count.saturating_mul(16))?;
        let ids = bytes.as_chunks::<16>().0.iter();
        Ok(ids.map(|id| BatchId(u128::from_le_bytes(*id))).collect())
    }

    fn end(&self) -> Result<(), WireError> {
        match self.0.len() {
            0 => Ok(()),
            more => Err(WireError(format!("{more} bytes too many"))),
        }
    }
}
