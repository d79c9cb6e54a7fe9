//! Commands and catalogs as bytes: JSON under a format number, in structs of their own, so that
//! neither `rpc` nor `model` need to know how they are stored.
//!
//! ```text
//! {"format":1,"command":{"set_tenant":{"tenant":"a","settings":{"retention_nanos":0}}}}
//! {"format":1,"catalog":{"version":7,...}}
//! ```
//!
//! Format 1 is read for ever. What is added later must be optional, or raise the format: unknown
//! fields are refused, since leaving out a part of a command would let two programs disagree about
//! the state.

use std::fmt;

use rpc::{Catalog, Command};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod shapes;

/// The newest format that is known, and the one that is written.
pub const FORMAT: u32 = 1;

/// Why bytes are not a command or catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Written by a newer program.
    #[error("format {found} is newer than the newest that is known, {FORMAT}")]
    TooNew {
        /// The format found.
        found: u32,
    },
    /// Not what this program or an older one writes.
    #[error("{0}")]
    Malformed(String),
}

#[derive(Deserialize)]
struct Envelope {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandEnvelope {
    format: u32,
    command: shapes::Command,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogEnvelope {
    format: u32,
    catalog: shapes::Catalog,
}

/// A command as bytes.
pub fn encode_command(command: &Command) -> Vec<u8> {
    encode(&CommandEnvelope {
        format: FORMAT,
        command: command.into(),
    })
}

/// The command that [`encode_command`] wrote.
///
/// # Errors
/// [`WireError`] says what is wrong with the bytes.
pub fn decode_command(bytes: &[u8]) -> Result<Command, WireError> {
    let envelope: CommandEnvelope = decode(bytes)?;
    Command::try_from(envelope.command).map_err(malformed)
}

/// A whole catalog as bytes: a snapshot of the state machine.
pub fn encode_catalog(catalog: &Catalog) -> Vec<u8> {
    encode(&CatalogEnvelope {
        format: FORMAT,
        catalog: catalog.into(),
    })
}

/// The catalog that [`encode_catalog`] wrote.
///
/// # Errors
/// [`WireError`] says what is wrong with the bytes.
pub fn decode_catalog(bytes: &[u8]) -> Result<Catalog, WireError> {
    let envelope: CatalogEnvelope = decode(bytes)?;
    Catalog::try_from(envelope.catalog).map_err(malformed)
}

#[expect(
    clippy::expect_used,
    reason = "the shapes have text keys only, and writing to memory cannot fail"
)]
fn encode(envelope: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(envelope).expect("shapes are always JSON")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match serde_json::from_slice(bytes) {
        Ok(value) => match serde_json::from_slice::<Envelope>(bytes) {
            Ok(envelope) if envelope.format == FORMAT => Ok(value),
            Ok(envelope) => Err(unknown_format(envelope.format)),
            Err(error) => Err(malformed(error)),
        },
        // A newer program's entry may fail for its shape: the format number says so better.
        Err(error) => match serde_json::from_slice::<Envelope>(bytes) {
            Ok(envelope) if envelope.format != FORMAT => Err(unknown_format(envelope.format)),
            _ => Err(malformed(error)),
        },
    }
}

fn unknown_format(found: u32) -> WireError {
    if found > FORMAT {
        WireError::TooNew { found }
    } else {
        WireError::Malformed(format!("format {found} never existed"))
    }
}

fn malformed(error: impl fmt::Display) -> WireError {
    WireError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests;
