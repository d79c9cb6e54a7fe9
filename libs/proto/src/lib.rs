//! The wire formats in which logs arrive, decoded straight into a [`Receiver`].
//!
//! What it is: decoders for Loki push ([`loki`]), OTLP logs ([`otlp`]) and the plain JSON endpoints
//! ([`plain`]), decompression of bodies with a cap ([`decompress`]), and the encoders of the answers
//! that those protocols want. What it is *not*: no limits, no tenants, no I/O, no clock: whoever
//! calls decides which records are good and where they go.
//!
//! ```text
//! body -- decompress --> bytes -- loki|otlp|plain::decode --> Receiver::stream_text|stream_pairs
//!                                                             Receiver::record   (many)
//!                                                             Receiver::flawed   (a bad record)
//! ```
//!
//! Invariants:
//! - A malformed body never panics; its [`Error`] names the byte offset and the field.
//! - A record that can be told apart from its neighbours but not be taken (a name that is not UTF-8,
//!   a time outside of 64-bit nanoseconds) is reported as a [`Flaw`], and decoding goes on.
//! - The protobuf decoders allocate nothing per record; memory is the body and one scratch list.
#![warn(missing_docs)]

mod body;
mod error;
mod json;
mod receiver;
mod repair;
mod wire;

pub mod loki;
pub mod otlp;
pub mod plain;

/// Of how many labels or metadata pairs a decoder tells at least: of more it tells one too many, so that
/// a limit of at most so many sees that there are more, and a body of nothing but pairs needs little
/// memory.
pub const PAIRS_MAX: usize = 1 << 16;

pub use body::{Encoding, decompress};
pub use error::{Error, JsonError, WireError};
pub use receiver::{Flaw, Receiver, STREAMS_AHEAD};
pub use repair::repaired;
