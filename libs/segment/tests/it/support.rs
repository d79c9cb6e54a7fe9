//! Naive twins and small helpers.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::{
    Columns, Flow, Labels, LineColumn, LineFilter, LogBatch, LogBatchBuilder, Selector, Signal,
    StreamId, TenantId, TimeRange, Timestamp,
};
use segment::{EncodeOptions, Encoded, Opened, ReadAt, ScanSpec, Scratch, Segment, encode};

pub(crate) const ALL: Columns = Columns {
    timestamps: true,
    lines: LineColumn::Bytes,
    metadata: true,
};

/// One record on its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) tenant: String,
    pub(crate) app: String,
    pub(crate) time: Timestamp,
    pub(crate) line: Vec<u8>,
    pub(crate) metadata: Vec<(String, Vec<u8>)>,
}

pub(crate) fn record(app: &str, time: Timestamp, line: &str) -> Record {
    Record {
        tenant: "default".into(),
        app: app.into(),
        time,
        line: line.into(),
        metadata: Vec::new(),
    }
}

pub(crate) fn labels(app: &str) -> Arc<Labels> {
    Arc::new(Labels::new([("app", app), ("cluster", "eu-1")]).unwrap())
}

/// One batch per tenant, records in the order given.
pub(crate) fn batches(records: &[Record]) -> Vec<Arc<LogBatch>> {
    let mut tenants: Vec<&str> = records.iter().map(|r| r.tenant.as_str()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let mut batches = Vec::new();
    for tenant in tenants {
        let id = TenantId::new(tenant).unwrap();
        let mut builder = LogBatchBuilder::new(id.clone());
        for record in records.iter().filter(|r| r.tenant == tenant) {
            let labels = labels(&record.app);
            builder.stream(StreamId::of(&id, Signal::Logs, &labels), &labels);
            let mut pairs: Vec<(&str, &[u8])> = record
                .metadata
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice()))
                .collect();
            builder.push(record.time, &record.line, &mut pairs);
        }
        batches.push(Arc::new(builder.finish()));
    }
    batches
}

/// An object in memory.
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

impl ReadAt for Object {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read(&self, range: Range<u64>) -> std::io::Result<Bytes> {
        Ok(self.bytes.slice(range.start as usize..range.end as usize))
    }
}

pub(crate) fn write(records: &[Record], chunk_bytes: usize) -> (Object, Encoded) {
    let options = EncodeOptions {
        chunk_bytes,
        ..EncodeOptions::default()
    };
    let mut bytes = Vec::new();
    let encoded = encode(&batches(records), &options, &mut bytes).unwrap();
    assert_eq!(encoded.object_bytes, bytes.len() as u64);
    (object(bytes), encoded)
}

pub(crate) fn object(bytes: Vec<u8>) -> Object {
    Object {
        name: "test.seg".into(),
        bytes: bytes.into(),
    }
}

pub(crate) fn open(object: &Object) -> Result<Segment, segment::Error> {
    let bytes = object.len();
    match Segment::open(&object.name, object.bytes.clone(), bytes)? {
        Opened::Segment(segment) => Ok(segment),
        Opened::NeedTail(tail) => panic!("the whole object is not enough: {tail}"),
    }
}

/// What a scan gave, and how it came by it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Record>,
    pub(crate) chunks: usize,
    pub(crate) bytes_read: u64,
}

/// Runs a scan as a reader does: plan, filters, chunks. A reader who looks at values first finds the
/// same.
pub(crate) fn scan(
    object: &Object,
    tenant: &str,
    selector: &Selector,
    range: TimeRange,
    filter: &LineFilter,
) -> Result<Found, segment::Error> {
    let found = scan_as(object, tenant, selector, range, filter, false)?;
    let valued = scan_as(object, tenant, selector, range, filter, true)?;
    assert_eq!(found.records, valued.records);
    Ok(found)
}

fn scan_as(
    object: &Object,
    tenant: &str,
    selector: &Selector,
    range: TimeRange,
    filter: &LineFilter,
    values_first: bool,
) -> Result<Found, segment::Error> {
    let segment = open(object)?;
    let tenant_id = TenantId::new(tenant).unwrap();
    let mut plan = segment.plan(&ScanSpec {
        tenant: &tenant_id,
        selector,
        range,
        line_filter: filter,
    });
    let mut found = Found::default();
    let mut fetch = |ranges: Vec<Range<u64>>| -> Vec<Bytes> {
        found.bytes_read += ranges.iter().map(|r| r.end - r.start).sum::<u64>();
        ranges
            .into_iter()
            .map(|r| object.read(r).unwrap())
            .collect()
    };
    plan.filter_with(|reads| Ok::<_, segment::Error>(fetch(reads)))?;
    let mut scratch = Scratch::default();
    let mut dropped = Vec::new();
    let chunks = plan.chunks().iter().enumerate();
    for (place, chunk) in chunks.filter(|_| values_first) {
        if let Some(range) = plan.values_read(chunk) {
            let values = fetch(vec![range]);
            if !plan.values_hold(chunk, &values[0], &mut scratch)? {
                dropped.push(place);
            }
        }
    }
    plan.drop_chunks(&dropped);
    let mut records = Vec::new();
    for chunk in plan.chunks() {
        let bytes = fetch(plan.reads(chunk, ALL));
        plan.decode(chunk, ALL, &bytes, &mut scratch, &mut |block| {
            for row in 0..block.rows {
                let pairs = block.metadata.map_or(&[][..], |metadata| metadata.row(row));
                records.push(Record {
                    tenant: tenant.to_owned(),
                    app: block.labels.get("app").unwrap_or("").to_owned(),
                    time: block.timestamps[row],
                    line: block.lines.line(row).to_vec(),
                    metadata: pairs
                        .iter()
                        .map(|(key, value)| (key.to_string(), value.as_bytes().to_vec()))
                        .collect(),
                });
            }
            Flow::Continue
        })?;
    }
    found.chunks = plan.chunks().len();
    found.records = records;
    Ok(found)
}

pub(crate) fn all(object: &Object, tenant: &str) -> Result<Vec<Record>, segment::Error> {
    let filter = LineFilter::default();
    let found = scan(
        object,
        tenant,
        &Selector::default(),
        TimeRange::ALL,
        &filter,
    )?;
    Ok(found.records)
}

/// The records as a set, in one order.
pub(crate) fn as_set(records: &[Record]) -> Vec<Record> {
    let mut set = records.to_vec();
    set.sort();
    set.dedup();
    set
}
