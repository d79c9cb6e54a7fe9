//! The union of segments, streaming: one decoded chunk per input at a time.

mod input;

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use model::{Labels, RecordIdentity, StreamId, TenantId, TimeRange, Timestamp};

use crate::footer::place;
use crate::merge::input::Input;
use crate::writer::SegmentWriter;
use crate::{EncodeOptions, Encoded, Error};

/// The bytes of an object, for merging.
pub trait ReadAt {
    /// The object's name, for errors.
    fn name(&self) -> &str;

    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Whether it is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These bytes of it, all of them.
    ///
    /// # Errors
    /// Whatever keeps them from being read.
    fn read(&self, range: Range<u64>) -> std::io::Result<Bytes>;
}

/// Says which records a merge leaves out.
pub trait RowFilter {
    /// Records of this stream follow. `false`: none of them is left out, and none is asked for.
    fn stream(&mut self, tenant: &TenantId, labels: &Arc<Labels>) -> bool;

    /// Whether this record of the stream is left out.
    fn drops(&mut self, at: Timestamp, line: &[u8], metadata: &[(&str, &[u8])]) -> bool;
}

/// Leaves nothing out.
struct KeepAll;

impl RowFilter for KeepAll {
    fn stream(&mut self, _: &TenantId, _: &Arc<Labels>) -> bool {
        false
    }

    fn drops(&mut self, _: Timestamp, _: &[u8], _: &[(&str, &[u8])]) -> bool {
        false
    }
}

/// Writes the set union of segments as one segment to `out`; `keep` says which records of a tenant
/// survive. Holds the inputs' footers and one decoded chunk of each input.
///
/// # Errors
/// `Corrupt` and `Version` for an input that cannot be understood, `Read` for one that cannot be
/// read, `Write` when `out` fails.
pub fn merge(
    inputs: &[&dyn ReadAt],
    keep: &dyn Fn(&TenantId) -> TimeRange,
    options: &EncodeOptions,
    out: &mut dyn Write,
) -> Result<Encoded, Error> {
    merge_filtered(inputs, keep, &mut KeepAll, options, out)
}

/// As [`merge`], without the records that `filter` leaves out.
///
/// # Errors
/// As [`merge`].
pub fn merge_filtered(
    inputs: &[&dyn ReadAt],
    keep: &dyn Fn(&TenantId) -> TimeRange,
    filter: &mut dyn RowFilter,
    options: &EncodeOptions,
    out: &mut dyn Write,
) -> Result<Encoded, Error> {
    let mut inputs: Vec<Input<'_>> = inputs
        .iter()
        .map(|source| Input::open(*source))
        .collect::<Result<_, Error>>()?;
    let mut writer = SegmentWriter::new(options, out)?;
    while let Some((tenant, id, labels)) = next_stream(&inputs) {
        let range = keep(&tenant);
        let mut active: Vec<&mut Input<'_>> = Vec::new();
        for input in &mut inputs {
            if input.enter(&tenant, id, &labels) {
                active.push(input);
            }
        }
        writer.stream(&tenant, id, &labels);
        match filter.stream(&tenant, &labels) {
            true => merge_stream(&mut active, range, filter, &mut writer)?,
            false => merge_stream(&mut active, range, &mut KeepAll, &mut writer)?,
        }
    }
    writer.finish()
}

/// The first stream that has not been merged.
fn next_stream(inputs: &[Input<'_>]) -> Option<(TenantId, StreamId, Arc<Labels>)> {
    let streams = inputs.iter().filter_map(Input::next_stream);
    let first = streams.min_by(|a, b| {
        let tenants = a.0.cmp(b.0);
        tenants.then_with(|| place(0, a.2, a.1).cmp(&place(0, b.2, b.1)))
    });
    let (tenant, id, labels) = first?;
    Some((tenant.clone(), id, Arc::clone(labels)))
}

fn merge_stream(
    inputs: &mut [&mut Input<'_>],
    range: TimeRange,
    filter: &mut dyn RowFilter,
    writer: &mut SegmentWriter<'_>,
) -> Result<(), Error> {
    let mut times: Vec<Option<Timestamp>> = Vec::with_capacity(inputs.len());
    for input in inputs.iter_mut() {
        times.push(input.time(range)?);
    }
    let mut seen: HashSet<u128> = HashSet::new();
    while let Some(first) = times.iter().flatten().min().copied() {
        let alone = times.iter().filter(|time| **time == Some(first)).count() == 1;
        let others = times.iter().flatten().filter(|time| **time != first);
        // An input that is alone at `first` is alone up to the next time of the others.
        let until = match alone {
            true => others.min().copied(),
            false => first.checked_add(1),
        };
        seen.clear();
        for (input, time) in inputs.iter_mut().zip(&mut times) {
            if *time != Some(first) {
                continue;
            }
            while let Some(at) = *time
                && until.is_none_or(|until| at < until)
            {
                input.row(|line, metadata| {
                    if filter.drops(at, line, metadata) {
                        return Ok(());
                    }
                    let pairs = metadata.iter().map(|(key, value)| (key.as_bytes(), *value));
                    if alone || seen.insert(RecordIdentity::of(at, line, pairs).content) {
                        writer.push(at, line, metadata)?;
                    }
                    Ok(())
                })?;
                *time = input.time(range)?;
            }
        }
    }
    Ok(())
}
