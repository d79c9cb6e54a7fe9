//! Which rows pass a line filter: template by template, so that lines with the same parts are put
//! together one after the other.

use std::ops::Range;

use crate::decode::rebuild::Lines;
use crate::search::{Search, Verdict};

/// Buffers, kept from piece to piece.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The rows that pass, ascending.
    pub(crate) rows: Vec<u32>,
    /// Whether each row of the piece passes.
    passes: Vec<bool>,
    /// Undecided rows, by template.
    open: Vec<u32>,
    /// Where the undecided rows of each template end.
    ends: Vec<u32>,
    line: Vec<u8>,
}

impl Selection {
    /// Finds the rows of the range that pass.
    pub(crate) fn select(
        &mut self,
        lines: &Lines<'_>,
        range: Range<usize>,
        search: &Search,
        verdicts: &[Verdict],
    ) {
        let locals = &lines.index.locals[range.clone()];
        self.passes.clear();
        let passes = locals
            .iter()
            .map(|l| verdicts[usize::from(*l)] == Verdict::All);
        self.passes.extend(passes);
        if verdicts.contains(&Verdict::Maybe) {
            self.group(locals, verdicts);
            self.look_at_lines(lines, range.start, search);
        }
        self.rows.clear();
        let passing = range.zip(&self.passes).filter(|(_, passes)| **passes);
        self.rows.extend(passing.map(|(row, _)| row as u32));
    }

    /// Groups the undecided rows by template.
    fn group(&mut self, locals: &[u16], verdicts: &[Verdict]) {
        self.ends.clear();
        self.ends.resize(verdicts.len(), 0);
        let is_open = |local: &u16| verdicts[usize::from(*local)] == Verdict::Maybe;
        for local in locals {
            self.ends[usize::from(*local)] += u32::from(is_open(local));
        }
        let mut start = 0;
        for end in &mut self.ends {
            start += std::mem::replace(end, start);
        }
        self.open.clear();
        self.open.resize(start as usize, 0);
        // Each start moves up to the end.
        for (at, local) in locals.iter().enumerate() {
            if is_open(local) {
                let place = &mut self.ends[usize::from(*local)];
                self.open[*place as usize] = at as u32;
                *place += 1;
            }
        }
    }

    /// Puts undecided lines together and tests them.
    fn look_at_lines(&mut self, lines: &Lines<'_>, first: usize, search: &Search) {
        let mut start = 0;
        for (local, end) in self.ends.iter().enumerate() {
            let rows = &self.open[start..*end as usize];
            start = *end as usize;
            for at in rows {
                let occurrence = lines.index.occurrences[first + *at as usize] as usize;
                self.line.clear();
                lines.append_of(local, occurrence, &mut self.line);
                self.passes[*at as usize] = search.is_match(&self.line);
            }
        }
    }
}
