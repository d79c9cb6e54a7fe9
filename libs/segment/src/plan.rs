//! Which chunks and rows a scan needs, and which bytes of the object.

mod filters;
mod values;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::Timestamp;
use model::{Columns, Labels, LineColumn, LineFilter, Outcomes, Selector, StreamId};
use model::{TenantId, TimeRange};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::Damage;
use crate::footer::ChunkEntry;
use crate::format::{BLOCKS, Block, CHECKSUM_BYTES, TEXTS};
use crate::outcomes::LineOutcomes;
use crate::patterns;
use crate::search::{Refuted, Search, Verdict};
use crate::{Error, Segment};

/// What a scan asks of a segment.
#[derive(Clone, Copy, Debug)]
pub struct ScanSpec<'a> {
    /// Whose records.
    pub tenant: &'a TenantId,
    /// Which streams.
    pub selector: &'a Selector,
    /// Which times.
    pub range: TimeRange,
    /// Which lines.
    pub line_filter: &'a LineFilter,
}

/// What is wanted of a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Columns of the blocks.
    pub columns: Columns,
    /// Instead of the bytes of a line, its pattern: see [`PatternFinder`](crate::PatternFinder).
    /// That mostly takes the dictionary of templates and no text.
    pub patterns: bool,
    /// Whether blocks have the outcomes of lines that the plan was [asked](Plan::ask) for.
    pub outcomes: bool,
    /// How the rows of a stream are handed out.
    pub pieces: Pieces,
}

/// How the rows of a stream are handed out: a sink that wants only the first few by time can say
/// between two pieces that the rest is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// All at once.
    Whole,
    /// The latest rows first.
    FromEnd,
    /// The earliest rows first.
    FromStart,
}

/// The chunks that may hold rows of a scan; a cheap handle of the segment is inside.
#[derive(Debug)]
pub struct Plan {
    pub(crate) segment: Segment,
    pub(crate) range: TimeRange,
    pub(crate) search: Option<Arc<Search>>,
    pub(crate) outcomes: Option<Arc<LineOutcomes>>,
    chunks: Vec<PlannedChunk>,
    skipped: usize,
    asked: filters::Asked,
}

/// One chunk to look at.
#[derive(Clone, Debug)]
pub struct PlannedChunk {
    /// Its number in the segment.
    pub index: u32,
    /// Earliest possible time of a selected row, included.
    pub first: Timestamp,
    /// Latest possible time of a selected row, included.
    pub last: Timestamp,
    /// Rows of the selected streams (before range and line filter).
    pub rows: u64,
    /// Bytes of lines and metadata values of those rows.
    pub content_bytes: u64,
    /// The selected streams, in order.
    pub streams: Vec<PlannedStream>,
    pub(crate) refuted: Refuted,
}

/// A selected stream in a chunk.
#[derive(Clone, Debug)]
pub struct PlannedStream {
    /// The stream.
    pub id: StreamId,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its rows in the chunk (before range and line filter).
    pub rows: u64,
    /// Bytes of lines and metadata values of those rows.
    pub content_bytes: u64,
    /// Time of the earliest of those rows, included.
    pub first: Timestamp,
    /// Time of the latest, included.
    pub last: Timestamp,
    /// Its first row in the chunk.
    pub(crate) start: usize,
}

impl Plan {
    pub(crate) fn new(segment: Segment, spec: &ScanSpec<'_>) -> Self {
        let footer = segment.footer();
        let streams = footer.streams_of(spec.tenant);
        let selected: Vec<bool> = footer.streams[streams.clone()]
            .iter()
            .map(|stream| {
                spec.range.touches(stream.first, stream.last)
                    && spec.selector.is_match(&stream.labels)
            })
            .collect();
        let mut numbers = footer.chunks_of(&streams);
        if !selected.contains(&true) {
            numbers.end = numbers.start;
        }
        let mut chunks = Vec::new();
        for index in numbers.clone() {
            let is_selected = |stream: u32| selected[stream as usize - streams.start];
            chunks.extend(plan_chunk(&segment, index, spec.range, is_selected));
        }
        let search = match spec.line_filter.is_empty() || chunks.is_empty() {
            true => None,
            false => Some(Arc::new(Search::new(spec.line_filter, &footer.templates))),
        };
        let mut plan = Plan {
            range: spec.range,
            search,
            outcomes: None,
            chunks,
            skipped: 0,
            asked: filters::Asked::default(),
            segment,
        };
        plan.drop_decided();
        plan.skipped = numbers.len() - plan.chunks.len();
        plan
    }

    /// The chunks, in order of (stream, time).
    pub fn chunks(&self) -> &[PlannedChunk] {
        &self.chunks
    }

    /// Leaves out chunks that the caller knows enough of.
    pub fn retain(&mut self, keep: impl FnMut(&PlannedChunk) -> bool) {
        self.chunks.retain(keep);
    }

