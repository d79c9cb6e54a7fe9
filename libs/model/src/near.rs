//! For who goes through many things that are far apart in memory.

/// Asks the core to bring the memory in which the value begins near, and does not wait for it. To be called some
/// hundred instructions before the value is read, for several values at a time: then the core waits for memory
/// once and not for each. Does nothing where there is no such instruction.
#[inline(always)]
pub fn fetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(value);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// A hash table of numbers: where things stand in a list that is kept elsewhere. It takes 12 to 24 bytes for each,
/// and finds out what is likely meant without a look at the list, so that lookups of many things can be done step by
/// step: [`fetch`](Self::fetch) for all, then [`guess`](Self::guess) for all, then a look
/// at the list for all.
///
/// Things are told apart by a tag: 32 bits of a hash, evenly spread. Who can choose many things of one tag makes
/// lookups slow.
#[derive(Debug, Default)]
pub struct Numbers {
    /// As many as a power of two. The tag above, the number plus one below; 0 is empty. A tag stands at its first
    /// bits or behind, with no empty slot between.
    slots: Vec<u64>,
    len: usize,
}

impl Numbers {
    const SLOTS_MIN: usize = 64;

    /// A table with room for so many numbers.
    pub fn with_capacity(numbers: usize) -> Self {
        let mut made = Numbers::default();
        if numbers > 0 {
            made.resize((numbers + numbers / 2).next_power_of_two());
        }
        made
    }

    /// Forgets all numbers.
    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.len = 0;
    }

    /// Brings near what a lookup of the tag will read.
    #[inline]
    pub fn fetch(&self, tag: u32) {
        if let Some(slot) = self.slots.get(self.place(tag)) {
            fetch(slot);
        }
    }

    /// The first number under the tag: nearly always the one that [`find`](Self::find) would find, if any.
    #[inline]
    pub fn guess(&self, tag: u32) -> Option<u32> {
        self.find(tag, |_| true)
    }

    /// The number under the tag for which `is_it` holds.
    #[inline]
    pub fn find(&self, tag: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let place = self.place_of(tag, &mut is_it)?;
        Some(number_of(self.slots[place]))
    }

    /// Adds a number that is not there yet.
    ///
    /// # Panics
    /// When the number is `u32::MAX`.
    pub fn insert(&mut self, tag: u32, number: u32) {
        assert!(number < u32::MAX, "numbers end before u32::MAX");
        if self.len * 3 >= self.slots.len() * 2 {
            self.resize((self.slots.len() * 2).max(Self::SLOTS_MIN));
        }
        self.put(u64::from(tag) << 32 | (u64::from(number) + 1));
        self.len += 1;
    }

    /// Puts `with`, which must be less than `u32::MAX`, in place of a number, if that is there under the tag.
    pub fn replace(&mut self, tag: u32, number: u32, with: u32) {
        if let Some(place) = self.place_of(tag, &mut |found| found == number) {
            self.slots[place] = u64::from(tag) << 32 | (u64::from(with) + 1);
        }
    }

    #[inline]
    fn place_of(&self, tag: u32, is_it: &mut impl FnMut(u32) -> bool) -> Option<usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut place = self.place(tag);
        loop {
            let slot = *self.slots.get(place)?;
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == tag && is_it(number_of(slot)) {
                return Some(place);
            }
            place = (place + 1) & mask;
        }
    }

    /// Where the tag stands if its place is free.
    #[inline]
    fn place(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.slots.len() as u64) >> 32) as usize
    }

    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut place = self.place((slot >> 32) as u32);
        while self.slots[place] != 0 {
            place = (place + 1) & mask;
        }
        self.slots[place] = slot;
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            self.put(slot);
        }
    }
}

#[inline]
fn number_of(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Tags that are even, few, or all alike: what is found is what a map of lists would find.
    #[test]
    fn what_was_inserted_is_found_and_nothing_else() {
        type TagOf = fn(u32) -> u32;
        let cases: [(u32, TagOf); 4] = [
            (5000, |n| n.wrapping_mul(0x9e37_79b9)),
            (2000, |n| n % 7 * 0x2492_4924),
            (500, |_| u32::MAX),
            (500, |n| n),
        ];
        for (things, tag_of) in cases {
            let mut numbers = Numbers::default();
            let mut twin: HashMap<u32, Vec<u32>> = HashMap::new();
            assert_eq!(numbers.guess(0), None);
            for n in 0..things {
                let tag = tag_of(n);
                numbers.fetch(tag);
                numbers.insert(tag, n);
                twin.entry(tag).or_default().push(n);
            }
            for (tag, of_tag) in &twin {
                for n in of_tag {
                    assert_eq!(numbers.find(*tag, |found| found == *n), Some(*n));
                }
                let mut seen = Vec::new();
                let none = |found| {
                    seen.push(found);
                    false
                };
                assert_eq!(numbers.find(*tag, none), None);
                seen.sort_unstable();
                assert_eq!(seen, *of_tag);
                assert!(of_tag.contains(&numbers.guess(*tag).unwrap()));
                let other = *tag ^ 0x10_0000;
                assert_eq!(numbers.guess(other).is_some(), twin.contains_key(&other));
            }
        }
    }

    #[test]
    fn a_number_is_replaced_in_its_place() {
        let mut numbers = Numbers::with_capacity(3);
        for n in 0..3 {
            numbers.insert(7, n);
        }
        numbers.replace(7, 1, 9);
        numbers.replace(8, 2, 10);
        let all: Vec<u32> = (0..20)
            .filter(|n| numbers.find(7, |found| found == *n).is_some())
            .collect();
        assert_eq!(all, [0, 2, 9]);
        numbers.clear();
        assert_eq!(numbers.guess(7), None);
        numbers.insert(7, 5);
        assert_eq!(numbers.guess(7), Some(5));
    }
}
