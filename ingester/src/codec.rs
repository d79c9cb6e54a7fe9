//! The segment library in the ingester's words.

use std::io::Write;
use std::sync::Arc;

use model::{LogBatch, TenantId, TimeRange};
use rpc::TenantSegment;
use segment::{Compression, EncodeOptions, Encoded, ReadAt};

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

/// Unions segments, less what `keep` leaves out.
pub(crate) fn merge(
    inputs: &[&dyn ReadAt],
    keep: &dyn Fn(&TenantId) -> TimeRange,
    out: &mut dyn Write,
) -> Result<Written, Error> {
    let options = EncodeOptions {
        compression: Compression::Small,
        ..EncodeOptions::default()
    };
    Ok(written(segment::merge(inputs, keep, &options, out)?))
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
