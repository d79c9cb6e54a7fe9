use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use model::{
    Columns, Flow, Labels, LineColumn, LineRows, MetadataRows, RecordIdentity, RowBlock, TimeRange,
    Timestamp,
};
use parking_lot::Mutex;
use query::logql::engine::run_share;
use query::{
    Budget, Reach, ScanOrder, ScanRequest, ScanStats, ShareSink, Sink, Source, SourceError,
};

/// One record of a [`MemorySource`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRecord {
    /// Labels of its stream.
    pub labels: Arc<Labels>,
    /// Its time.
    pub timestamp: Timestamp,
    /// Its line.
    pub line: Vec<u8>,
    /// Its structured metadata, in order of key.
    pub metadata: Vec<(String, String)>,
}

/// A [`Source`] over records in memory. As any source it shows copies of a record once.
///
/// It can be told to split rows over blocks and sinks at random, and to have shares of a scan done as
/// other processes do them: an engine must give the same answer whatever the split. The same seed gives
/// the same split. A query that foresaw less than it asks for makes it panic.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    records: Vec<MemoryRecord>,
    split: Option<Split>,
    /// What the query said that it will ask for; it must not ask for more.
    reach: Arc<Mutex<Option<Reach>>>,
}

#[derive(Clone, Copy, Debug)]
struct Split {
    seed: u64,
    sinks: usize,
    rows_max: usize,
}

/// Splitmix64: small, and good enough to cut blocks.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

impl MemorySource {
    /// No records; one block per stream and one sink.
    pub fn new() -> Self {
        MemorySource::default()
    }

    /// Adds a record. Metadata is sorted by key.
    pub fn push(
        &mut self,
        labels: &Arc<Labels>,
        timestamp: Timestamp,
        line: &str,
        metadata: &[(&str, &str)],
    ) {
        let pairs = metadata.iter();
        let mut metadata: Vec<(String, String)> = pairs
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        metadata.sort();
        self.records.push(MemoryRecord {
            labels: Arc::clone(labels),
            timestamp,
            line: line.as_bytes().to_vec(),
            metadata,
        });
    }

    /// The records, in order of arrival.
    pub fn records(&self) -> &[MemoryRecord] {
        &self.records
    }

    /// Takes all records away.
    pub fn clear(&mut self) {
        self.records.clear();
    }

    /// The same records in blocks of up to `rows_max` rows (at least 1), which go to one of `sinks`
    /// sinks (at least 1) each, in an order that has nothing to do with time.
    pub fn split(mut self, seed: u64, sinks: usize, rows_max: usize) -> Self {
        self.reach = Arc::default();
        self.split = Some(Split {
            seed,
            sinks: sinks.max(1),
            rows_max: rows_max.max(1),
        });
        self
    }

    /// The range in up to three, at times of records.
    fn cut(&self, range: TimeRange, random: &mut Random) -> Vec<TimeRange> {
        let inside = self.records.iter().map(|record| record.timestamp);
        let inside: Vec<Timestamp> = inside.filter(|at| range.contains(*at)).collect();
        if inside.is_empty() {
            return vec![range];
        }
        let mut cuts: Vec<Timestamp> = (0..random.below(3))
            .map(|_| inside[random.below(inside.len())])
            .collect();
        cuts.extend([range.start, range.end]);
        cuts.sort_unstable();
        let pairs = cuts.windows(2);
        let ranges = pairs.map(|pair| TimeRange::new(pair[0], pair[1]));
        ranges.filter(|range| !range.is_empty()).collect()
    }

    /// The records asked for, each once, by stream and time.
    fn matching(&self, request: &ScanRequest) -> Vec<Vec<&MemoryRecord>> {
        let mut streams: BTreeMap<&Labels, Vec<&MemoryRecord>> = BTreeMap::new();
        let mut seen: HashSet<(&Labels, RecordIdentity)> = HashSet::new();
        for record in &self.records {
            let wanted = request.range.contains(record.timestamp)
                && request.selector.is_match(&record.labels)
                && request.line_filter.is_match(&record.line)
                && is_of_use(record, request);
            if wanted && seen.insert((&record.labels, identity(record))) {
                streams.entry(&record.labels).or_default().push(record);
            }
        }
        let mut streams: Vec<_> = streams.into_values().collect();
        for rows in &mut streams {
            rows.sort_by_key(|row| row.timestamp);
        }
        streams
    }

