//! The ports over gRPC: [`Remote`] reaches those of other processes, [`serve`] offers one's own.
//!
//! What it is: bytes of the ports' words ([`wire`]), one gRPC service for all of them, connections
//! that come back by themselves, TLS. What it is *not*: it retries nothing and chooses nobody.
//!
//! ```text
//! Remote ─ Node(address) ── gRPC /pharos.rpc.Node/Ingest, Recent, ... ──▶ serve ─ Ports ─ the role
//! ```
//!
//! Invariants:
//! - Whatever goes wrong on the way is [`Error::Unavailable`] with the address; the other side's own
//!   errors arrive as they were.
//! - Each request says which format its sender speaks; a node with another one refuses by name.
//! - A caller that drops its future cancels the work at the other side; a call's time limit travels
//!   with it.
//! - Batches travel as the write-ahead log stores them, so there is one form to test.

mod client;
mod codec;
mod network;
mod server;
mod status;
mod streams;
mod tls;
mod wire;

pub use codec::RawCodec;
pub use network::{Remote, RemoteConfig};
pub use server::{CompilePattern, Ports, Service, serve};
pub use tls::TlsFiles;
pub use wire::WireError;

use crate::Error;

/// What the sides of a connection must agree on; raised when a message changes its meaning.
pub const FORMAT: u32 = 3;

/// Header that carries [`FORMAT`].
const FORMAT_HEADER: &str = "pharos-format";

/// One way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Ingest,
    Flush,
    Recent,
    Tail,
    Reconcile,
    Pull,
    Share,
    Rules,
    Meta,
    Watch,
}

impl Method {
    const ALL: [Method; 10] = [
        Method::Ingest,
        Method::Flush,
        Method::Recent,
        Method::Tail,
        Method::Reconcile,
        Method::Pull,
        Method::Share,
        Method::Rules,
        Method::Meta,
        Method::Watch,
    ];

    fn path(self) -> &'static str {
        match self {
            Method::Ingest => "/pharos.rpc.Node/Ingest",
            Method::Flush => "/pharos.rpc.Node/Flush",
            Method::Recent => "/pharos.rpc.Node/Recent",
            Method::Tail => "/pharos.rpc.Node/Tail",
            Method::Reconcile => "/pharos.rpc.Node/Reconcile",
            Method::Pull => "/pharos.rpc.Node/Pull",
            Method::Share => "/pharos.rpc.Node/Share",
            Method::Rules => "/pharos.rpc.Node/Rules",
            Method::Meta => "/pharos.rpc.Node/Meta",
            Method::Watch => "/pharos.rpc.Node/Watch",
        }
    }

    fn of_path(path: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.path() == path)
    }
}

/// The text of a refusal because of another [`FORMAT`].
fn other_format(theirs: &str) -> Error {
    Error::Invalid(format!(
        "this node speaks format {FORMAT} between processes, the caller speaks {theirs}; run versions that overlap, or upgrade one step at a time"
    ))
}

#[cfg(test)]
mod tests;
