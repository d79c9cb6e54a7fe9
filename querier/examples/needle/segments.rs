//! Segments as merges write them, in a folder; those that are there from an earlier run are taken as they are.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use segment::{Compression, EncodeOptions, Encoded, TenantSummary, encode};

use crate::corpus::Corpus;

/// A segment in the folder, and what a catalog knows of it.
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) encoded: Encoded,
}

/// Makes one segment out of `copies` of the corpus. Encoded at one go, it has the bytes that a merge
/// writes of what was flushed one after the other: a merge gives the writer the same rows in the same order.
pub(crate) fn segment(
    corpus: &mut Corpus,
    folder: &Path,
    copies: Range<u64>,
) -> anyhow::Result<Made> {
    let name = format!("{:04}-{:04}.seg", copies.start, copies.end);
    if let Some(made) = earlier(folder, &name) {
        return Ok(made);
    }
    let mut batches = Vec::new();
    for copy in copies {
        for at in 0..corpus.len() {
            batches.push(Arc::new(corpus.body(copy, at)?));
        }
    }
    let options = EncodeOptions {
        compression: Compression::Small,
        ..EncodeOptions::default()
    };
    let mut out = BufWriter::new(File::create(folder.join(&name))?);
    let encoded = encode(&batches, &options, &mut out)?;
    out.flush()?;
    // Written last: a segment without it is not whole.
    fs::write(summary_path(folder, &name), summary(&encoded))?;
    Ok(Made { name, encoded })
}

fn summary_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

fn summary(encoded: &Encoded) -> String {
    let tenant = &encoded.tenants[0];
    serde_json::json!([
        encoded.object_bytes,
        tenant.records,
        tenant.content_bytes,
        tenant.first,
        tenant.last,
    ])
    .to_string()
}

fn earlier(folder: &Path, name: &str) -> Option<Made> {
    let text = fs::read(summary_path(folder, name)).ok()?;
    let (object_bytes, records, content_bytes, first, last) = serde_json::from_slice(&text).ok()?;
    let tenant = TenantSummary {
        tenant: model::TenantId::default(),
        records,
        content_bytes,
        first,
        last,
    };
    let encoded = Encoded {
        object_bytes,
        tenants: vec![tenant],
    };
    let name = name.to_owned();
    Some(Made { name, encoded })
}
