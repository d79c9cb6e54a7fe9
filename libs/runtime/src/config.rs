//! Options: declared once, read from flags, environment and file.

mod environment;
mod text;
mod value;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use environment::{unknown_variables, with_environment};
pub use text::{ByteText, DurationText};
pub use value::{OptionValue, SecretText, from_file};

/// One option as the reference page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionDoc {
    /// The key in the file; the flag is `--key-with-dashes`, the variable `PHAROS_KEY`.
    pub name: &'static str,
    /// The default, as one would write it.
    pub default: &'static str,
    /// What it is for.
    pub help: String,
}

/// One option with the value that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionShown {
    /// The key in the file.
    pub name: &'static str,
    /// The value as it would stand in the file; secrets are masked.
    pub value: String,
    /// Whether it is that of the declaration.
    pub is_default: bool,
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {reason}")]
    Read {
        /// As given with `--config`.
        path: PathBuf,
        /// The operating system's words.
        reason: std::io::Error,
    },
    /// The file is not what the options are declared to be.
    #[error("the configuration file {path} is not valid: {reason}")]
    Parse {
        /// As given with `--config`.
        path: PathBuf,
        /// With line and column.
        reason: String,
    },
}

/// Reads a YAML file of options.
///
/// # Errors
/// [`ConfigError`] names the file and, for bad content, line and column.
pub fn read_file<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::Read {
        path: path.to_owned(),
        reason,
    })?;
    serde_saphyr::from_str(&text).map_err(|reason| ConfigError::Parse {
        path: path.to_owned(),
        reason: reason.to_string(),
    })
}

/// An option with the value that holds: what was given, or else its default.
pub fn shown<T: OptionValue>(
    name: &'static str,
    given: Option<&T>,
    default: Option<&T>,
) -> OptionShown {
    let written = |value: Option<&T>| {
        let text = value.map(T::show).unwrap_or_default();
        if T::QUOTED { quoted(&text) } else { text }
    };
    let value = written(given.or(default));
    OptionShown {
        name,
        is_default: given.is_none_or(|_| value == written(default)),
        value,
    }
}

/// A text in YAML's double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted += &format!("\\u{:04x}", u32::from(char)),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// Declares a group of options once. `struct Settings / Raw { name: Type = "default", .. }` makes
/// `Settings` (plain values, `Default`) and `Raw` (everything optional: a clap `Args` and a serde
/// section of the file). `name: Type as Text` reads the value as `Text` and converts it with `From`;
/// what is read is an [`OptionValue`].
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        $vis:vis struct $settings:ident / $raw:ident {
            $( $(#[doc = $help:literal])+ $field:ident : $type:ty $(as $text:ty)? = $default:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $settings {
            $( $(#[doc = $help])+ pub $field: $type, )+
        }

        impl Default for $settings {
            fn default() -> Self {
                $raw::default().resolve()
            }
        }

        #[doc = concat!("What was given of [`", stringify!($settings), "`].")]
        #[derive(Clone, Debug, Default, $crate::reexport::clap::Args, $crate::reexport::serde::Deserialize)]
        #[serde(default, deny_unknown_fields, crate = "runtime::reexport::serde")]
        // Without it clap makes a group named after the struct, and several roles name theirs alike.
        #[group(skip)]
        $vis struct $raw {
            $(
                $(#[doc = $help])+
                #[arg(long, value_parser = <$crate::options!(@text $type $(as $text)?) as $crate::OptionValue>::read)]
                #[serde(deserialize_with = "runtime::config::from_file")]
                pub $field: Option<$crate::options!(@text $type $(as $text)?)>,
            )+
        }

        impl $raw {
            /// Takes from `other` what was not given here.
            #[must_use]
            $vis fn or(self, other: Self) -> Self {
                $raw { $( $field: self.$field.or(other.$field), )+ }
            }

            /// Fills the rest with defaults.
            #[allow(clippy::expect_used, reason = "a test resolves every default")]
            $vis fn resolve(self) -> $settings {
                let defaults = Self::defaults();
                $settings {
                    $( $field: self.$field.or(defaults.$field)
                        .expect(concat!("default of ", stringify!($field)))
                        .into(), )+
                }
            }

            /// Every option at its default.
            $vis fn defaults() -> Self {
                $raw { $( $field: $crate::OptionValue::read($default).ok(), )+ }
            }

            /// Every option with the value that holds, in order.
            $vis fn shown(&self) -> Vec<$crate::OptionShown> {
                let defaults = Self::defaults();
                vec![ $( $crate::config::shown(stringify!($field), self.$field.as_ref(), defaults.$field.as_ref()), )+ ]
            }

            /// Every option of the group, in order.
            $vis fn reference() -> Vec<$crate::OptionDoc> {
                vec![ $( $crate::OptionDoc {
                    name: stringify!($field),
                    default: $default,
                    help: [$($help),+].map(str::trim).join(" "),
                }, )+ ]
            }
        }
    };
    (@text $type:ty as $text:ty) => { $text };
    (@text $type:ty) => { $type };
}

#[cfg(test)]
mod tests;
