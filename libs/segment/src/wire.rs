//! Varints, and a reader that never trusts a length.

use crate::error::Damage;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads one part of an object from front to back.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        if count > self.left() {
            return Err(Damage::new(format!("{count} more bytes"), self.left()));
        }
        let from = self.at;
        self.at += count;
        Ok(&self.bytes[from..self.at])
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Damage> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damage> {
        let mut array = [0; 4];
        array.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(array))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damage> {
        let mut array = [0; 8];
        array.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(array))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Damage> {
        if let Some(byte) = self.bytes.get(self.at)
            && *byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Damage::new("a varint below 2^64", "a longer one"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damage::new("a varint of at most 10 bytes", "a longer one"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Damage> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number that says how many things follow, each at least one byte.
    pub(crate) fn count(&mut self) -> Result<usize, Damage> {
        let count = self.varint()?;
        if count > self.left() as u64 {
            return Err(Damage::new(format!("a count up to {}", self.left()), count));
        }
        Ok(count as usize)
    }

    /// A number below 2^32.
    pub(crate) fn small(&mut self) -> Result<u32, Damage> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| Damage::new("a number below 2^32", value))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let count = self.count()?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|error| Damage::new("UTF-8 text", error))
    }

    pub(crate) fn finish(&self) -> Result<(), Damage> {
        match self.left() {
            0 => Ok(()),
            left => Err(Damage::new("the end", format!("{left} more bytes"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_at_both_ends_of_their_range() {
        for value in [0, 1, 127, 128, 1 << 32, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Cursor::new(&out).varint(), Ok(value));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            assert_eq!(Cursor::new(&out).signed(), Ok(value));
        }
    }

    #[test]
    fn a_count_cannot_exceed_what_is_left() {
        let mut out = Vec::new();
        put_varint(&mut out, 1 << 40);
        assert!(Cursor::new(&out).count().is_err());
        assert!(Cursor::new(&[0xff; 11]).varint().is_err());
    }
}