    fn blocks<'a>(
        &self,
        streams: Vec<Vec<&'a MemoryRecord>>,
    ) -> Vec<(usize, Vec<&'a MemoryRecord>)> {
        let Some(split) = self.split else {
            return streams.into_iter().map(|rows| (0, rows)).collect();
        };
        let mut random = Random(split.seed);
        let mut blocks = Vec::new();
        for rows in streams {
            let mut parts: Vec<Vec<&MemoryRecord>> = vec![Vec::new(); 1 + random.below(3)];
            for row in rows {
                let part = random.below(parts.len());
                parts[part].push(row);
                if parts[part].len() > random.below(split.rows_max) {
                    let block = std::mem::take(&mut parts[part]);
                    blocks.push((random.below(split.sinks), block));
                }
            }
            let rest = parts.into_iter().filter(|rows| !rows.is_empty());
            blocks.extend(rest.map(|rows| (random.below(split.sinks), rows)));
        }
        for at in (1..blocks.len()).rev() {
            blocks.swap(at, random.below(at + 1));
        }
        blocks
    }
}

fn identity(record: &MemoryRecord) -> RecordIdentity {
    let pairs = record.metadata.iter();
    let pairs = pairs.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
    RecordIdentity::of(record.timestamp, &record.line, pairs)
}

/// As far as the outcome of its line tells.
fn is_of_use(record: &MemoryRecord, request: &ScanRequest) -> bool {
    let outcomes = request.outcomes.as_ref();
    let Some((of, test)) = outcomes.and_then(|of| Some((of, of.test.as_ref()?))) else {
        return true;
    };
    let pairs = record.metadata.iter();
    let pairs: Vec<(&str, &str)> = pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let useful = test.useful(&record.labels, &pairs);
    useful.has(of.property.of_line(&record.line))
}

/// A block in the form in which sinks take it; holds only the columns asked for.
struct Block {
    timestamps: Vec<Timestamp>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    lengths: Vec<u32>,
    row_ends: Vec<u32>,
    outcomes: Vec<u8>,
}

fn push<K: Sink>(
    sink: &mut K,
    rows: &[&MemoryRecord],
    request: &ScanRequest,
) -> Result<Flow, SourceError> {
    let columns: Columns = request.columns;
    let mut block = Block {
        timestamps: Vec::new(),
        bytes: Vec::new(),
        ends: Vec::new(),
        lengths: Vec::new(),
        row_ends: Vec::new(),
        outcomes: Vec::new(),
    };
    let outcomes = request.outcomes.as_ref().filter(|of| {
        let is_asked = of.property.is_asked(&rows[0].labels);
        of.wanted && is_asked && columns.lines != LineColumn::Bytes
    });
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        if columns.timestamps {
            block.timestamps.push(row.timestamp);
        }
        if let Some(of) = outcomes {
            block.outcomes.push(of.property.of_line(&row.line));
        }
        block.lengths.push(row.line.len() as u32);
        block.bytes.extend_from_slice(&row.line);
        block.ends.push(block.bytes.len() as u32);
        let own = row.metadata.iter();
        pairs.extend(own.map(|(key, value)| (key.as_str(), value.as_str())));
        block.row_ends.push(pairs.len() as u32);
    }
    let has_metadata = columns.metadata && !pairs.is_empty();
    let block = RowBlock {
        labels: &rows[0].labels,
        rows: rows.len(),
        timestamps: &block.timestamps,
        lines: match columns.lines {
            LineColumn::None => LineRows::None,
            LineColumn::Lengths => LineRows::Lengths(&block.lengths),
            LineColumn::Bytes => LineRows::Bytes {
                bytes: &block.bytes,
                ends: &block.ends,
            },
        },
        outcomes: &block.outcomes,
        metadata: has_metadata.then_some(MetadataRows {
            row_ends: &block.row_ends,
            pairs: &pairs,
        }),
    };
    Ok(sink.push(&block)?)
}

