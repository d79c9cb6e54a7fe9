//! How the lines of each template of a chunk are put together, with what they have in common put
//! together once: a recipe is a template in which values that all its lines share stand as text, and
//! only the others are still to be put in.

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
    parts: Vec<Part>,
    /// Where the parts of each template end, and its text behind the last of them.
    ends: Vec<(u32, (u32, u32))>,
}

/// A column whose values differ from line to line, and the text before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// In the text of the recipes.
    pub(crate) before: (u32, u32),
    pub(crate) column: Column,
}

/// How the lines of one template are put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) parts: &'a [Part],
    /// The text behind the last part.
    pub(crate) tail: (u32, u32),
}

impl Recipes {
    /// Forgets the chunk before.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.parts.clear();
        self.ends.clear();
    }

    /// Replaces those of the chunk before; `values` is the text of all values.
    pub(crate) fn fill(
        &mut self,
        index: &LineIndex,
        chunk: &ChunkEntry,
        templates: &Templates,
        values: &[u8],
    ) {
        self.clear();
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
                        self.parts.push(Part {
                            before: (start, end),
                            column: *column,
                        });
                        start = end;
                    }
                }
            }
            self.text.extend_from_slice(&templates.text[at..range.end]);
            let tail = (start, self.text.len() as u32);
            self.ends.push((self.parts.len() as u32, tail));
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
            parts: &self.parts[first..end as usize],
            tail,
        }
    }
}
