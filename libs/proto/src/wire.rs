use crate::WireError;

/// Deepest nesting of messages that decoders follow; deeper ones are malformed.
pub(crate) const DEPTH_MAX: usize = 64;

/// How a field's value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// Reads the fields of one message inside a body. Offsets in errors count from the body's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of the whole body.
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Reader { body, at: 0 }
    }

    /// Where the next byte to read lies in the body.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Bytes left in this message.
    pub(crate) fn remaining(&self) -> usize {
        self.body.len() - self.at
    }

    /// Number and layout of the next field; `None` at the end of the message.
    #[inline]
    pub(crate) fn field(&mut self) -> Result<Option<(u32, WireType)>, WireError> {
        if self.at == self.body.len() {
            return Ok(None);
        }
        let start = self.at;
        let key = self.varint()?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(WireError::new(start, "unknown wire type")),
        };
        let number = key >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(WireError::new(start, "field number out of range"));
        }
        Ok(Some((number as u32, wire_type)))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.body.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.varint_long(),
        }
    }

    fn varint_long(&mut self) -> Result<u64, WireError> {
        let start = self.at;
        let mut value = 0u64;
        for index in 0..10 {
            let Some(byte) = self.body.get(start + index) else {
                return Err(WireError::new(start, "the message ends inside a number"));
            };
            if index == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.at = start + index + 1;
                return Ok(value);
            }
        }
        Err(WireError::new(start, "number longer than 64 bits"))
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn fixed32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self.body[self.at..].first_chunk::<N>();
        let bytes = bytes.ok_or_else(|| {
            WireError::new(self.at, "the message ends inside a fixed-size number")
        })?;
        self.at += N;
        Ok(*bytes)
    }

    /// A string, a byte string or a packed list.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let end = self.length_end()?;
        let bytes = &self.body[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    /// A message inside this one.
    #[inline]
    pub(crate) fn message(&mut self) -> Result<Reader<'a>, WireError> {
        let end = self.length_end()?;
        let inner = Reader {
            body: &self.body[..end],
            at: self.at,
        };
        self.at = end;
        Ok(inner)
    }

    #[inline]
    fn length_end(&mut self) -> Result<usize, WireError> {
        let start = self.at;
        let length = self.varint()?;
        if length > self.remaining() as u64 {
            return Err(WireError::new(
                start,
                "a length points beyond the end of its message",
            ));
        }
        Ok(self.at + length as usize)
    }

    /// Jumps over the value of a field that is not wanted.
    pub(crate) fn skip(&mut self, field: u32, wire_type: WireType) -> Result<(), WireError> {
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.fixed64().map(drop),
            WireType::Fixed32 => self.fixed32().map(drop),
            WireType::Bytes => self.bytes().map(drop),
            WireType::StartGroup => self.skip_group(field),
            WireType::EndGroup => Err(WireError::new(self.at, "a group ends that never began")),
        }
    }

    fn skip_group(&mut self, field: u32) -> Result<(), WireError> {
        let start = self.at;
        let mut open = vec![field];
        while let Some(current) = open.last().copied() {
            match self.field()? {
                None => return Err(WireError::new(start, "the message ends inside a group")),
                Some((number, WireType::EndGroup)) if number == current => {
                    open.pop();
                }
                Some((number, WireType::StartGroup)) => {
                    if open.len() >= DEPTH_MAX {
                        return Err(WireError::new(self.at, "groups nest too deeply"));
                    }
                    open.push(number);
                }
                Some((number, wire_type)) => self.skip(number, wire_type)?,
            }
        }
        Ok(())
    }
}

/// The error of a known field with a layout that it cannot have.
#[cold]
pub(crate) fn wrong_layout(offset: usize) -> WireError {
    WireError::new(offset, "the field has another wire type than it should")
}

#[cfg(test)]
mod tests;
