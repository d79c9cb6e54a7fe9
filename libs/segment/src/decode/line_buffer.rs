//! Lines being put together, one behind the other.

/// Parts up to this length are copied as so many bytes, if there are as many behind their start.
const SHORT: usize = 16;
/// The same for longer ones.
const MIDDLE: usize = 64;
/// Room for a line of usual length.
const ROOM: usize = 512;

/// Text that grows by parts of which most are a few bytes long: what a `Vec` does for each of them
/// takes longer than to copy it.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    /// The text, and behind its end anything: room.
    bytes: Vec<u8>,
    end: usize,
}

impl LineBuffer {
    /// Goes on behind a text.
    pub(super) fn behind(mut text: Vec<u8>) -> Self {
        let end = text.len();
        text.resize(text.capacity().min(end + ROOM), 0);
        LineBuffer { bytes: text, end }
    }

    /// The text, without the room behind it.
    pub(super) fn into_text(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes
    }

    /// Forgets the text.
    pub(crate) fn clear(&mut self) {
        self.end = 0;
    }

    /// Bytes of the text.
    pub(crate) fn len(&self) -> usize {
        self.end
    }

    /// The text.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Adds a part of another text. Taken and given back by value, so that it stays in registers from
    /// part to part.
    #[inline(always)]
    pub(super) fn put(mut self, text: &[u8], start: usize, end: usize) -> Self {
        let length = end - start;
        if length <= SHORT
            && let Some(from) = text.get(start..).and_then(<[u8]>::first_chunk::<SHORT>)
            && let Some(to) = self.room::<SHORT>()
        {
            *to = *from;
            self.end += length;
            return self;
        }
        self.put_longer(text, start, end)
    }

    fn room<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(self.end..)?.first_chunk_mut()
    }

    #[inline(never)]
    fn put_longer(mut self, text: &[u8], start: usize, end: usize) -> Self {
        let length = end - start;
        if length <= MIDDLE
            && let Some(from) = text[start..].first_chunk::<MIDDLE>()
            && let Some(to) = self.room::<MIDDLE>()
        {
            *to = *from;
        } else {
            let needed = self.end + length + MIDDLE;
            if self.bytes.len() < needed {
                let twice = self.bytes.len() * 2;
                self.bytes.resize(needed.max(twice), 0);
            }
            self.bytes[self.end..][..length].copy_from_slice(&text[start..end]);
        }
        self.end += length;
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_of_any_length_stand_one_behind_the_other(
            text in prop::collection::vec(any::<u8>(), 0..200),
            parts in prop::collection::vec((0usize..=200, 0usize..100, prop::bool::weighted(0.05)), 0..60),
        ) {
            let mut buffer = LineBuffer::default();
            let mut naive = Vec::new();
            for (start, length, clears) in parts {
                if clears {
                    buffer.clear();
                    naive.clear();
                }
                let start = start.min(text.len());
                let end = (start + length).min(text.len());
                buffer = buffer.put(&text, start, end);
                naive.extend_from_slice(&text[start..end]);
                prop_assert_eq!(buffer.as_slice(), naive.as_slice());
                prop_assert_eq!(buffer.len(), naive.len());
                if clears {
                    buffer = LineBuffer::behind(buffer.into_text());
                }
            }
            prop_assert_eq!(buffer.into_text(), naive);
        }
    }
}
