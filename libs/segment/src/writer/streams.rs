//! The table of streams in the footer, made as the streams come: then their labels are near.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use model::{Labels, Signal, StreamId, TenantId};

use crate::wire::{put_bytes, put_varint};

/// Streams as the footer lists them, and the names and values of their labels, each once.
#[derive(Default)]
pub(crate) struct StreamTable {
    len: u32,
    /// What the footer says of each.
    streams: Vec<u8>,
    /// The tenant of the last one.
    tenant: u32,
    /// Its labels, and the numbers of their words.
    labels: Option<Arc<Labels>>,
    numbers: Vec<u32>,
    words: Words,
}

/// Texts by number.
#[derive(Default)]
struct Words {
    text: Vec<u8>,
    /// End of each in `text`.
    ends: Vec<usize>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl StreamTable {
    /// How many streams.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Adds a stream; `number` is that of the tenant. As streams come in order of their labels, most words are
    /// those of the stream before.
    pub(crate) fn push(
        &mut self,
        tenant: &TenantId,
        number: u32,
        id: StreamId,
        labels: Arc<Labels>,
    ) {
        let explicit = StreamId::of(tenant, Signal::Logs, &labels) != id;
        let out = &mut self.streams;
        put_varint(out, u64::from(number - self.tenant));
        self.tenant = number;
        put_varint(out, (labels.len() as u64) << 1 | u64::from(explicit));
        let before = self.labels.take();
        let mut before = before.iter().flat_map(|labels| words_of(labels));
        self.numbers.resize(labels.len() * 2, 0);
        for (word, number) in words_of(&labels).zip(&mut self.numbers) {
            if before.next() != Some(word) {
                *number = self.words.number(word);
            }
            put_varint(out, u64::from(*number));
        }
        if explicit {
            out.extend_from_slice(&id.0.to_le_bytes());
        }
        self.labels = Some(labels);
        self.len += 1;
    }

    /// Appends words and streams as they stand in the footer.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.words.ends.len() as u64);
        for number in 0..self.words.ends.len() {
            put_bytes(out, self.words.word(number));
        }
        put_varint(out, u64::from(self.len));
        out.extend_from_slice(&self.streams);
    }
}

/// Name, value, name, value, ...
fn words_of(labels: &Labels) -> impl Iterator<Item = &str> {
    labels.iter().flat_map(|(name, value)| [name, value])
}

impl Words {
    fn word(&self, number: usize) -> &[u8] {
        word(&self.text, &self.ends, number)
    }

    /// The word's number, the next one for one that is new.
    fn number(&mut self, wanted: &str) -> u32 {
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        let wanted = wanted.as_bytes();
        let found = self.table.entry(
            hasher.hash_one(wanted),
            |number| word(text, ends, *number as usize) == wanted,
            |number| hasher.hash_one(word(text, ends, *number as usize)),
        );
        let next = ends.len() as u32;
        let number = *found.or_insert(next).get();
        if number == next {
            self.text.extend_from_slice(wanted);
            self.ends.push(self.text.len());
        }
        number
    }
}

fn word<'a>(text: &'a [u8], ends: &[usize], number: usize) -> &'a [u8] {
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    &text[start..ends[number]]
}
