use model::{Numbers, fetch};
use proto::STREAMS_AHEAD;

use crate::streams::Stream;

/// The streams that were named lately, by the hash of their labels as sent. Two generations: when the young one is
/// full, it becomes the old one, and what was old is gone. So it holds at most twice `weight_max`, and nothing is
/// kept per stream for the sake of forgetting.
pub(crate) struct KnownStreams {
    young: Generation,
    old: Generation,
    weight: usize,
    weight_max: usize,
}

#[derive(Default)]
struct Generation {
    numbers: Numbers,
    streams: Vec<(u128, Stream)>,
}

impl KnownStreams {
    /// A table of which each generation holds streams of `weight_max` together.
    pub(crate) fn new(weight_max: usize) -> Self {
        KnownStreams {
            young: Generation::default(),
            old: Generation::default(),
            weight: 0,
            weight_max,
        }
    }

    /// The stream, if it is still there. `weigh` says what a stream of the old generation weighs that becomes young
    /// again.
    pub(crate) fn get(
        &mut self,
        hash: u128,
        weigh: impl FnOnce(&Stream) -> usize,
    ) -> Option<Stream> {
        if let Some(stream) = self.young.get(hash) {
            return Some(stream.clone());
        }
        let stream = self.old.get(hash)?.clone();
        let weight = weigh(&stream);
        self.insert(hash, stream.clone(), weight);
        Some(stream)
    }

    /// Adds those under the hashes that are of the young generation to `found`, in their order; `None` for any
    /// other. Of at most [`STREAMS_AHEAD`] hashes. With many streams most of what is read here is far away, so each
    /// step is done for all of them before the next.
    pub(crate) fn get_young(&self, hashes: &[u128], found: &mut Vec<Option<Stream>>) {
        let young = &self.young;
        for hash in hashes {
            young.numbers.fetch(tag_of(*hash));
        }
        let mut guesses = [None; STREAMS_AHEAD];
        for (guess, hash) in guesses.iter_mut().zip(hashes) {
            *guess = young.numbers.guess(tag_of(*hash));
            if let Some(number) = *guess {
                let (hash, stream) = &young.streams[number as usize];
                // It may stand in two lines of the core's cache.
                fetch(hash);
                fetch(&stream.heat);
            }
        }
        let mut streams = [None; STREAMS_AHEAD];
        for ((stream, guess), hash) in streams.iter_mut().zip(guesses).zip(hashes) {
            let guessed = guess.map(|number| &young.streams[number as usize]);
            *stream = match guessed {
                Some((known, stream)) if known == hash => Some(stream),
                Some(_) => young.get(*hash),
                None => None,
            };
            if let Some(stream) = stream {
                fetch(&*stream.labels);
            }
        }
        let streams = &streams[..hashes.len().min(STREAMS_AHEAD)];
        found.extend(streams.iter().map(|stream| stream.cloned()));
    }

    /// A stream of the young generation that is replaced keeps its weight.
    pub(crate) fn insert(&mut self, hash: u128, stream: Stream, weight: usize) {
        if let Some(number) = self.young.number(hash) {
            self.young.streams[number].1 = stream;
            return;
        }
        if self.weight + weight > self.weight_max {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        let number = self.young.streams.len() as u32;
        self.young.numbers.insert(tag_of(hash), number);
        self.young.streams.push((hash, stream));
    }
}

impl Generation {
    fn number(&self, hash: u128) -> Option<usize> {
        let is_it = |number: u32| self.streams[number as usize].0 == hash;
        self.numbers
            .find(tag_of(hash), is_it)
            .map(|number| number as usize)
    }

    fn get(&self, hash: u128) -> Option<&Stream> {
        Some(&self.streams[self.number(hash)?].1)
    }
}

/// Any part of a hash is as good as another.
fn tag_of(hash: u128) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use model::{Labels, StreamId};

    fn stream(number: u128) -> Stream {
        Stream {
            id: StreamId(number),
            labels: Arc::new(Labels::default()),
            heat: None,
        }
    }

    fn id_of(stream: Option<Stream>) -> Option<u128> {
        stream.map(|stream| stream.id.0)
    }

    #[test]
    fn what_is_replaced_again_and_again_pushes_nothing_out() {
        let mut known = KnownStreams::new(10);
        known.insert(1, stream(1), 1);
        for n in 0..100 {
            known.insert(2, stream(n), 1);
        }
        assert_eq!(id_of(known.get(1, |_| 1)), Some(1));
        assert_eq!(id_of(known.get(2, |_| 1)), Some(99));
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut known = KnownStreams::new(10);
        known.insert(7, stream(7), 1);
        for n in 100..200 {
            known.insert(n, stream(n), 1);
            assert_eq!(id_of(known.get(7, |_| 1)), Some(7));
            assert!(known.young.streams.len() + known.old.streams.len() <= 20);
        }
        assert_eq!(id_of(known.get(100, |_| 1)), None);
        assert_eq!(id_of(known.get(199, |_| 1)), Some(199));
    }

    #[test]
    fn hashes_that_are_alike_in_part_are_told_apart() {
        let mut known = KnownStreams::new(1000);
        let hashes: Vec<u128> = (0..64).map(|n| n << 64).collect();
        for hash in hashes.iter().filter(|hash| (*hash >> 64) % 3 > 0) {
            known.insert(*hash, stream(hash >> 64), 1);
        }
        let mut found = Vec::new();
        known.get_young(&hashes, &mut found);
        let want = (0..64).map(|n| (n % 3 > 0).then_some(n));
        assert!(found.into_iter().map(id_of).eq(want));
    }
}
