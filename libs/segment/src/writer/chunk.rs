//! One chunk being built: rows come in order, columns go out.

use model::Timestamp;

use crate::filter::{Filter, FilterBuilder};
use crate::footer::{BlockPlace, ChunkEntry, SpanEntry};
use crate::format::{BLOCKS, Block, CHUNK_ROWS_MAX, CHUNK_VARIABLES_MAX, TEXTS};
use crate::metadata::MetadataBuilder;
use crate::template::RAW;
use crate::writer::blocks::BlockWriter;
use crate::writer::columns::VariableColumns;
use crate::writer::dictionary::Dictionary;
use crate::writer::distinct::Value;
use crate::writer::split::{PaddedText, Split, Token, tokens};
use crate::{EncodeOptions, Error};

/// Columns of the rows taken so far, in order of arrival.
#[derive(Debug)]
pub(crate) struct ChunkBuilder {
    chunk_bytes: usize,
    timestamps: Vec<Timestamp>,
    /// Which of `templates` each row has.
    locals: Vec<u16>,
    /// The templates, in order of appearance.
    templates: Vec<RowsOfTemplate>,
    /// Place in `templates` of each template of the dictionary, [`NONE`] where it does not occur.
    places: Vec<u16>,
    /// How many variables there are.
    variables: usize,
    /// Values that are long.
    text: Vec<u8>,
    metadata: MetadataBuilder,
    spans: Vec<SpanEntry>,
    weight: usize,
    filter: FilterBuilder,
    line: PaddedText,
    split: Split,
    columns: VariableColumns,
    /// Buffers of `seal`: a block; a column; values of templates of chunks before.
    block: Vec<u8>,
    column: Vec<Value>,
    spare: Vec<Vec<Value>>,
}

/// Templates are at most [`TEMPLATES_MAX`](crate::format::TEMPLATES_MAX), so this is none.
const NONE: u16 = u16::MAX;
/// Most values for which buffers are kept from one chunk to the next: 4 MiB.
const SPARE_MAX: usize = 1 << 18;

/// The rows that have one template.
#[derive(Debug)]
struct RowsOfTemplate {
    /// Its number in the dictionary.
    template: u32,
    /// The variables of each row, one row behind the other.
    values: Vec<Value>,
}

