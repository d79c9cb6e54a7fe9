//! What is read of a chunk, and in which order: each step may spare the next.

use crate::Error;
use crate::decode::blocks::{Blocks, Parts};
use crate::decode::lines::LineIndex;
use crate::decode::values::{ValueHits, Values};
use crate::format::{Block, TEXTS};
use crate::metadata::MetadataColumns;
use crate::search::{Search, Verdict};

/// With more hits than this in a chunk, each open line is looked at instead.
const HITS_MAX: usize = 4096;

/// What has been read of the line index of the chunk at hand.
#[derive(Default)]
pub(super) struct Known {
    templates: bool,
    variables: bool,
}

/// What is to be read once the verdicts stand.
pub(super) struct Needed {
    pub(super) templates: bool,
    pub(super) variables: bool,
    pub(super) text: bool,
    pub(super) metadata: bool,
}

impl Known {
    pub(super) fn load(
        &mut self,
        needed: &Needed,
        parts: &Parts<'_>,
        blocks: &mut Blocks,
        index: &mut LineIndex,
    ) -> Result<Option<MetadataColumns>, Error> {
        if needed.templates {
            self.templates(parts, blocks, index)?;
        }
        if needed.variables {
            self.variables(parts, blocks, index)?;
        }
        if needed.text {
            blocks.load(parts, &TEXTS)?;
        }
        match needed.metadata {
            true => read_metadata(parts, blocks),
            false => Ok(None),
        }
    }

    fn templates(
        &mut self,
        parts: &Parts<'_>,
        blocks: &mut Blocks,
        index: &mut LineIndex,
    ) -> Result<(), Error> {
        if std::mem::replace(&mut self.templates, true) {
            return Ok(());
        }
        blocks.load(parts, &[Block::Templates])?;
        index
            .read_templates(blocks.raw(Block::Templates), parts.chunk)
            .map_err(parts.damaged(Block::Templates))
    }

    fn variables(
        &mut self,
        parts: &Parts<'_>,
        blocks: &mut Blocks,
        index: &mut LineIndex,
    ) -> Result<(), Error> {
        self.templates(parts, blocks, index)?;
        if std::mem::replace(&mut self.variables, true) {
            return Ok(());
        }
        blocks.load(parts, &[Block::Lengths, Block::Indices])?;
        let (lengths, indices) = (blocks.raw(Block::Lengths), blocks.raw(Block::Indices));
        let templates = &parts.segment.footer().templates;
        index
            .read_variables(lengths, indices, parts.chunk, templates)
            .map_err(parts.damaged(Block::Lengths))
    }
}

fn read_metadata(parts: &Parts<'_>, blocks: &mut Blocks) -> Result<Option<MetadataColumns>, Error> {
    blocks.load(parts, &[Block::Metadata])?;
    let block = blocks.raw(Block::Metadata);
    let columns = MetadataColumns::read(block, parts.chunk.rows as usize, true)
        .map_err(parts.damaged(Block::Metadata))?;
    Ok((!columns.is_empty()).then_some(columns))
}

/// Decides open templates whose variables in this chunk lack a text that they need, opening only
/// the blocks of text that could hold it.
pub(super) fn look_into_variables(
    verdicts: &mut [Verdict],
    search: &Search,
    parts: &Parts<'_>,
    blocks: &mut Blocks,
    index: &mut LineIndex,
    known: &mut Known,
) -> Result<(), Error> {
    let Some(required) = search.required() else {
        return Ok(());
    };
    let templates = &parts.chunk.templates;
    let decidable = |local: usize, verdict: Verdict| {
        verdict == Verdict::Maybe && required.decides(templates[local])
    };
    if !(0..verdicts.len()).any(|local| decidable(local, verdicts[local])) {
        return Ok(());
    }
    let starts = parts.chunk.text_starts();
    let mut hits = Vec::new();
    for (class, block) in TEXTS.into_iter().enumerate() {
        // Lines stored whole are in the first class.
        if class > required.class {
            continue;
        }
        blocks.load(parts, &[block])?;
        let text = blocks.text.get(starts[class]..starts[class + 1]);
        let text = text.unwrap_or_default();
        let mut from = 0;
        // Overlapping finds too: one that straddles two values must not hide the next.
        while let Some(at) = required.finder.find(&text[from..])
            && hits.len() < HITS_MAX
        {
            hits.push(starts[class] + from + at);
            from += at + 1;
        }
    }
    if hits.len() >= HITS_MAX {
        return Ok(());
    }
    let mut hit = vec![false; verdicts.len()];
    if !hits.is_empty() {
        known.variables(parts, blocks, index)?;
        index.owners(&hits, |local| hit[local] = true);
    }
    for local in 0..verdicts.len() {
        if !hit[local] && decidable(local, verdicts[local]) {
            verdicts[local] = Verdict::No;
        }
    }
    Ok(())
}

/// Makes the tests that values decide, as far as templates are open to them; gives the verdicts
/// that follow for whole templates, and for the rows of others in `hits`.
pub(super) fn look_into_values(
    verdicts: &mut [Verdict],
    (search, refuted): (&Search, &[u64]),
    parts: &Parts<'_>,
    blocks: &mut Blocks,
    index: &mut LineIndex,
    known: &mut Known,
    hits: &mut ValueHits,
) -> Result<(), Error> {
    let templates = &parts.chunk.templates;
    let starts = parts.chunk.text_starts();
    hits.begin(verdicts.len());
    for test in search.of_values() {
        let mut open = verdicts.iter().zip(templates);
        let is_open = |(verdict, template): (&Verdict, &u32)| {
            *verdict == Verdict::Maybe && test.is_open(*template, refuted)
        };
        if !open.any(is_open) {
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
        known.variables(parts, blocks, index)?;
        let values = Values {
            index,
            templates,
            text: &blocks.text,
            starts,
            indices: blocks.raw(Block::Indices),
        };
        hits.look(&test, &values, verdicts, refuted);
    }
    for (local, verdict) in verdicts.iter_mut().enumerate() {
        if *verdict == Verdict::Maybe && hits.masks(local).is_none() {
            *verdict = search.verdict_with(templates[local], refuted, hits.decided, 0);
        }
    }
    Ok(())
}
