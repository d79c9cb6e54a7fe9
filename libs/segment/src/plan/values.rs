//! Whether the values of a chunk hold what is looked for: less to read than the chunk, where many
//! chunks are left that filters could not tell apart from those with an answer.

use std::ops::Range;

use bytes::Bytes;

use super::{Plan, PlannedChunk};
use crate::Error;
use crate::decode::Scratch;
use crate::decode::blocks::Parts;
use crate::format::TEXTS;
use crate::search::{Required, Verdict};

impl Plan {
    /// The bytes of the object that tell, for [`values_hold`](Self::values_hold), whether the chunk
    /// can hold a matching line; `None` when only all of it can.
    pub fn values_read(&self, chunk: &PlannedChunk) -> Option<Range<u64>> {
        let (class, entry) = (self.required(chunk)?.class, self.entry(chunk));
        let range = entry.range(TEXTS[0]).start..entry.range(TEXTS[class]).end;
        (!range.is_empty()).then_some(range)
    }

    /// Whether the chunk may hold a matching line; `bytes` are those named by
    /// [`values_read`](Self::values_read).
    ///
    /// # Errors
    /// `Corrupt` when they are not what was written, `Request` when other bytes were given.
    pub fn values_hold(
        &self,
        chunk: &PlannedChunk,
        bytes: &Bytes,
        scratch: &mut Scratch,
    ) -> Result<bool, Error> {
        let ranges = Vec::from_iter(self.values_read(chunk));
        let bytes = std::slice::from_ref(bytes);
        self.segment.check_reads(ranges.iter(), bytes)?;
        let Some(required) = self.required(chunk) else {
            return Ok(true);
        };
        let parts = Parts {
            segment: &self.segment,
            chunk: self.entry(chunk),
            ranges: &ranges,
            bytes,
        };
        let blocks = scratch.blocks();
        blocks.begin();
        blocks.load(&parts, &TEXTS[..=required.class])?;
        // A find that straddles two values is none, but that is left to the whole chunk.
        let text = &blocks.text[..parts.chunk.text_starts()[required.class + 1]];
        Ok(required.finder.find(text).is_some())
    }

    /// Bytes of the whole chunk in the object.
    pub fn stored_bytes(&self, chunk: &PlannedChunk) -> u64 {
        self.entry(chunk).stored_bytes()
    }

    /// Bytes of the texts of a chunk as they are in memory: what [`values_hold`](Self::values_hold)
    /// needs as room.
    pub fn text_bytes(&self, chunk: &PlannedChunk) -> u64 {
        self.entry(chunk).text_starts()[TEXTS.len()] as u64
    }

    /// Leaves out chunks that hold no matching line: their places among [`chunks`](Self::chunks),
    /// ascending.
    pub fn drop_chunks(&mut self, places: &[usize]) {
        let mut place = 0..self.chunks.len();
        let stays = |place: usize| places.binary_search(&place).is_err();
        self.chunks.retain(|_| place.next().is_some_and(stays));
        self.skipped += places.len();
    }

    /// A text without which no line of the chunk passes: of several the one for which the least is
    /// read.
    fn required(&self, chunk: &PlannedChunk) -> Option<Required<'_>> {
        let search = self.search.as_ref()?;
        let templates = self.entry(chunk).templates.iter();
        let passing: Vec<(u32, Verdict)> = templates
            .map(|template| (*template, search.verdict(*template, &chunk.refuted)))
            .filter(|(_, verdict)| *verdict != Verdict::No)
            .collect();
        let decides = |required: &Required<'_>| {
            let mut passing = passing.iter();
            passing.all(|(template, verdict)| {
                *verdict == Verdict::Maybe && required.decides(*template)
            })
        };
        let required = search.all_required().filter(decides);
        required.min_by_key(|required| required.class)
    }
}
