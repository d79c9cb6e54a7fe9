//! What is read of a chunk, and in which order: each step may spare the next.

use crate::Error;
use crate::decode::blocks::{Blocks, Parts};
use crate::decode::lines::LineIndex;
use crate::decode::open_chunk::OpenChunk;
use crate::decode::values::{ValueHits, Values};
use crate::format::{BLOCKS, Block, TEXTS};
use crate::metadata::MetadataColumns;
use crate::search::{Required, Search, Verdict};

/// With more hits than this in a chunk, each open line is looked at instead.
const HITS_MAX: usize = 4096;

/// What has been read of the chunk at hand.
#[derive(Default)]
pub(super) struct Known {
    /// Of the blocks that say which values rows have.
    read: [bool; BLOCKS.len()],
    /// All texts.
    text: bool,
    /// Whether the recipes are those of the chunk.
    pub(super) recipes: bool,
    metadata: Option<MetadataColumns>,
}

/// What is to be read.
#[derive(Clone, Copy, Default)]
pub(super) struct Needed {
    pub(super) templates: bool,
    pub(super) variables: bool,
    pub(super) text: bool,
    pub(super) metadata: bool,
    pub(super) timestamps: bool,
}

impl Known {
    /// Reads what is needed and was not read yet.
    pub(super) fn load(
        &mut self,
        needed: Needed,
        parts: &Parts<'_>,
        blocks: &mut Blocks,
        index: &mut LineIndex,
    ) -> Result<(), Error> {
        if needed.templates {
            self.read_up_to(Block::Templates, parts, blocks, index)?;
        }
        if needed.variables {
            self.read_up_to(Block::Indices, parts, blocks, index)?;
        }
        if needed.text {
            blocks.load(parts, &TEXTS)?;
            self.text = true;
        }
        if needed.timestamps {
            blocks.load(parts, &[Block::Timestamps])?;
        }
        if needed.metadata && self.metadata.is_none() {
            self.metadata = Some(read_metadata(parts, blocks)?);
        }
        Ok(())
    }

    /// Whether each row's values are known, and their text.
    pub(super) fn has_values(&self) -> bool {
        self.read[Block::Indices as usize] && self.text
    }

    /// The metadata, if it was read and there is any.
    pub(super) fn metadata(&self) -> Option<&MetadataColumns> {
        self.metadata.as_ref().filter(|columns| !columns.is_empty())
    }

    /// Reads templates, lengths and indices, in that order and as far as they are not yet, up to `last`.
    fn read_up_to(
        &mut self,
        last: Block,
        parts: &Parts<'_>,
        blocks: &mut Blocks,
        index: &mut LineIndex,
    ) -> Result<(), Error> {
        let (chunk, templates) = (parts.chunk, &parts.segment.footer().templates);
        let steps = [Block::Templates, Block::Lengths, Block::Indices];
        for block in steps
            .into_iter()
            .take_while(|block| *block as usize <= last as usize)
        {
            if std::mem::replace(&mut self.read[block as usize], true) {
                continue;
            }
            blocks.load(parts, &[block])?;
            let raw = blocks.raw(block);
            let read = match block {
                Block::Templates => index.read_templates(raw, chunk),
                Block::Lengths => index.read_lengths(raw, chunk, templates),
                _ => index.read_indices(raw),
            };
            read.map_err(parts.damaged(block))?;
        }
        Ok(())
    }
}

fn read_metadata(parts: &Parts<'_>, blocks: &mut Blocks) -> Result<MetadataColumns, Error> {
    blocks.load(parts, &[Block::Metadata])?;
    let block = blocks.raw(Block::Metadata);
    MetadataColumns::read(block, parts.chunk.rows as usize, true)
        .map_err(parts.damaged(Block::Metadata))
}

/// A line filter, and how far what was read of a chunk reaches.
pub(super) struct Reach<'a> {
    pub(super) search: &'a Search,
    pub(super) refuted: &'a [u64],
    /// Whether all texts were read: else values decide all tests, and only those of values were.
    pub(super) has_text: bool,
}

/// Decides open templates and rows whose variables in this chunk lack a text that they need, opening
/// only the blocks of text that could hold it.
pub(super) fn look_into_variables(
    verdicts: &mut [Verdict],
    reach: &Reach<'_>,
    open: &mut OpenChunk<'_>,
    hits: &mut ValueHits,
) -> Result<(), Error> {
    if reach.has_text {
        for required in reach.search.required() {
            look_for(&required, verdicts, open, hits)?;
        }
    }
    Ok(())
}