    /// Takes some of the chunks into a plan of their own.
    pub fn split_off(&mut self, take: impl FnMut(&PlannedChunk) -> bool) -> Plan {
        let (taken, rest) = std::mem::take(&mut self.chunks).into_iter().partition(take);
        self.chunks = rest;
        Plan {
            segment: self.segment.clone(),
            range: self.range,
            search: self.search.clone(),
            outcomes: self.outcomes.clone(),
            chunks: taken,
            skipped: 0,
            asked: self.asked.clone(),
        }
    }

    /// Asks about a property of lines: rows that its test finds of no use are left out from now on.
    pub fn ask(&mut self, outcomes: &Outcomes) {
        let templates = &self.segment.footer().templates;
        let outcomes = LineOutcomes::new(outcomes.clone(), templates);
        self.outcomes = Some(Arc::new(outcomes));
    }

    /// Chunks of the tenant that need not be looked at.
    pub fn chunks_skipped(&self) -> usize {
        self.skipped
    }

    fn drop_decided(&mut self) {
        let Some(search) = &self.search else {
            return;
        };
        let footer = self.segment.footer();
        let before = self.chunks.len();
        self.chunks.retain(|chunk| {
            let templates = footer.chunks[chunk.index as usize].templates.iter();
            let mut verdicts = templates.map(|t| search.verdict(*t, &chunk.refuted));
            verdicts.any(|verdict| verdict != Verdict::No)
        });
        self.skipped += before - self.chunks.len();
    }

    /// What is known of each template of the chunk; `None` without a line filter.
    pub(crate) fn verdicts(&self, chunk: &PlannedChunk) -> Option<Vec<Verdict>> {
        let search = self.search.as_ref()?;
        let templates = self.entry(chunk).templates.iter();
        let verdicts = templates.map(|template| search.verdict(*template, &chunk.refuted));
        Some(verdicts.collect())
    }

    pub(crate) fn entry(&self, chunk: &PlannedChunk) -> &ChunkEntry {
        &self.segment.footer().chunks[chunk.index as usize]
    }

    pub(crate) fn needs(
        &self,
        chunk: &PlannedChunk,
        wanted: &Wanted,
        verdicts: Option<&[Verdict]>,
    ) -> [bool; BLOCKS.len()] {
        let columns = wanted.columns;
        let verdicts = verdicts.unwrap_or_default();
        let open = verdicts.contains(&Verdict::Maybe);
        let texts = match open {
            true => self.open_texts(chunk, verdicts),
            false => 0,
        };
        let outcomes = self.outcome_texts(chunk, wanted, verdicts);
        let filtered = verdicts.iter().any(|verdict| *verdict != Verdict::All);
        let cut = |stream: &PlannedStream| !self.range.covers(stream.first, stream.last);
        let mut needs = [false; BLOCKS.len()];
        needs[Block::Templates as usize] =
            filtered || columns.lines != LineColumn::None || outcomes.is_some();
        let outcomes = outcomes.unwrap_or(0);
        needs[Block::Timestamps as usize] = columns.timestamps || chunk.streams.iter().any(cut);
        for block in [Block::Lengths, Block::Indices] {
            needs[block as usize] = open || outcomes != 0 || self.needs_variables(chunk, wanted);
        }
        let by_line = columns.lines == LineColumn::Bytes && self.needs_variables(chunk, wanted);
        for (class, block) in TEXTS.into_iter().enumerate() {
            needs[block as usize] = class < texts || by_line || outcomes >> class & 1 == 1;
        }
        needs[Block::Metadata as usize] = columns.metadata;
        for (block, needed) in BLOCKS.iter().zip(&mut needs) {
            *needed &= !self.entry(chunk).range(*block).is_empty();
        }
        needs
    }

    /// How many classes of text tell which lines of open templates pass: all of them where lines must be
    /// put together.
    fn open_texts(&self, chunk: &PlannedChunk, verdicts: &[Verdict]) -> usize {
        let templates = self.entry(chunk).templates.iter().zip(verdicts);
        let open = templates.filter(|(_, verdict)| **verdict == Verdict::Maybe);
        let open: Vec<u32> = open.map(|(template, _)| *template).collect();
        let class = self
            .search
            .as_ref()
            .and_then(|s| s.class_of(&open, &chunk.refuted));
        class.map_or(TEXTS.len(), |class| class + 1)
    }

