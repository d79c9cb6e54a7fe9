//! How the lines of each template of a chunk are put together, with what they have in common put
//! together once.

use crate::decode::lines::{Choice, Column, LineIndex};
use crate::footer::{ChunkEntry, Templates};

/// A value that all lines of a template have becomes text up to this length, so that all texts together
/// are smaller than the lines.
const SHARED_BYTES_MAX: usize = 64;

/// The templates of a chunk's list, where values that all lines share are text. Buffers are kept from chunk
/// to chunk.
#[derive(Debug, Default)]
pub(crate) struct Recipes {
    /// The texts of all.
    text: Vec<u8>,
    /// The columns that differ from line to line; what stands before each is in `text`.
    columns: Vec<Column>,
    /// Where the columns of each template end, and its text behind the last of them.
    ends: Vec<(u32, (u32, u32))>,
}

/// How the lines of one template are put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) columns: &'a [Column],
    /// The text behind the last column.
    pub(crate) tail: (u32, u32),
}

impl Recipes {
    /// Replaces those of the chunk before; `values` is the text of all values.
    pub(crate) fn fill(
        &mut self,
        index: &LineIndex,
        chunk: &ChunkEntry,
        templates: &Templates,
        values: &[u8],
    ) {
        self.text.clear();
        self.columns.clear();
        self.ends.clear();
        for (local, template) in chunk.templates.iter().enumerate() {
            let range = templates.text_range(*template);
            let mut at = range.start;
            let mut start = self.text.len() as u32;
            for column in index.columns(local) {
                let slot = column.before.1 as usize;
                self.text.extend_from_slice(&templates.text[at..slot]);
                at = slot;
                let shared = match column.choice {
                    Choice::Only => Some(index.place(column, 0)),
                    Choice::Own | Choice::Low(_) | Choice::Wide(..) | Choice::Unread => None,
                };
                match shared.filter(|(from, to)| to - from <= SHARED_BYTES_MAX) {
                    Some((from, to)) => self.text.extend_from_slice(&values[from..to]),
                    None => {
                        let end = self.text.len() as u32;
                        self.columns.push(Column {
                            before: (start, end),
                            ..*column
                        });
                        start = end;
                    }
                }
            }
            self.text.extend_from_slice(&templates.text[at..range.end]);
            let tail = (start, self.text.len() as u32);
            self.ends.push((self.columns.len() as u32, tail));
        }
    }

    /// That of a template of the list.
    #[inline(always)]
    pub(crate) fn of(&self, local: usize) -> Recipe<'_> {
        let first = local
            .checked_sub(1)
            .map_or(0, |before| self.ends[before].0 as usize);
        let (end, tail) = self.ends[local];
        Recipe {
            text: &self.text,
            columns: &self.columns[first..end as usize],
            tail,
        }
    }
}