fn look_for(
    required: &Required<'_>,
    verdicts: &mut [Verdict],
    open: &mut OpenChunk<'_>,
    hits: &mut ValueHits,
) -> Result<(), Error> {
    let OpenChunk {
        parts,
        blocks,
        index,
        known,
        ..
    } = open;
    let templates = &parts.chunk.templates;
    let decidable = |local: usize, verdict: Verdict| {
        verdict == Verdict::Maybe && required.decides(templates[local])
    };
    if !(0..verdicts.len()).any(|local| decidable(local, verdicts[local])) {
        return Ok(());
    }
    let starts = parts.chunk.text_starts();
    let mut places = Vec::new();
    // Lines stored whole are in the first class.
    for (class, block) in TEXTS.into_iter().enumerate().take(required.class + 1) {
        blocks.load(parts, &[block])?;
        let text = &blocks.text[starts[class]..starts[class + 1]];
        let mut from = 0;
        // Overlapping finds too: one that straddles two values must not hide the next.
        while let Some(at) = required.finder.find(&text[from..])
            && places.len() < HITS_MAX
        {
            places.push(starts[class] + from + at);
            from += at + 1;
        }
    }
    if places.len() >= HITS_MAX {
        return Ok(());
    }
    if !places.is_empty() {
        known.read_up_to(Block::Lengths, parts, blocks, index)?;
    }
    for local in 0..verdicts.len() {
        if !decidable(local, verdicts[local]) {
            continue;
        }
        let columns = match places.is_empty() {
            true => 0..0,
            false => 0..index.columns(local).len(),
        };
        let mut holders = Vec::new();
        for at in columns {
            let column = &index.columns(local)[at];
            let values = index.values_at(column, &places).filter(|(value, place)| {
                required.is_held(templates[local], index.place(column, *value), *place)
            });
            holders.extend(values.map(|(value, _)| (at, value)));
        }
        if holders.is_empty() {
            verdicts[local] = Verdict::No;
            continue;
        }
        known.read_up_to(Block::Indices, parts, blocks, index)?;
        hits.hold(local, index, blocks.raw(Block::Indices), &holders);
    }
    Ok(())
}

/// Makes the tests that values decide, as far as templates are open to them; gives the verdicts
/// that follow for whole templates, and for the rows of others in `hits`.
pub(super) fn look_into_values(
    verdicts: &mut [Verdict],
    reach: &Reach<'_>,
    open: &mut OpenChunk<'_>,
    hits: &mut ValueHits,
) -> Result<(), Error> {
    let Reach {
        search,
        refuted,
        has_text,
    } = *reach;
    let OpenChunk {
        parts,
        blocks,
        index,
        known,
        ..
    } = open;
    let templates = &parts.chunk.templates;
    let starts = parts.chunk.text_starts();
    for test in search.of_values() {
        let mut templates_left = verdicts.iter().zip(templates);
        let is_open = |(verdict, template): (&Verdict, &u32)| {
            *verdict == Verdict::Maybe && test.is_open(*template, refuted)
        };
        if !templates_left.any(is_open) {
            continue;
        }
        blocks.load(parts, &TEXTS[..=test.class])?;
        let is_found = |class: usize| {
            let found = test.find(&blocks.text[..starts[class + 1]], starts[class]);
            found.is_some()
        };
        if !(0..=test.class).any(is_found) {
            hits.decided |= test.bit;
            continue;
        }
        known.read_up_to(Block::Indices, parts, blocks, index)?;
        let values = Values {
            index,
            templates,
            text: &blocks.text,
            starts,
            indices: blocks.raw(Block::Indices),
        };
        let most = match has_text {
            true => index.locals.len() / 4 + 64,
            false => usize::MAX,
        };
        hits.look(&test, &values, verdicts, refuted, most);
    }
    for (local, verdict) in verdicts.iter_mut().enumerate() {
        if *verdict == Verdict::Maybe && hits.masks(local).is_none() {
            *verdict = search.verdict_with(templates[local], refuted, hits.decided, 0);
        }
    }
    Ok(())
}
