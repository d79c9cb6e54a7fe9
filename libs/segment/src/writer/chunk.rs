//! One chunk being built: rows come in order, columns go out.

use model::Timestamp;

use crate::filter::{Filter, FilterBuilder};
use crate::footer::{BlockPlace, ChunkEntry, SpanEntry};
use crate::format::{BLOCKS, Block, CHUNK_ROWS_MAX, CHUNK_VARIABLES_MAX, TEXTS};
use crate::metadata::MetadataBuilder;
use crate::template::{RAW, Split, has_digit};
use crate::writer::blocks::BlockWriter;
use crate::writer::columns::VariableColumns;
use crate::writer::dictionary::Dictionary;
use crate::{EncodeOptions, Error};

/// Columns of the rows taken so far, in order of arrival.
#[derive(Debug)]
pub(crate) struct ChunkBuilder {
    chunk_bytes: usize,
    timestamps: Vec<Timestamp>,
    templates: Vec<u32>,
    /// The first variable of each row.
    variable_starts: Vec<u32>,
    /// End of each variable in `text`.
    variable_ends: Vec<u32>,
    text: Vec<u8>,
    metadata: MetadataBuilder,
    spans: Vec<SpanEntry>,
    weight: usize,
    filter: FilterBuilder,
    split: Split,
    columns: Columns,
}

/// Buffers of `seal`, kept for the next chunk.
#[derive(Debug, Default)]
struct Columns {
    /// Local number of each global template, `u32::MAX` where the chunk has none.
    local: Vec<u32>,
    /// Global numbers of the chunk's templates, ascending.
    used: Vec<u32>,
    /// End of each template's rows in `order`.
    order_ends: Vec<u32>,
    /// Rows by template.
    order: Vec<u32>,
    block: Vec<u8>,
    /// Place in the text of each value of the column at hand.
    places: Vec<(u32, u32)>,
    variables: VariableColumns,
}

