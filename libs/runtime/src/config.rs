//! Options: declared once, read from flags, environment and file.

mod text;

use std::path::{Path, PathBuf};

use clap::Command;
use serde::de::DeserializeOwned;

pub use text::{ByteText, DurationText};

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

/// Lets every long flag of the command also be given as `PHAROS_` + its name in capitals.
pub fn with_environment(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_long() {
        Some(long) if !matches!(long, "help" | "version") => {
            let variable = format!("PHAROS_{}", long.replace('-', "_").to_uppercase());
            // Values may be secrets: help names the variable and never what is in it.
            arg.env(variable).hide_env_values(true)
        }
        _ => arg,
    })
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

/// Declares a group of options once. `struct Settings / Raw { name: Type = "default", .. }` makes
/// `Settings` (plain values, `Default`) and `Raw` (everything optional: a clap `Args` and a serde
/// section of the file). `name: Type as Text` reads the value as `Text` and converts it with `From`.
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
            $( $(#[doc = $help])+ #[arg(long)] pub $field: Option<$crate::options!(@text $type $(as $text)?)>, )+
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
                $settings {
                    $( $field: self.$field
                        .unwrap_or_else(|| $default.parse().expect(concat!("default of ", stringify!($field))))
                        .into(), )+
                }
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
