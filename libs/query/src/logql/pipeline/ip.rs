//! `ip("...")`: addresses anywhere in a text, against one address, a range or a CIDR block.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::LineMatcher;

use super::CompileError;

/// Colons of an IPv6 address that is written without `::` and ends like one of IPv4; others have more.
const COLONS_MIN: usize = 6;

/// Which addresses match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IpPattern {
    /// Both included, of the same family.
    first: IpAddr,
    last: IpAddr,
    /// What all of them start with, if there is one way to write it.
    required: Vec<Box<[u8]>>,
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
            return (same_family && first <= last).then(|| Self::between(first, last));
        }
        let Some((address, bits)) = text.split_once('/') else {
            let address = text.parse().ok()?;
            return Some(Self::between(address, address));
        };
        let bits: u32 = bits.parse().ok()?;
        Some(match address.parse().ok()? {
            IpAddr::V4(address) if bits <= 32 => {
                let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                let first = (address.to_bits() & !host).to_be_bytes();
                Self::between(
                    first.into(),
                    (address.to_bits() | host).to_be_bytes().into(),
                )
            }
            IpAddr::V6(address) if bits <= 128 => {
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                let first = Ipv6Addr::from_bits(address.to_bits() & !host);
                Self::between(
                    first.into(),
                    Ipv6Addr::from_bits(address.to_bits() | host).into(),
                )
            }
            _ => return None,
        })
    }

    fn between(first: IpAddr, last: IpAddr) -> Self {
        let common = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => common_octets(first, last),
            // The same address may be written with and without `::`, in small letters and capitals.
            _ => String::new(),
        };
        let required = (!common.is_empty()).then(|| common.into_bytes().into());
        IpPattern {
            first,
            last,
            required: required.into_iter().collect(),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether the text has a matching address anywhere, as Loki looks for it: an address goes as
    /// far as characters of addresses do, a dot behind it included, and the character after it
    /// starts none. Linear in the text.
    ///
    /// No candidate reaches beyond a run of characters of addresses, and none that starts in a run makes
    /// the first character of the next one be passed over. So runs are looked at one by one, and only those
    /// that have the dots or colons that an address of the family has.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        let (mark, may_hold): (u8, fn(&[u8]) -> bool) = match self.first {
            IpAddr::V4(_) => (b'.', may_hold_v4),
            IpAddr::V6(_) => (b':', may_hold_v6),
        };
        let mut from = 0;
        while let Some(found) = memchr::memchr(mark, &text[from..]) {
            let mark = from + found;
            let before = text[from..mark].iter().rev();
            let start = mark - before.take_while(|b| is_of_address(**b)).count();
            let end = mark + span(&text[mark..], is_of_address);
            if may_hold(&text[start..end]) && self.is_in_run(text, start, end) {
                return true;
            }
            from = end;
        }
        false
    }

    /// As [`is_in`](Self::is_in), for a run of characters of addresses that is as long as it can be.
    fn is_in_run(&self, text: &[u8], start: usize, end: usize) -> bool {
        let mut at = start;
        while at < end {
            let rest = &text[at..];
            let length = if starts_v4(rest) {
                span(rest, |b| b.is_ascii_digit() || b == b'.')
            } else if starts_v6(rest) {
                end - at
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

    fn required_literals(&self) -> &[Box<[u8]>] {
        &self.required
    }
}

/// The octets that all addresses from `first` to `last` start with, as they stand in each: no octet has
/// more than one way to be written. Empty if there are none.
fn common_octets(first: Ipv4Addr, last: Ipv4Addr) -> String {
    if first == last {
        return first.to_string();
    }
    let pairs = first.octets().into_iter().zip(last.octets());
    let common = pairs.take_while(|(a, b)| a == b);
    common.map(|(octet, _)| format!("{octet}.")).collect()
}

fn is_of_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
}

/// An address has three dots.
fn may_hold_v4(run: &[u8]) -> bool {
    memchr::memchr_iter(b'.', run).nth(2).is_some()
}

fn may_hold_v6(run: &[u8]) -> bool {
    let colons = run.iter().filter(|b| **b == b':').count();
    colons >= COLONS_MIN || run.windows(2).any(|pair| pair == b"::")
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tries an address at every byte.
    fn is_in_plainly(pattern: &IpPattern, text: &[u8]) -> bool {
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
            let candidate = std::str::from_utf8(&rest[..length]).unwrap();
            if candidate.parse().is_ok_and(|found| pattern.contains(found)) {
                return true;
            }
            at += length + 1;
        }
        false
    }

    const PATTERNS: [&str; 10] = [
        "1.2.3.4",
        "1.2.0.0/15",
        "1.2.3.0-1.2.3.9",
        "9.0.0.0-10.0.0.0",
        "0.0.0.0/0",
        "::1",
        "a::/16",
        "a::1-a::9",
        "::ffff:1.2.3.4",
        "::/0",
    ];

    /// Addresses, what is nearly one, and what stands around them.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            6 => "[0-9a:. ]{1,3}",
            4 => "[.:]{1,2}|[0-9a-fA-Fgx é,-]",
            3 => "1\\.[23]\\.[0-9]\\.[0-9]",
            2 => "[0-9]{1,4}(\\.[0-9]{1,3}){2,4}",
            2 => "(::|a:)([0-9a]{1,4}:){0,7}[0-9a]{0,4}",
            1 => Just("::ffff:1.2.3.4".to_owned()),
            1 => Just("1:2:3:4:5:6:1.2.3.4".to_owned()),
            1 => Just("21:31:25.123".to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn addresses_are_found_as_if_one_was_tried_at_every_byte(
            parts in prop::collection::vec(part(), 0..8),
        ) {
            let text = parts.concat();
            for pattern in PATTERNS {
                let pattern = IpPattern::parse(pattern).unwrap();
                let found = pattern.is_in(text.as_bytes());
                prop_assert_eq!(found, is_in_plainly(&pattern, text.as_bytes()), "{:?}", pattern);
                for literal in pattern.required_literals() {
                    let literal = std::str::from_utf8(literal).unwrap();
                    prop_assert!(!found || text.contains(literal), "{}", literal);
                }
            }
        }
    }

    #[test]
    fn what_all_addresses_of_a_pattern_start_with_is_known() {
        for (pattern, want) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4/32", Some("1.2.3.4")),
            ("1.2.3.4/16", Some("1.2.")),
            ("1.2.3.4/15", Some("1.")),
            ("1.2.3.4-1.2.3.5", Some("1.2.3.")),
            ("1.2.3.4-2.2.3.4", None),
            ("0.0.0.0/0", None),
            ("::1", None),
        ] {
            let pattern = IpPattern::parse(pattern).unwrap();
            let literals = pattern.required_literals().iter();
            let literals = literals.map(|literal| std::str::from_utf8(literal).unwrap());
            assert_eq!(literals.collect::<Vec<_>>(), Vec::from_iter(want));
        }
    }
}
