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
    numbers: HashTable<Numbered>,
    hasher: DefaultHashBuilder,
}

/// A number, and what tells whose it is with hardly an error: so that a table of them can be searched
/// without a look at the streams.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    part: u32,
    number: u32,
}

/// Streams that are looked up at once: with many of them the tables are far away, and the core waits for
/// so many lookups together.
const AHEAD: usize = 32;

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

    /// The number of each stream, the next one for one that is not known.
    pub(super) fn numbers(&mut self, streams: &[StreamRows]) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(streams.len());
        for some in streams.chunks(AHEAD) {
            let mut guesses = [None; AHEAD];
            for (guess, stream) in guesses.iter_mut().zip(some) {
                *guess = self.guess(stream.id);
            }
            for (guess, stream) in guesses.iter().zip(some) {
                let known = guess.filter(|number| is_named(&self.streams, *number, stream));
                numbers.push(known.unwrap_or_else(|| self.number(stream)));
            }
        }
        numbers
    }

    /// The number that the stream has if it is known, as a rule.
    fn guess(&self, id: StreamId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        let found = self.numbers.find(hash, |at| at.part == part_of(id))?;
        Some(found.number)
    }

    fn number(&mut self, stream: &StreamRows) -> u32 {
        let next = self.streams.len() as u32;
        let named = Numbered {
            part: part_of(stream.id),
            number: next,
        };
        let (streams, hasher) = (&self.streams, &self.hasher);
        let id_of = |at: &Numbered| streams[at.number as usize].0;
        let found = self.numbers.entry(
            hasher.hash_one(stream.id),
            |at| id_of(at) == stream.id,
            |at| hasher.hash_one(id_of(at)),
        );
        match found {
            Entry::Occupied(mut known) => {
                let number = known.get().number;
                if is_named(streams, number, stream) {
                    return number;
                }
                *known.get_mut() = named;
            }
            Entry::Vacant(place) => {
                place.insert(named);
            }
        }
        self.streams.push((stream.id, Arc::clone(&stream.labels)));
        next
    }
}

/// Ids are hashes, of which any part tells them apart nearly always.
fn part_of(id: StreamId) -> u32 {
    id.0 as u32
}

/// Whether the number says what the stream is. An id that was given explicitly may come with other labels.
fn is_named(streams: &[(StreamId, Arc<Labels>)], number: u32, stream: &StreamRows) -> bool {
    let (id, labels) = &streams[number as usize];
    *id == stream.id && (Arc::ptr_eq(labels, &stream.labels) || *labels == stream.labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u128, value: &str) -> StreamRows {
        StreamRows {
            id: StreamId(id),
            labels: Arc::new(Labels::new([("a", value)]).unwrap()),
            rows: 0..1,
        }
    }

    #[test]
    fn streams_whose_ids_are_alike_in_part_have_their_own_numbers() {
        let streams: Vec<StreamRows> = (0..5000).map(|n| stream(n << 32, "1")).collect();
        let mut named = NamedStreams::default();
        let (some, all): (Vec<u32>, Vec<u32>) = ((0..3000).collect(), (0..5000).collect());
        assert_eq!(named.numbers(&streams[..3000]), some);
        assert_eq!(named.numbers(&streams), all);
        assert_eq!(named.numbers(&streams), all);
        let backwards: Vec<StreamRows> = streams.iter().rev().cloned().collect();
        assert!(named.numbers(&backwards).into_iter().eq((0..5000).rev()));
    }

    #[test]
    fn an_id_with_other_labels_has_another_number() {
        let mut named = NamedStreams::default();
        assert_eq!(named.numbers(&[stream(1, "x"), stream(2, "x")]), [0, 1]);
        assert_eq!(named.numbers(&[stream(1, "y"), stream(2, "x")]), [2, 1]);
        assert_eq!(named.numbers(&[stream(1, "y")]), [2]);
    }
}