impl ChunkBuilder {
    pub(crate) fn new(options: &EncodeOptions) -> Self {
        let chunk_bytes = options.chunk_bytes.clamp(1 << 10, 1 << 26);
        ChunkBuilder {
            chunk_bytes,
            timestamps: Vec::new(),
            locals: Vec::new(),
            templates: Vec::new(),
            places: Vec::new(),
            variables: 0,
            text: Vec::new(),
            metadata: MetadataBuilder::default(),
            spans: Vec::new(),
            weight: 0,
            filter: FilterBuilder::new(chunk_bytes),
            line: PaddedText::default(),
            split: Split::default(),
            columns: VariableColumns::default(),
            block: Vec::new(),
            column: Vec::new(),
            spare: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.weight >= self.chunk_bytes
            || self.timestamps.len() >= CHUNK_ROWS_MAX
            || self.variables >= CHUNK_VARIABLES_MAX
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
        self.line.set(line);
        let padded = self.line.bytes();
        let template = dictionary.number(&mut self.split, padded, line.len());
        let local = self.local(template);
        self.locals.push(local);
        let values = &mut self.templates[usize::from(local)].values;
        if template == RAW {
            self.variables += 1;
            values.push(self.columns.keep_whole(line));
            self.index_raw(dictionary, line.len());
        } else {
            let padded = self.line.bytes();
            let places = self.split.variables.iter();
            self.variables += places.len();
            values.extend(places.map(|(from, to)| Value::new(padded, *from, *to, &mut self.text)));
        }
        self.weight += content + 8;
        self.span(stream, timestamp, content);
    }

    /// The place of a template among those of the chunk.
    #[inline]
    fn local(&mut self, template: u32) -> u16 {
        match self.places.get(template as usize) {
            Some(place) if *place != NONE => *place,
            _ => self.add_template(template),
        }
    }

    fn add_template(&mut self, template: u32) -> u16 {
        let place = self.templates.len() as u16;
        if self.places.len() <= template as usize {
            self.places.resize(template as usize + 1, NONE);
        }
        self.places[template as usize] = place;
        self.templates.push(RowsOfTemplate {
            template,
            values: self.spare.pop().unwrap_or_default(),
        });
        place
    }

    /// Puts the tokens of the line, which is stored whole, into the filter.
    fn index_raw(&mut self, dictionary: &mut Dictionary, length: usize) {
        let padded = self.line.bytes();
        let longest = &mut dictionary.raw_token_longest;
        let mut take = |filter: &mut FilterBuilder, token: Token| {
            if token.has_digit() {
                let (start, end) = token.place();
                *longest = (*longest).max(end - start);
                filter.insert_token(&padded[start as usize..end as usize]);
            }
        };
        match self.split.all_tokens() {
            Some(found) => found
                .iter()
                .for_each(|token| take(&mut self.filter, *token)),
            None => tokens(padded, length, &mut self.filter, take, |_| true),
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
        let mut blocks = [BlockPlace::default(); BLOCKS.len()];
        let templates = self.put_templates();
        blocks[Block::Templates as usize] = writer.write(&self.block)?;
        blocks[Block::Timestamps as usize] = writer.write_timestamps(&self.timestamps)?;
        self.put_variables(dictionary);
        let variables = &self.columns;
        blocks[Block::Lengths as usize] = writer.write(&variables.lengths)?;
        self.block.clear();
        variables.put_indices(&mut self.block);
        blocks[Block::Indices as usize] = writer.write(&self.block)?;
        for (block, text) in TEXTS.iter().zip(&variables.texts) {
            let whole = variables.whole_bytes > text.len() / 4;
            blocks[*block as usize] = match block {
                Block::Words => writer.write_text(text, whole)?,
                _ => writer.write_digits(text)?,
            };
        }
        self.block.clear();
        self.metadata.seal(self.timestamps.len(), &mut self.block);
        blocks[Block::Metadata as usize] = writer.write(&self.block)?;
        let entry = ChunkEntry {
            offset,
            blocks,
            rows: self.timestamps.len() as u32,
            spans: std::mem::take(&mut self.spans).into(),
            templates,
        };
        let filter = self.filter.seal(entry.stored_bytes() as usize);
        self.clear();
        Ok((entry, filter))
    }

    fn clear(&mut self) {
        self.timestamps.clear();
        self.locals.clear();
        self.places.fill(NONE);
        self.variables = 0;
        self.text.clear();
        self.columns.clear();
        self.weight = 0;
        self.spare.clear();
        let mut kept = 0;
        for RowsOfTemplate { mut values, .. } in self.templates.drain(..) {
            kept += values.capacity();
            if kept <= SPARE_MAX {
                values.clear();
                self.spare.push(values);
            }
        }
        // Those that come first are the most frequent as a rule.
        self.spare.reverse();
    }

    /// Sorts the templates by number and puts into the block the place of each row's template among
    /// them: one byte, or low bytes and then high bytes; nothing when the chunk has only one. Gives
    /// the numbers.
    fn put_templates(&mut self) -> Box<[u32]> {
        let rows = self.templates.iter().enumerate();
        let mut order: Vec<(u32, usize)> = rows.map(|(at, of)| (of.template, at)).collect();
        order.sort_unstable();
        let mut ranks = vec![0; order.len()];
        for (rank, (_, at)) in order.iter().enumerate() {
            ranks[*at] = rank as u16;
        }
        self.block.clear();
        let ranks_of_rows = self.locals.iter().map(|local| ranks[usize::from(*local)]);
        if order.len() > 1 {
            self.block
                .extend(ranks_of_rows.clone().map(|rank| rank as u8));
        }
        if order.len() > 256 {
            self.block
                .extend(ranks_of_rows.map(|rank| (rank >> 8) as u8));
        }
        order.iter().map(|(template, _)| *template).collect()
    }

    /// All variables: by template, then slot, then row.
    fn put_variables(&mut self, dictionary: &mut Dictionary) {
        self.templates.sort_unstable_by_key(|of| of.template);
        for RowsOfTemplate { template, values } in &self.templates {
            if *template == RAW {
                self.columns.push_whole(values);
                continue;
            }
            let slots = dictionary.slots(*template).len();
            for slot in 0..slots {
                self.column.clear();
                let rows = values.chunks_exact(slots);
                self.column.extend(rows.map(|row| row[slot]));
                let stamp = self
                    .columns
                    .push(&self.text, &self.column, &mut self.filter);
                dictionary.stamp(*template, slot, stamp);
            }
        }
    }
}
