//! Merged segments in a folder; those that are there from an earlier run are taken as they are.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::{LogBatch, TimeRange};
use segment::{Compression, EncodeOptions, Encoded, ReadAt, TenantSummary, encode, merge};

use crate::corpus::Corpus;

/// Text of what a flush writes, about.
const FLUSH_BYTES: usize = 64 << 20;

/// A segment in the folder, and what a catalog knows of it.
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) encoded: Encoded,
}

struct Flushed(String, Bytes);

impl ReadAt for Flushed {
    fn name(&self) -> &str {
        &self.0
    }

    fn len(&self) -> u64 {
        self.1.len() as u64
    }

    fn read(&self, range: Range<u64>) -> std::io::Result<Bytes> {
        Ok(self.1.slice(range.start as usize..range.end as usize))
    }
}

/// Makes one segment out of `copies` of the corpus: encoded as flushes do, then merged as
/// maintenance does.
pub(crate) fn segment(
    corpus: &mut Corpus,
    folder: &Path,
    copies: Range<u64>,
) -> anyhow::Result<Made> {
    let name = format!("{:04}-{:04}.seg", copies.start, copies.end);
    if let Some(made) = earlier(folder, &name) {
        return Ok(made);
    }
    let mut flushed = Vec::new();
    let mut held: Vec<Arc<LogBatch>> = Vec::new();
    for copy in copies {
        for at in 0..corpus.len() {
            held.push(Arc::new(corpus.body(copy, at)?));
            if held.iter().map(|batch| batch.lines.len()).sum::<usize>() >= FLUSH_BYTES {
                flush(&mut held, &mut flushed)?;
            }
        }
    }
    flush(&mut held, &mut flushed)?;
    let inputs: Vec<&dyn ReadAt> = flushed.iter().map(|one| one as &dyn ReadAt).collect();
    let options = EncodeOptions {
        compression: Compression::Small,
        ..EncodeOptions::default()
    };
    let mut out = BufWriter::new(File::create(folder.join(&name))?);
    let encoded = merge(&inputs, &|_| TimeRange::ALL, &options, &mut out)?;
    out.flush()?;
    // Written last: a segment without it is not whole.
    fs::write(summary_path(folder, &name), summary(&encoded))?;
    Ok(Made { name, encoded })
}

fn flush(held: &mut Vec<Arc<LogBatch>>, flushed: &mut Vec<Flushed>) -> anyhow::Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let mut out = Vec::new();
    encode(held, &EncodeOptions::default(), &mut out)?;
    flushed.push(Flushed(format!("flush {}", flushed.len()), out.into()));
    held.clear();
    Ok(())
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
