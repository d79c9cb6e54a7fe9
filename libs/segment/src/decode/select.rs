//! Which rows pass a line filter: template by template, so that lines with the same parts are put
//! together one after the other.

use std::ops::Range;

use crate::decode::line_buffer::LineBuffer;
use crate::decode::rebuild::Lines;
use crate::decode::values::ValueHits;
use crate::footer::ChunkEntry;
use crate::search::{InText, Search, Verdict};

/// Buffers, kept from piece to piece.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The rows that pass, ascending, and what is left of those before.
    rows: Vec<u32>,
    /// How many pass.
    kept: usize,
    /// Whether each row of the piece passes, or each template.
    passes: Vec<bool>,
    by_template: Vec<bool>,
    /// Undecided rows, by template.
    open: Vec<u32>,
    /// Where the undecided rows of each template end.
    ends: Vec<u32>,
    /// A line, or lines side by side.
    line: LineBuffer,
    line_ends: Vec<u32>,
}

/// So many bytes of lines are looked through at one go: they stay in the fastest cache.
const LINES_BYTES: usize = 16 << 10;

/// A line filter, and what was found out about it in a chunk.
pub(crate) struct Filter<'a> {
    pub(crate) search: &'a Search,
    /// Of each template of the list.
    pub(crate) verdicts: &'a [Verdict],
    pub(crate) refuted: &'a [u64],
    pub(crate) hits: &'a ValueHits,
}

impl Filter<'_> {
    /// Whether lines must be put together to tell whether they pass.
    pub(crate) fn needs_lines(&self, chunk: &ChunkEntry) -> bool {
        let mut templates = self.verdicts.iter().zip(&chunk.templates);
        templates.any(|(verdict, template)| {
            let (search, decided) = (self.search, self.hits.decided);
            *verdict == Verdict::Maybe && search.is_undecided(*template, self.refuted, decided)
        })
    }

    /// Which tests the values of a template's `row`th row pass.
    fn mask(&self, local: usize, row: usize) -> u8 {
        self.hits.masks(local).map_or(0, |masks| masks[row])
    }

    /// What is known of a template's rows that pass these tests.
    fn verdict(&self, lines: &Lines<'_>, local: usize, mask: u8) -> Verdict {
        let (template, decided) = (lines.chunk.templates[local], self.hits.decided);
        self.search
            .verdict_with(template, self.refuted, decided, mask)
    }
}

/// Puts the numbers of those that pass, the first being `first`, to the beginning of `rows`, with no
/// branch for the processor to guess; gives how many these are.
fn keep<T>(rows: &mut Vec<u32>, first: usize, of: &[T], passes: impl Fn(&T) -> bool) -> usize {
    if rows.len() < of.len() {
        rows.resize(of.len(), 0);
    }
    let mut kept = 0;
    for (row, of) in (first as u32..).zip(of) {
        rows[kept] = row;
        kept += usize::from(passes(of));
    }
    kept
}

impl Selection {
    /// How many rows of the range pass.
    pub(crate) fn count(
        &mut self,
        lines: &Lines<'_>,
        range: Range<usize>,
        filter: &Filter<'_>,
    ) -> usize {
        if filter.needs_lines(lines.chunk) {
            self.select(lines, range, filter);
            return self.kept;
        }
        self.pass_templates(filter.verdicts);
        let locals = lines.index.locals[range.clone()].iter();
        let passing = locals.map(|local| u32::from(self.passes[usize::from(*local)]));
        let mut passing = passing.sum::<u32>() as usize;
        if filter.verdicts.contains(&Verdict::Maybe) {
            let mut known = None;
            for row in range {
                let local = usize::from(lines.index.locals[row]);
                if filter.verdicts[local] != Verdict::Maybe {
                    continue;
                }
                let mask = filter.mask(local, lines.index.occurrences[row] as usize);
                let passes = match known {
                    Some((of, passes)) if of == (local, mask) => passes,
                    _ => {
                        let passes = filter.verdict(lines, local, mask) == Verdict::All;
                        known.insert(((local, mask), passes)).1
                    }
                };
                passing += usize::from(passes);
            }
        }
        passing
    }

