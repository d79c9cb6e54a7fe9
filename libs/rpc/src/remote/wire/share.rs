//! Shares of queries as bytes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{TenantId, TimeRange};

use super::{Reader, WireError, put_count, put_text};
use crate::{DeleteId, SegmentId, ShareRequest, ShareSegment};

pub(in super::super) fn encode_share(request: &ShareRequest) -> Bytes {
    let mut out = BytesMut::new();
    put_text(&mut out, request.tenant.as_str());
    put_range(&mut out, request.range);
    for number in [
        request.rows_max,
        request.memory_bytes_max,
        u64::try_from(request.time.as_nanos()).unwrap_or(u64::MAX),
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_count(&mut out, request.segments.len());
    for segment in &request.segments {
        out.extend_from_slice(&segment.id.0.to_le_bytes());
        out.extend_from_slice(&segment.object_bytes.to_le_bytes());
        out.extend_from_slice(&segment.first.to_le_bytes());
        out.extend_from_slice(&segment.last.to_le_bytes());
        put_text(&mut out, &segment.path);
    }
    put_count(&mut out, request.deletes.len());
    for (id, range, query) in &request.deletes {
        out.extend_from_slice(&id.0.to_le_bytes());
        put_range(&mut out, *range);
        put_text(&mut out, query);
    }
    out.extend_from_slice(&request.share);
    out.freeze()
}

pub(in super::super) fn decode_share(bytes: &Bytes) -> Result<ShareRequest, WireError> {
    let mut rest = Reader(bytes);
    let tenant =
        TenantId::new(rest.text()?).map_err(|error| WireError(format!("tenant: {error}")))?;
    let range = range(&mut rest)?;
    let (rows_max, memory_bytes_max) = (rest.u64()?, rest.u64()?);
    let time = Duration::from_nanos(rest.u64()?);
    let mut segments = Vec::new();
    for _ in 0..rest.u32()? {
        let id = SegmentId(rest.u64()?);
        let object_bytes = rest.u64()?;
        let (first, last) = (rest.i64()?, rest.i64()?);
        segments.push(ShareSegment {
            id,
            path: rest.text()?.into(),
            object_bytes,
            first,
            last,
        });
    }
    let mut deletes = Vec::new();
    for _ in 0..rest.u32()? {
        let id = DeleteId(rest.u64()?);
        let range = self::range(&mut rest)?;
        deletes.push((id, range, rest.text()?.into()));
    }
    Ok(ShareRequest {
        tenant,
        share: bytes.slice(bytes.len() - rest.0.len()..),
        range,
        segments,
        deletes,
        rows_max,
        memory_bytes_max,
        time,
    })
}

fn put_range(out: &mut BytesMut, range: TimeRange) {
    out.extend_from_slice(&range.start.to_le_bytes());
    out.extend_from_slice(&range.end.to_le_bytes());
}

fn range(rest: &mut Reader<'_>) -> Result<TimeRange, WireError> {
    Ok(TimeRange {
        start: rest.i64()?,
        end: rest.i64()?,
    })
}