impl ChunkBuilder {
    pub(crate) fn new(options: &EncodeOptions) -> Self {
        let chunk_bytes = options.chunk_bytes.clamp(1 << 10, 1 << 26);
        ChunkBuilder {
            chunk_bytes,
            timestamps: Vec::new(),
            templates: Vec::new(),
            variable_starts: Vec::new(),
            variable_ends: Vec::new(),
            text: Vec::new(),
            metadata: MetadataBuilder::default(),
            spans: Vec::new(),
            weight: 0,
            filter: FilterBuilder::new(chunk_bytes),
            split: Split::default(),
            columns: Columns::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.weight >= self.chunk_bytes
            || self.timestamps.len() >= CHUNK_ROWS_MAX
            || self.variable_ends.len() >= CHUNK_VARIABLES_MAX
    }

    /// Adds a row of the stream with this number; rows come in order of stream and time.
    pub(crate) fn push(
        &mut self,
        dictionary: &mut Dictionary,
        stream: u32,
        timestamp: Timestamp,
        line: &[u8],
        metadata: &[(&str, &[u8])],
    ) {
        let row = self.timestamps.len() as u32;
        let mut content = line.len();
        for (key, value) in metadata {
            self.metadata.push(row, key, value);
            content += value.len();
            self.weight += key.len();
        }
        self.timestamps.push(timestamp);
        self.variable_starts.push(self.variable_ends.len() as u32);
        let template = dictionary.number(&mut self.split, line);
        self.templates.push(template);
        if template == RAW {
            self.text.extend_from_slice(line);
            self.variable_ends.push(self.text.len() as u32);
            self.index_raw(dictionary, line);
        } else {
            for (start, end) in &self.split.variables {
                self.text
                    .extend_from_slice(&line[*start as usize..*end as usize]);
                self.variable_ends.push(self.text.len() as u32);
            }
        }
        self.weight += content + 8;
        self.span(stream, timestamp, content);
    }

    fn index_raw(&mut self, dictionary: &mut Dictionary, line: &[u8]) {
        let tokens = line.split(|byte| !crate::template::is_token(*byte));
        for token in tokens.filter(|token| has_digit(token)) {
            let longest = &mut dictionary.raw_token_longest;
            *longest = (*longest).max(token.len() as u32);
            self.filter.insert_token(token);
        }
    }

    fn span(&mut self, stream: u32, timestamp: Timestamp, content: usize) {
        match self.spans.last_mut() {
            Some(span) if span.stream == stream => {
                span.rows += 1;
                span.content_bytes += content as u64;
                span.last = timestamp;
            }
            _ => self.spans.push(SpanEntry {
                stream,
                rows: 1,
                content_bytes: content as u64,
                first: timestamp,
                last: timestamp,
            }),
        }
    }

    /// Writes the blocks and empties the builder. The filter goes to the caller.
    pub(crate) fn seal(
        &mut self,
        dictionary: &mut Dictionary,
        writer: &mut BlockWriter<'_>,
    ) -> Result<(ChunkEntry, Filter), Error> {
        let offset = writer.position();
        self.group(dictionary.len());
        let mut blocks = [BlockPlace::default(); BLOCKS.len()];
        self.columns.block.clear();
        self.put_templates();
        blocks[Block::Templates as usize] = writer.write(&self.columns.block)?;
        blocks[Block::Timestamps as usize] = writer.write_timestamps(&self.timestamps)?;
        self.put_variables(dictionary);
        let variables = &self.columns.variables;
        blocks[Block::Lengths as usize] = writer.write(&variables.lengths)?;
        self.columns.block.clear();
        variables.put_indices(&mut self.columns.block);
        blocks[Block::Indices as usize] = writer.write(&self.columns.block)?;
        for (block, text) in TEXTS.iter().zip(&variables.texts) {
            let whole = *block == Block::Words && variables.whole_bytes > text.len() / 4;
            blocks[*block as usize] = writer.write_text(text, whole)?;
        }
        self.columns.block.clear();
        self.metadata
            .seal(self.timestamps.len(), &mut self.columns.block);
        blocks[Block::Metadata as usize] = writer.write(&self.columns.block)?;
        let entry = ChunkEntry {
            offset,
            blocks,
            rows: self.timestamps.len() as u32,
            spans: std::mem::take(&mut self.spans).into(),
            templates: self.columns.used.as_slice().into(),
        };
        let filter = self.filter.seal(entry.stored_bytes() as usize);
        self.timestamps.clear();
        self.templates.clear();
        self.variable_starts.clear();
        self.variable_ends.clear();
        self.text.clear();
        self.weight = 0;
        Ok((entry, filter))
    }

    /// Sorts the rows by template (counting sort: rows of one template stay in order).
    fn group(&mut self, templates: usize) {
        let columns = &mut self.columns;
        columns.local.clear();
        columns.local.resize(templates, u32::MAX);
        columns.used.clear();
        for template in &self.templates {
            let local = &mut columns.local[*template as usize];
            if *local == u32::MAX {
                *local = 0;
                columns.used.push(*template);
            }
        }
        columns.used.sort_unstable();
        for (local, template) in columns.used.iter().enumerate() {
            columns.local[*template as usize] = local as u32;
        }
        let ends = &mut columns.order_ends;
        ends.clear();
        ends.resize(columns.used.len() + 1, 0);
        for template in &self.templates {
            ends[columns.local[*template as usize] as usize + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        columns.order.clear();
        columns.order.resize(self.templates.len(), 0);
        for (row, template) in self.templates.iter().enumerate() {
            let next = &mut ends[columns.local[*template as usize] as usize];
            columns.order[*next as usize] = row as u32;
            *next += 1;
        }
    }

    /// Local template number of each row: one byte, or low bytes and then high bytes; nothing
    /// when the chunk has only one template.
    fn put_templates(&mut self) {
        let columns = &mut self.columns;
        let used = columns.used.len();
        let local = |template: &u32| columns.local[*template as usize];
        if used > 1 {
            let low = self.templates.iter().map(|t| local(t) as u8);
            columns.block.extend(low);
        }
        if used > 256 {
            let high = self.templates.iter().map(|t| (local(t) >> 8) as u8);
            columns.block.extend(high);
        }
    }

    /// All variables: by template, then slot, then row.
    fn put_variables(&mut self, dictionary: &mut Dictionary) {
        let columns = &mut self.columns;
        columns.variables.clear();
        let mut start = 0;
        for (at, template) in columns.used.iter().enumerate() {
            let end = columns.order_ends[at] as usize;
            let rows = &columns.order[start..end];
            start = end;
            for slot in 0..dictionary.slots(*template).len() {
                columns.places.clear();
                columns.places.extend(rows.iter().map(|row| {
                    let variable = self.variable_starts[*row as usize] as usize + slot;
                    let from = variable
                        .checked_sub(1)
                        .map_or(0, |before| self.variable_ends[before]);
                    (from, self.variable_ends[variable])
                }));
                if *template == RAW {
                    columns.variables.push_whole(&self.text, &columns.places);
                    continue;
                }
                let stamp = columns
                    .variables
                    .push(&self.text, &columns.places, &mut self.filter);
                dictionary.stamp(*template, slot, stamp);
            }
        }
    }
}