    /// The classes of text that tell outcomes (a bit for each); `None` if nobody asks.
    fn outcome_texts(
        &self,
        chunk: &PlannedChunk,
        wanted: &Wanted,
        verdicts: &[Verdict],
    ) -> Option<u8> {
        let outcomes = self.outcomes.as_ref()?;
        if !wanted.outcomes && outcomes.asked.test.is_none() {
            return None;
        }
        let templates = self.entry(chunk).templates.iter().enumerate();
        let passing = templates.filter(|(at, _)| verdicts.get(*at) != Some(&Verdict::No));
        let known = &self.segment.footer().templates;
        Some(outcomes.texts_of(known, passing.map(|(_, template)| *template)))
    }

    /// Whether rows can be told apart by more than their templates; patterns are the templates'
    /// own, but for lines that are stored whole.
    pub(crate) fn needs_variables(&self, chunk: &PlannedChunk, wanted: &Wanted) -> bool {
        match wanted.columns.lines {
            LineColumn::None => false,
            LineColumn::Bytes if wanted.patterns => {
                let templates = &self.segment.footer().templates;
                let mut of_chunk = self.entry(chunk).templates.iter();
                of_chunk.any(|template| patterns::is_open(*template, templates))
            }
            LineColumn::Lengths | LineColumn::Bytes => true,
        }
    }

    /// These columns of all rows of the plan's range.
    pub(crate) fn all(&self, columns: Columns) -> Wanted {
        Wanted {
            columns,
            patterns: false,
            outcomes: false,
            pieces: Pieces::Whole,
        }
    }

    /// The bytes of the object that [`decode`](Self::decode) needs: few ranges, ascending; none
    /// when the footer knows the answer.
    pub fn reads(&self, chunk: &PlannedChunk, columns: Columns) -> Vec<Range<u64>> {
        self.reads_of(chunk, &self.all(columns))
    }

    /// The bytes of the object that [`decode_wanted`](Self::decode_wanted) needs.
    pub fn reads_of(&self, chunk: &PlannedChunk, wanted: &Wanted) -> Vec<Range<u64>> {
        let verdicts = self.verdicts(chunk);
        let needs = self.needs(chunk, wanted, verdicts.as_deref());
        let mut reads: Vec<Range<u64>> = Vec::new();
        for block in BLOCKS {
            if !needs[block as usize] {
                continue;
            }
            let range = self.entry(chunk).range(block);
            match reads.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => reads.push(range),
            }
        }
        reads
    }
}

fn plan_chunk(
    segment: &Segment,
    index: usize,
    range: TimeRange,
    is_selected: impl Fn(u32) -> bool,
) -> Option<PlannedChunk> {
    let footer = segment.footer();
    let mut planned = PlannedChunk {
        index: index as u32,
        first: Timestamp::MAX,
        last: Timestamp::MIN,
        rows: 0,
        content_bytes: 0,
        streams: Vec::new(),
        refuted: Vec::new(),
    };
    let mut start = 0;
    for span in &footer.chunks[index].spans {
        if range.touches(span.first, span.last) && is_selected(span.stream) {
            let stream = &footer.streams[span.stream as usize];
            planned.first = planned.first.min(span.first.max(range.start));
            let range_last = range.end.saturating_sub(1);
            planned.last = planned.last.max(span.last.min(range_last));
            planned.rows += u64::from(span.rows);
            planned.content_bytes += span.content_bytes;
            planned.streams.push(PlannedStream {
                id: stream.id,
                labels: Arc::clone(&stream.labels),
                rows: u64::from(span.rows),
                content_bytes: span.content_bytes,
                first: span.first,
                last: span.last,
                start,
            });
        }
        start += span.rows as usize;
    }
    (!planned.streams.is_empty()).then_some(planned)
}

impl Segment {
    /// The part without its checksum, once that is found right.
    pub(crate) fn verified<'b>(&self, part: &'b [u8], offset: u64) -> Result<&'b [u8], Error> {
        let Some((body, sum)) = part.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(Damage::new("a checksum", part.len()).at(self.name(), offset));
        };
        let sum = u64::from_le_bytes(*sum);
        let found = xxh3_64_with_seed(body, offset);
        if sum != found {
            let damage = Damage::new(format!("checksum {sum:016x}"), format!("{found:016x}"));
            return Err(damage.at(self.name(), offset));
        }
        Ok(body)
    }

    pub(crate) fn check_reads<'r>(
        &self,
        ranges: impl ExactSizeIterator<Item = &'r Range<u64>>,
        bytes: &[Bytes],
    ) -> Result<(), Error> {
        let wanted = ranges.len();
        let mut pairs = ranges.zip(bytes);
        let wrong = pairs.find(|(range, part)| range.end - range.start != part.len() as u64);
        if wanted == bytes.len() && wrong.is_none() {
            return Ok(());
        }
        let what = match wrong {
            Some((range, part)) => format!("want bytes {range:?}, got {} bytes", part.len()),
            None => format!("want {wanted} ranges, got {}", bytes.len()),
        };
        Err(Error::Request {
            object: self.name().to_owned(),
            what,
        })
    }
}
