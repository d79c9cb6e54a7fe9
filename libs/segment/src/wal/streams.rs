use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use model::{Labels, StreamId, StreamRows};

/// The streams that records of one file name by number. A stream stands in full where it first occurs
/// and takes the next number; that is how labels come to be written once per file.
///
/// What it says must be what the file says: [`clear`](Self::clear) it when another file is begun, and
/// when a record that was made with it did not reach the file. The next record then begins anew,
/// which is sound in any place.
#[derive(Debug, Default)]
pub struct NamedStreams {
    /// By number.
    streams: Vec<(StreamId, Arc<Labels>)>,
    /// By id; numbers alone, so that the table is small and stays near.
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl NamedStreams {
    /// With this many streams numbering begins anew: bounds what a file's names hold in memory to about
    /// 4 MB beside the labels.
    const STREAMS_MAX: usize = 1 << 16;

    /// Forgets all streams.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.streams.clear();
    }

    /// Makes room for the streams of one record; how many are known before it.
    pub(super) fn begin_record(&mut self, streams: usize) -> u32 {
        if self.streams.len() + streams > Self::STREAMS_MAX {
            self.clear();
        }
        self.streams.len() as u32
    }

    /// The stream's number, the next one if it is not known.
    pub(super) fn number(&mut self, stream: &StreamRows) -> u32 {
        let (next, streams) = (self.streams.len() as u32, &mut self.streams);
        let found = self.numbers.entry(
            self.hasher.hash_one(stream.id),
            |number| streams[*number as usize].0 == stream.id,
            |number| self.hasher.hash_one(streams[*number as usize].0),
        );
        match found {
            Entry::Occupied(mut known) => {
                // The same labels as a rule; an id that was given explicitly may come with others.
                let labels = &streams[*known.get() as usize].1;
                if Arc::ptr_eq(labels, &stream.labels) || *labels == stream.labels {
                    return *known.get();
                }
                *known.get_mut() = next;
            }
            Entry::Vacant(place) => {
                place.insert(next);
            }
        }
        streams.push((stream.id, Arc::clone(&stream.labels)));
        next
    }
}
