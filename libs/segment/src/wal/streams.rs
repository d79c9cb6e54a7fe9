use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use model::{Labels, Numbers, StreamId, StreamRows, fetch};

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
    /// By id.
    numbers: Numbers,
    hasher: DefaultHashBuilder,
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
            let mut tags = [0; AHEAD];
            for (tag, stream) in tags.iter_mut().zip(some) {
                *tag = self.tag(stream.id);
                self.numbers.fetch(*tag);
            }
            let mut guesses = [None; AHEAD];
            for (guess, tag) in guesses.iter_mut().zip(&tags[..some.len()]) {
                *guess = self.numbers.guess(*tag);
                if let Some(number) = *guess {
                    fetch(&self.streams[number as usize]);
                }
            }
            for ((guess, tag), stream) in guesses.iter().zip(tags).zip(some) {
                let known = guess.filter(|number| is_named(&self.streams, *number, stream));
                numbers.push(known.unwrap_or_else(|| self.number(tag, stream)));
            }
        }
        numbers
    }

    /// Seeded, so that nobody can choose many streams that have the same.
    fn tag(&self, id: StreamId) -> u32 {
        (self.hasher.hash_one(id) >> 32) as u32
    }

    fn number(&mut self, tag: u32, stream: &StreamRows) -> u32 {
        let next = self.streams.len() as u32;
        let streams = &self.streams;
        let has_id = |number: u32| streams[number as usize].0 == stream.id;
        match self.numbers.find(tag, has_id) {
            Some(number) if is_named(streams, number, stream) => return number,
            Some(number) => self.numbers.replace(tag, number, next),
            None => self.numbers.insert(tag, next),
        }
        self.streams.push((stream.id, Arc::clone(&stream.labels)));
        next
    }
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
