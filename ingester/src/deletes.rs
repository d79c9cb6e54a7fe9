//! Delete requests: which records they name, and whether a segment or a head holds any.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::{Flow, Labels, Row, RowBlock, TenantId, Timestamp};
use query::logql::engine::{RecordFilter, RecordTest};
use rpc::{Catalog, DeleteId, DeleteRequest, HeldBatch, SegmentId, SegmentMeta};
use segment::{Opened, ReadAt, RowFilter, ScanSpec, Scratch, Segment};

use crate::Error;

/// Compiled requests; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletes {
    deletes: Arc<[Delete]>,
}

#[derive(Debug)]
struct Delete {
    id: DeleteId,
    request: DeleteRequest,
    filter: Arc<RecordFilter>,
}

/// Leaves the records of requests out of a merge.
pub(crate) struct DeleteFilter<'a> {
    deletes: Vec<(&'a DeleteRequest, RecordTest)>,
    /// Those that may have records in the stream.
    selecting: Vec<usize>,
}

impl Delete {
    /// `None` for a request that this release does not understand; it stays active.
    fn compile((id, request): (DeleteId, &DeleteRequest)) -> Option<Self> {
        match RecordFilter::parse(&request.query) {
            Ok(filter) => Some(Delete {
                id,
                request: request.clone(),
                filter: Arc::new(filter),
            }),
            Err(error) => {
                tracing::error!(delete = id.0, query = &*request.query, %error, "cannot compile a delete request; its records stay stored, though not shown, until it is cancelled");
                None
            }
        }
    }

    fn is_in(&self, segment: &Segment, source: &dyn ReadAt) -> Result<bool, Error> {
        let spec = ScanSpec {
            tenant: &self.request.tenant,
            selector: self.filter.selector(),
            range: self.request.range,
            line_filter: self.filter.line_filter(),
        };
        let mut plan = segment.plan(&spec);
        plan.filter_with(|reads| read_all(source, reads))?;
        let columns = self.filter.columns();
        let mut test = self.filter.test();
        let mut found = false;
        let mut scratch = Scratch::default();
        for chunk in plan.chunks() {
            let bytes = read_all(source, plan.reads(chunk, columns))?;
            plan.decode(chunk, columns, &bytes, &mut scratch, &mut |block| {
                found = any_row(&mut test, block);
                match found {
                    true => Flow::Stop,
                    false => Flow::Continue,
                }
            })?;
            if found {
                break;
            }
        }
        Ok(found)
    }
}

fn any_row(test: &mut RecordTest, block: &RowBlock<'_>) -> bool {
    test.stream(block.labels)
        && (0..block.rows).any(|row| {
            let pairs = block.metadata.map_or(&[][..], |rows| rows.row(row));
            test.is_match(block.timestamps[row], block.lines.line(row), pairs)
        })
}

impl Deletes {
    /// The requests for which any of these segments is pending.
    pub(crate) fn pending(catalog: &Catalog, segments: &[Arc<SegmentMeta>]) -> Deletes {
        let segments: BTreeSet<SegmentId> = segments.iter().map(|segment| segment.id).collect();
        let deletes = catalog.deletes_pending(&segments);
        Deletes {
            deletes: deletes.filter_map(Delete::compile).collect(),
        }
    }

    /// One request.
    pub(crate) fn one(id: DeleteId, request: &DeleteRequest) -> Deletes {
        Deletes {
            deletes: Delete::compile((id, request)).into_iter().collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.deletes.is_empty()
    }

    pub(crate) fn ids(&self) -> BTreeSet<DeleteId> {
        self.deletes.iter().map(|delete| delete.id).collect()
    }

    pub(crate) fn filter(&self) -> DeleteFilter<'_> {
        let deletes = self.deletes.iter();
        DeleteFilter {
            deletes: deletes
                .map(|delete| (&delete.request, delete.filter.test()))
                .collect(),
            selecting: Vec::new(),
        }
    }

    /// Whether the segment holds any record of the requests. Reads no more than a query would.
    ///
    /// # Errors
    /// When the segment cannot be read or understood.
    pub(crate) fn are_in(&self, source: &dyn ReadAt) -> Result<bool, Error> {
        let segment = open(source)?;
        for delete in &*self.deletes {
            if delete.is_in(&segment, source)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether any of the batches holds a record of the requests.
    pub(crate) fn are_in_batches(&self, batches: &[HeldBatch]) -> bool {
        let mut filter = self.filter();
        batches.iter().any(|held| {
            let batch = &held.batch;
            batch.streams.iter().any(|stream| {
                filter.stream(&batch.tenant, &stream.labels)
                    && stream.rows.clone().any(|row| {
                        let row: Row<'_> = batch.row(row as usize);
                        let metadata: Vec<(&str, &[u8])> = row.metadata().collect();
                        filter.drops(row.timestamp(), row.line(), &metadata)
                    })
            })
        })
    }
}

impl RowFilter for DeleteFilter<'_> {
    fn stream(&mut self, tenant: &TenantId, labels: &Arc<Labels>) -> bool {
        self.selecting.clear();
        for (at, (request, test)) in self.deletes.iter_mut().enumerate() {
            if request.tenant == *tenant && test.stream(labels) {
                self.selecting.push(at);
            }
        }
        !self.selecting.is_empty()
    }

    fn drops(&mut self, at: Timestamp, line: &[u8], metadata: &[(&str, &[u8])]) -> bool {
        let deletes = &mut self.deletes;
        self.selecting.iter().any(|delete| {
            let (request, test) = &mut deletes[*delete];
            request.range.contains(at) && {
                let pairs: Vec<(&str, &str)> =
                    metadata.iter().map(|(k, v)| (*k, text(v))).collect();
                test.is_match(at, line, &pairs)
            }
        })
    }
}

/// Receivers let only UTF-8 in; should other bytes be there all the same, queries read the value as
/// one replacement character, and so must this.
fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or("\u{fffd}")
}

fn open(source: &dyn ReadAt) -> Result<Segment, Error> {
    let bytes = source.len();
    let mut tail = segment::TAIL_BYTES.min(bytes);
    loop {
        let read = read(source, bytes - tail..bytes)?;
        match Segment::open(source.name(), read, bytes)? {
            Opened::Segment(segment) => return Ok(segment),
            Opened::NeedTail(more) if more > tail && more <= bytes => tail = more,
            Opened::NeedTail(more) => {
                return Err(Error::Segment(segment::Error::Corrupt {
                    object: source.name().to_owned(),
                    offset: bytes - tail,
                    expected: format!("a footer within {bytes} bytes"),
                    found: format!("one of {more} bytes"),
                }));
            }
        }
    }
}

fn read_all(source: &dyn ReadAt, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, Error> {
    ranges
        .into_iter()
        .map(|range| read(source, range))
        .collect()
}

fn read(source: &dyn ReadAt, range: Range<u64>) -> Result<Bytes, Error> {
    source.read(range).map_err(|error| {
        Error::Segment(segment::Error::Read {
            object: source.name().to_owned(),
            source: error,
        })
    })
}
