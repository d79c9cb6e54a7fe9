//! What an option may be: read from what people write, and shown as they would write it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserializer, de};

use super::{ByteText, DurationText};

/// A type of options. Its texts are those of flags, variables and scalars of the file alike.
pub trait OptionValue: Sized {
    /// Reads a text; the error says in plain words what it is not, and what one could write.
    ///
    /// # Errors
    /// A sentence such as `"3x" is not a whole number`.
    fn read(text: &str) -> Result<Self, String>;

    /// How one would write it; what must not be read by others is masked.
    fn show(&self) -> String;

    /// Whether the text stands in quotes in YAML.
    const QUOTED: bool = false;
}

/// A text that nobody may read back: shown masked, unless it is empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretText(pub String);

/// What stands where a secret is.
const MASK: &str = "********";

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl From<SecretText> for String {
    fn from(secret: SecretText) -> String {
        secret.0
    }
}

impl OptionValue for SecretText {
    fn read(text: &str) -> Result<Self, String> {
        Ok(SecretText(text.to_owned()))
    }

    fn show(&self) -> String {
        match self.0.as_str() {
            "" => String::new(),
            _ => MASK.to_owned(),
        }
    }

    const QUOTED: bool = true;
}

impl OptionValue for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    /// A password in an address (`scheme://user:password@host`) is masked, in each of a list with commas between.
    fn show(&self) -> String {
        let mut shown = String::with_capacity(self.len());
        let mut rest = self.as_str();
        while let Some(end) = rest.match_indices(',').map(|(at, _)| at).find(|at| {
            let next = rest[at + 1..].trim_start();
            let scheme = next.split_once("://").map_or("", |(scheme, _)| scheme);
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
        }) {
            shown.push_str(&masked(&rest[..end]));
            shown.push(',');
            rest = &rest[end + 1..];
        }
        shown + &masked(rest)
    }

    const QUOTED: bool = true;
}

/// One address.
fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:{MASK}@{host}{path}")
        }
        _ => text.to_owned(),
    }
}

impl OptionValue for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        Ok(PathBuf::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }

    const QUOTED: bool = true;
}

impl OptionValue for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            format!("{text:?} is not an IP address and a port; write for example 0.0.0.0:3100")
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }

    const QUOTED: bool = true;
}

impl OptionValue for bool {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is neither true nor false"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for ByteText {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    /// In the largest unit that divides it.
    fn show(&self) -> String {
        for (bits, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.trailing_zeros() >= bits {
                return format!("{}{unit}", self.0 >> bits);
            }
        }
        self.0.to_string()
    }
}

impl OptionValue for DurationText {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> String {
        if self.0.as_millis() == 0 {
            return "0".to_owned();
        }
        let (mut shown, mut rest) = (String::new(), self.0.as_millis());
        for (millis, unit) in [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1_000, "s"),
            (1, "ms"),
        ] {
            if rest >= millis {
                shown += &format!("{}{unit}", rest / millis);
                rest %= millis;
            }
        }
        shown
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => { $(
        impl OptionValue for $type {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| whole(text, <$type>::MAX as u128))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )* };
}

whole_numbers!(u16, u32, u64, usize);

/// Why a text is not a number of a type that ends at `max`.
fn whole(text: &str, max: u128) -> String {
    let digits = text.strip_prefix('+').unwrap_or(text);
    match !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{text:?} is too large; the most is {max}"),
        false => format!("{text:?} is not a whole number"),
    }
}

/// A scalar of the file, whatever YAML takes it for.
struct Scalar;

impl<'de> de::Visitor<'de> for Scalar {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

/// Reads an option of the file; one without a value is not given.
///
/// # Errors
/// Those of [`OptionValue::read`], and what is no scalar.
pub fn from_file<'de, D: Deserializer<'de>, T: OptionValue>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let text = from.deserialize_any(Scalar)?;
    let read = text.map(|text| T::read(&text)).transpose();
    read.map_err(de::Error::custom)
}