    /// The rows that [`select`](Self::select) found, ascending.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows[..self.kept]
    }

    /// Notes of each template whether all its lines pass.
    fn pass_templates(&mut self, verdicts: &[Verdict]) {
        self.passes.clear();
        let passes = verdicts.iter().map(|verdict| *verdict == Verdict::All);
        self.passes.extend(passes);
    }

    /// Finds the rows of the range that pass.
    pub(crate) fn select(&mut self, lines: &Lines<'_>, range: Range<usize>, filter: &Filter<'_>) {
        let locals = &lines.index.locals[range.clone()];
        self.pass_templates(filter.verdicts);
        if !filter.verdicts.contains(&Verdict::Maybe) {
            let passes = |local: &u16| self.passes[usize::from(*local)];
            self.kept = keep(&mut self.rows, range.start, locals, passes);
            return;
        }
        let by_template = std::mem::take(&mut self.by_template);
        self.by_template = std::mem::replace(&mut self.passes, by_template);
        self.passes.clear();
        let passes = locals
            .iter()
            .map(|local| self.by_template[usize::from(*local)]);
        self.passes.extend(passes);
        self.group(lines, range.clone(), filter);
        self.decide(lines, range.start, filter);
        self.kept = keep(&mut self.rows, range.start, &self.passes, |passes| *passes);
    }

    /// Groups the undecided rows by template.
    fn group(&mut self, lines: &Lines<'_>, range: Range<usize>, filter: &Filter<'_>) {
        let verdicts = filter.verdicts;
        let locals = &lines.index.locals[range.clone()];
        self.ends.clear();
        self.ends.resize(verdicts.len(), 0);
        let has_holders = filter.hits.has_holders();
        let is_open = |at: usize, local: u16| {
            verdicts[usize::from(local)] == Verdict::Maybe
                && (!has_holders || {
                    let row = lines.index.occurrences[range.start + at] as usize;
                    let holders = filter.hits.holders(usize::from(local));
                    holders.is_none_or(|holders| holders[row])
                })
        };
        for (at, local) in locals.iter().enumerate() {
            self.ends[usize::from(*local)] += u32::from(is_open(at, *local));
        }
        let mut start = 0;
        for end in &mut self.ends {
            start += std::mem::replace(end, start);
        }
        self.open.clear();
        self.open.resize(start as usize, 0);
        // Each start moves up to the end.
        for (at, local) in locals.iter().enumerate() {
            if is_open(at, *local) {
                let place = &mut self.ends[usize::from(*local)];
                self.open[*place as usize] = at as u32;
                *place += 1;
            }
        }
    }

    /// Decides the undecided rows, on their values where those tell, else on their lines.
    fn decide(&mut self, lines: &Lines<'_>, first: usize, filter: &Filter<'_>) {
        let in_text = filter.search.in_text();
        let mut start = 0;
        for local in 0..self.ends.len() {
            let end = self.ends[local] as usize;
            let rows = start..end;
            start = end;
            if rows.is_empty() {
                continue;
            }
            match &in_text {
                Some(search) if filter.hits.decided == 0 => {
                    self.search_lines(lines, first, local, rows, search);
                }
                _ => self.try_rows(lines, first, local, rows, filter),
            }
        }
    }

    /// Looks through many lines of a template at one go; `rows` are places among the undecided.
    fn search_lines(
        &mut self,
        lines: &Lines<'_>,
        first: usize,
        local: usize,
        rows: Range<usize>,
        search: &InText<'_>,
    ) {
        let recipe = lines.recipes.of(local);
        let mut rest = &self.open[rows];
        while !rest.is_empty() {
            let mut line = std::mem::take(&mut self.line);
            line.clear();
            self.line_ends.clear();
            while let Some(at) = rest.get(self.line_ends.len())
                && line.len() < LINES_BYTES
            {
                let row = lines.index.occurrences[first + *at as usize] as usize;
                line = lines.with_line(recipe, row, line);
                self.line_ends.push(line.len() as u32);
            }
            self.line = line;
            let (these, after) = rest.split_at(self.line_ends.len());
            rest = after;
            search.each_match(self.line.as_slice(), &self.line_ends, |line| {
                self.passes[these[line] as usize] = true;
            });
        }
    }

    /// Looks at one row of a template after the other.
    fn try_rows(
        &mut self,
        lines: &Lines<'_>,
        first: usize,
        local: usize,
        rows: Range<usize>,
        filter: &Filter<'_>,
    ) {
        let mut known = None;
        for at in &self.open[rows] {
            let row = lines.index.occurrences[first + *at as usize] as usize;
            let mask = filter.mask(local, row);
            let verdict = match known {
                Some((of, verdict)) if of == mask => verdict,
                _ => known.insert((mask, filter.verdict(lines, local, mask))).1,
            };
            self.passes[*at as usize] = match verdict {
                Verdict::No => false,
                Verdict::All => true,
                Verdict::Maybe => {
                    let mut line = std::mem::take(&mut self.line);
                    line.clear();
                    self.line = lines.with_line(lines.recipes.of(local), row, line);
                    filter.search.is_match(self.line.as_slice())
                }
            };
        }
    }
}
