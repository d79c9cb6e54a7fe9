//! The segment library in the ingester's words.

use std::io::Write;
use std::sync::Arc;

use model::{LogBatch, TenantId, TimeRange};
use rpc::TenantSegment;
use segment::{Compression, EncodeOptions, Encoded, ReadAt, RowFilter};

use crate::Error;

/// What was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) tenants: Vec<TenantSegment>,
    pub(crate) object_bytes: u64,
}

/// Encodes the batches as they lie.
pub(crate) fn encode(batches: &[Arc<LogBatch>], out: &mut dyn Write) -> Result<Written, Error> {
    Ok(written(segment::encode(
        batches,
        &EncodeOptions::default(),
        out,
    )?))
}

/// Unions segments, less what `keep` and `filter` leave out.
pub(crate) fn merge(
    inputs: &[&dyn ReadAt],
    keep: &dyn Fn(&TenantId) -> TimeRange,
    filter: &mut dyn RowFilter,
    compression: Compression,
    out: &mut dyn Write,
) -> Result<Written, Error> {
    let options = EncodeOptions {
        compression,
        ..EncodeOptions::default()
    };
    let encoded = segment::merge_filtered(inputs, keep, filter, &options, out)?;
    Ok(written(encoded))
}

fn written(encoded: Encoded) -> Written {
    let tenants = encoded.tenants.into_iter().map(|tenant| TenantSegment {
        tenant: tenant.tenant,
        records: tenant.records,
        content_bytes: tenant.content_bytes,
        first: tenant.first,
        last: tenant.last,
    });
    Written {
        tenants: tenants.collect(),
        object_bytes: encoded.object_bytes,
    }
}
