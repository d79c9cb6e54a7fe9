//! Bits and Rice codes: small numbers in few bits, for gaps between hashes. (Golomb, "Run-length
//! encodings", 1966; Rice, Plaunt, 1971.)

/// Writes bits, the lowest of each byte first.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that are not in `bytes` yet: fewer than 32.
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// Adds the `bits` lowest bits of a value that has no others: 32 at most.
    #[inline]
    fn put(&mut self, value: u64, bits: u32) {
        self.pending |= value << self.count;
        self.count += bits;
        if self.count >= 32 {
            let word = self.pending as u32;
            self.bytes.extend_from_slice(&word.to_le_bytes());
            self.pending >>= 32;
            self.count -= 32;
        }
    }

    /// Adds a number: what is above its `low` lowest bits (31 at most) as so many zeros and a one,
    /// then those bits.
    #[inline]
    pub(super) fn rice(&mut self, value: u32, low: u32) {
        let mut zeros = value >> low;
        while zeros >= 32 {
            self.put(0, 32);
            zeros -= 32;
        }
        self.put(1 << zeros, zeros + 1);
        self.put(u64::from(value) & ((1 << low) - 1), low);
    }

    /// The bytes; the last is filled with zeros. Empties the writer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let rest = self.count.div_ceil(8) as usize;
        let last = self.pending.to_le_bytes();
        self.bytes.extend_from_slice(&last[..rest]);
        (self.pending, self.count) = (0, 0);
        std::mem::take(&mut self.bytes)
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Clone, Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, at: 0 }
    }

    /// The next bits, 57 at least; zeros behind the end.
    #[inline]
    fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at >> 3..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(word)
            }
        };
        word >> (self.at & 7)
    }

    /// The next number; `None` when the bytes end before it does.
    #[inline]
    pub(super) fn rice(&mut self, low: u32) -> Option<u32> {
        let mut word = self.peek();
        let mut zeros = 0;
        while word == 0 {
            zeros += 57;
            self.at += 57;
            if self.at >= self.bytes.len() * 8 {
                return None;
            }
            word = self.peek();
        }
        zeros += u64::from(word.trailing_zeros());
        self.at += word.trailing_zeros() as usize + 1;
        let rest = self.peek() & ((1 << low) - 1);
        self.at += low as usize;
        if self.at > self.bytes.len() * 8 || zeros > u64::from(u32::MAX >> low) {
            return None;
        }
        Some((zeros << low | rest) as u32)
    }

    /// Whether only what fills the last byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.len() * 8 - self.at.min(self.bytes.len() * 8) < 8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn numbers_come_back_and_nothing_behind_them(
            numbers in prop::collection::vec((0u32..1 << 20, 10u32..32), 0..40),
            small in prop::collection::vec((0u32..3000, 0u32..4), 0..20),
        ) {
            let mut writer = BitWriter::default();
            let numbers = [numbers, small].concat();
            numbers.iter().for_each(|(number, low)| writer.rice(*number, *low));
            let bytes = writer.take();
            let mut reader = BitReader::new(&bytes);
            for (number, low) in &numbers {
                prop_assert_eq!(reader.rice(*low), Some(*number));
            }
            prop_assert!(reader.is_at_end());
            prop_assert_eq!(reader.rice(8), None);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..60), low in 0u32..32) {
            let mut reader = BitReader::new(&bytes);
            let mut count = 0;
            while reader.rice(low).is_some() {
                count += 1;
            }
            prop_assert!(count <= bytes.len() * 8);
        }
    }
}
