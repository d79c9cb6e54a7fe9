//! Blocks on their way to a sink: exactly the columns that were asked for, with rows left out
//! where they are copies.

use model::{Columns, LineColumn, LineRows, MetadataRows, Row, RowBlock, Timestamp};

use super::hidden::HiddenTest;

/// Columns of rows that were picked one by one; reused from block to block.
#[derive(Debug, Default)]
pub(super) struct Picked {
    rows: usize,
    timestamps: Vec<Timestamp>,
    lines: Vec<u8>,
    line_ends: Vec<u32>,
    lengths: Vec<u32>,
    outcomes: Vec<u8>,
}

/// Memory for blocks of which rows are left out, and how many rows those are.
pub(super) struct Sifter<'a> {
    pub(super) picked: &'a mut Picked,
    pub(super) lengths: &'a mut Vec<u32>,
    pub(super) hiding: &'a mut HiddenTest,
    pub(super) copies: u64,
    pub(super) hidden: u64,
}

/// Metadata of picked rows; borrows the texts from where the rows came from.
#[derive(Debug, Default)]
pub(super) struct PickedMetadata<'a> {
    row_ends: Vec<u32>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Sifter<'a> {
    pub(super) fn new(
        picked: &'a mut Picked,
        lengths: &'a mut Vec<u32>,
        hiding: &'a mut HiddenTest,
    ) -> Self {
        Sifter {
            picked,
            lengths,
            hiding,
            copies: 0,
            hidden: 0,
        }
    }
}

impl Picked {
    pub(super) fn clear(&mut self) {
        self.rows = 0;
        self.timestamps.clear();
        self.lines.clear();
        self.line_ends.clear();
        self.lengths.clear();
        self.outcomes.clear();
    }

    /// Adds one row.
    pub(super) fn push(&mut self, columns: Columns, timestamp: Timestamp, line: &[u8]) {
        self.rows += 1;
        if columns.timestamps {
            self.timestamps.push(timestamp);
        }
        match columns.lines {
            LineColumn::None => {}
            LineColumn::Lengths => self.lengths.push(line.len() as u32),
            LineColumn::Bytes => {
                self.lines.extend_from_slice(line);
                self.line_ends.push(self.lines.len() as u32);
            }
        }
    }

    /// Adds the outcome of the line of the row added last.
    pub(super) fn push_outcome(&mut self, outcome: u8) {
        self.outcomes.push(outcome);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of lines picked so far.
    pub(super) fn line_bytes(&self) -> usize {
        self.lines.len()
    }

    /// The picked rows as a block.
    pub(super) fn block<'a>(
        &'a self,
        labels: &'a std::sync::Arc<model::Labels>,
        columns: Columns,
        metadata: &'a PickedMetadata<'a>,
    ) -> RowBlock<'a> {
        RowBlock {
            labels,
            rows: self.rows,
            timestamps: &self.timestamps,
            lines: match columns.lines {
                LineColumn::None => LineRows::None,
                LineColumn::Lengths => LineRows::Lengths(&self.lengths),
                LineColumn::Bytes => LineRows::Bytes {
                    bytes: &self.lines,
                    ends: &self.line_ends,
                },
            },
            outcomes: &self.outcomes,
            metadata: metadata.rows(),
        }
    }
}

impl<'a> PickedMetadata<'a> {
    /// Adds the pairs of one row.
    pub(super) fn push(&mut self, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        self.pairs.extend(pairs);
        self.row_ends.push(self.pairs.len() as u32);
    }

    /// Adds the pairs of a row of a batch. Receivers let only UTF-8 in; should other bytes be
    /// there all the same, the value reads as one replacement character.
    pub(super) fn push_row(&mut self, row: Row<'a>) {
        self.push(row.metadata().map(|(key, value)| (key, text(value))));
    }

    fn rows(&'a self) -> Option<MetadataRows<'a>> {
        (!self.pairs.is_empty()).then_some(MetadataRows {
            row_ends: &self.row_ends,
            pairs: &self.pairs,
        })
    }
}

pub(super) fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or("\u{fffd}")
}

/// The block with nothing but the columns asked for; `lengths` is scratch.
pub(super) fn project<'a>(
    block: &RowBlock<'a>,
    columns: Columns,
    lengths: &'a mut Vec<u32>,
) -> RowBlock<'a> {
    let lines = match columns.lines {
        LineColumn::None => LineRows::None,
        LineColumn::Bytes => block.lines,
        LineColumn::Lengths => {
            lengths.clear();
            lengths.extend((0..block.rows).map(|row| block.lines.line_length(row) as u32));
            LineRows::Lengths(lengths)
        }
    };
    RowBlock {
        labels: block.labels,
        rows: block.rows,
        timestamps: if columns.timestamps {
            block.timestamps
        } else {
            &[]
        },
        lines,
        outcomes: block.outcomes,
        metadata: block.metadata.filter(|_| columns.metadata),
    }
}
