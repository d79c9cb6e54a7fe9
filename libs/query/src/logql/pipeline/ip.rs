//! `ip("...")`: addresses anywhere in a text, against one address, a range or a CIDR block.

use std::net::{IpAddr, Ipv6Addr};

use model::LineMatcher;

use super::CompileError;

/// Which addresses match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpPattern {
    /// Both included, of the same family.
    first: IpAddr,
    last: IpAddr,
}

impl IpPattern {
    /// Reads `10.0.0.1`, `10.0.0.1-10.0.0.9` or `10.0.0.0/8`, or the same of IPv6.
    pub(super) fn parse(text: &str) -> Result<Self, CompileError> {
        Self::read(text).ok_or_else(|| CompileError::Ip(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        if let Some((first, last)) = text.split_once('-') {
            let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
            let same_family = first.is_ipv4() == last.is_ipv4();
            return (same_family && first <= last).then_some(IpPattern { first, last });
        }
        let Some((address, bits)) = text.split_once('/') else {
            let address = text.parse().ok()?;
            return Some(IpPattern {
                first: address,
                last: address,
            });
        };
        let bits: u32 = bits.parse().ok()?;
        Some(match address.parse().ok()? {
            IpAddr::V4(address) if bits <= 32 => {
                let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                IpPattern {
                    first: IpAddr::from((address.to_bits() & !host).to_be_bytes()),
                    last: IpAddr::from((address.to_bits() | host).to_be_bytes()),
                }
            }
            IpAddr::V6(address) if bits <= 128 => {
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                IpPattern {
                    first: Ipv6Addr::from_bits(address.to_bits() & !host).into(),
                    last: Ipv6Addr::from_bits(address.to_bits() | host).into(),
                }
            }
            _ => return None,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether the text has a matching address anywhere, as Loki looks for it: an address goes as
    /// far as characters of addresses do, a dot behind it included, and the character after it
    /// starts none. Linear in the text.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let length = if starts_v4(rest) {
                span(rest, |b| b.is_ascii_digit() || b == b'.')
            } else if starts_v6(rest) {
                span(rest, |b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
            } else {
                0
            };
            let candidate = std::str::from_utf8(&rest[..length]).unwrap_or("");
            if let Ok(address) = candidate.parse()
                && self.contains(address)
            {
                return true;
            }
            at += length + 1;
        }
        false
    }
}

impl LineMatcher for IpPattern {
    fn is_match(&self, line: &[u8]) -> bool {
        self.is_in(line)
    }
}

fn span(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|b| !belongs(*b)).unwrap_or(text.len())
}

/// A digit, and a dot among the three bytes after it.
fn starts_v4(text: &[u8]) -> bool {
    matches!(text, [first, rest @ ..]
        if first.is_ascii_digit() && rest.len() >= 3 && rest[..3].contains(&b'.'))
}

/// Up to four hexadecimal digits and a colon; without digits, two colons and a digit.
fn starts_v6(text: &[u8]) -> bool {
    let head = &text[..text.len().min(5)];
    let digits = span(head, |b| b.is_ascii_hexdigit());
    match digits {
        0 => text.starts_with(b"::") && text.get(2).is_some_and(u8::is_ascii_hexdigit),
        1..=4 => text.get(digits) == Some(&b':'),
        _ => false,
    }
}