/// Whether a sink has said that it has no more use for any of these rows.
fn is_useless<K: Sink>(sink: &K, rows: &[&MemoryRecord], order: ScanOrder) -> bool {
    let Some(bound) = sink.bound() else {
        return false;
    };
    match order {
        ScanOrder::Any => false,
        ScanOrder::Backward => rows.iter().all(|row| row.timestamp < bound),
        ScanOrder::Forward => rows.iter().all(|row| row.timestamp > bound),
    }
}

impl Source for MemorySource {
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        if let Some(reach) = &*self.reach.lock() {
            let foreseen = reach.covers(&request.selector, request.range);
            assert!(foreseen, "{request:?} was not foreseen in {reach:?}");
        }
        let sinks = self.split.map_or(1, |split| split.sinks);
        let mut sinks: Vec<(K, Flow)> = (0..sinks).map(|_| (new_sink(), Flow::Continue)).collect();
        let mut stats = ScanStats::default();
        for (sink, rows) in self.blocks(self.matching(request)) {
            budget.take_rows(rows.len() as u64)?;
            let (sink, flow) = &mut sinks[sink];
            if *flow == Flow::Stop || is_useless(sink, &rows, request.order) {
                continue;
            }
            stats.chunks += 1;
            stats.rows_processed += rows.len() as u64;
            stats.rows_matched += rows.len() as u64;
            stats.bytes_processed += rows.iter().map(|row| row.line.len() as u64).sum::<u64>();
            *flow = push(sink, &rows, request)?;
        }
        Ok((sinks.into_iter().map(|(sink, _)| sink).collect(), stats))
    }

    /// When it is split, shares of the scan go the way that they go between processes.
    fn scan_share<K: ShareSink>(
        &self,
        request: &ScanRequest,
        share: &dyn Fn() -> Option<Vec<u8>>,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        let Some(split) = self.split else {
            return self.scan(request, budget, new_sink);
        };
        let share = share().unwrap_or_else(|| panic!("no share can be made of {request:?}"));
        let mut random = Random(split.seed);
        let (mut sinks, mut stats) = (vec![new_sink()], ScanStats::default());
        for range in self.cut(request.range, &mut random) {
            if random.below(3) == 0 {
                let request = ScanRequest {
                    range,
                    ..request.clone()
                };
                let (own, scanned) = self.scan(&request, budget, new_sink)?;
                sinks.extend(own);
                stats.add(&scanned);
                continue;
            }
            let during = During {
                source: self,
                range,
            };
            let done = run_share(&share, &during, &Budget::unlimited());
            let (saved, scanned) = done.unwrap_or_else(|error| panic!("{request:?}: {error}"));
            budget.take_rows(scanned.rows_processed)?;
            let mut sink = new_sink();
            sink.load(&saved)?;
            sinks.push(sink);
            stats.add(&scanned);
        }
        Ok((sinks, stats))
    }

    fn foresee(&self, reach: &Reach) {
        *self.reach.lock() = Some(reach.clone());
    }
}

/// The records of a source at times of the range.
struct During<'a> {
    source: &'a MemorySource,
    range: TimeRange,
}

impl Source for During<'_> {
    fn scan<K: Sink>(
        &self,
        request: &ScanRequest,
        budget: &Budget,
        new_sink: &(dyn Fn() -> K + Sync),
    ) -> Result<(Vec<K>, ScanStats), SourceError> {
        let request = ScanRequest {
            range: request.range.intersection(&self.range),
            ..request.clone()
        };
        self.source.scan(&request, budget, new_sink)
    }
}
