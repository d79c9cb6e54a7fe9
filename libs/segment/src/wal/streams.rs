use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Labels, StreamId, StreamRows};

/// The streams that records of one file name by number. A stream stands in full where it first occurs
/// and takes the next number; that is how labels come to be written once per file.
///
/// What it says must be what the file says: [`clear`](Self::clear) it when another file is begun, and
/// when a record that was made with it did not reach the file. The next record then begins anew,
/// which is sound in any place.
#[derive(Debug, Default)]
pub struct NamedStreams {
    numbers: HashMap<StreamId, (u32, Arc<Labels>)>,
    count: u32,
}

impl NamedStreams {
    /// With this many streams numbering begins anew: bounds what a file's names hold in memory to about
    /// 4 MB beside the labels.
    const STREAMS_MAX: usize = 1 << 16;

    /// Forgets all streams.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.count = 0;
    }

    /// Makes room for the streams of one record; how many are known before it.
    pub(super) fn begin_record(&mut self, streams: usize) -> u32 {
        if self.count as usize + streams > Self::STREAMS_MAX {
            self.clear();
        }
        self.count
    }

    /// The stream's number, the next one if it is not known.
    pub(super) fn number(&mut self, stream: &StreamRows) -> u32 {
        let next = self.count;
        match self.numbers.entry(stream.id) {
            // The same labels as a rule; an id that was given explicitly may come with others.
            Entry::Occupied(known)
                if Arc::ptr_eq(&known.get().1, &stream.labels)
                    || known.get().1 == stream.labels =>
            {
                return known.get().0;
            }
            Entry::Occupied(mut known) => {
                known.insert((next, Arc::clone(&stream.labels)));
            }
            Entry::Vacant(place) => {
                place.insert((next, Arc::clone(&stream.labels)));
            }
        }
        self.count += 1;
        next
    }
}
