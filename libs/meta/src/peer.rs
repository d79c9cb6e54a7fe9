//! What coordinators say to each other: the bodies of `rpc::MetaCall`s and the frames of a watch.
//! JSON, but for the bytes of snapshots and catalogs.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest, VoteRequest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::raft::{Applied, Proposal, Types};
use crate::status::Contact;

/// The version of these words. Processes with unequal ones do not talk to each other.
/// Of equal ones it also holds that they make the same catalog of the same commands.
pub(crate) const PROTOCOL: u32 = 5;

/// What every question starts with.
#[derive(Deserialize)]
struct Envelope {
    protocol: u32,
}

/// Asks for a status, and is a sign of life.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusAsk {
    pub(crate) protocol: u32,
    /// Who asks.
    pub(crate) from: Option<u64>,
    /// Which cluster it belongs to.
    pub(crate) cluster: Option<String>,
    /// Whether only a leader may answer that has just made sure that it leads.
    pub(crate) linear: bool,
}

/// A command for the leader.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProposeAsk {
    pub(crate) protocol: u32,
    pub(crate) cluster: String,
    pub(crate) proposal: Proposal,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProposeAnswer {
    Applied(Applied),
    /// It was not applied and will not be; ask this one.
    NotLeader(Option<Contact>),
}

/// A message of the replicated log.
#[derive(Serialize, Deserialize)]
pub(crate) struct RaftAsk {
    pub(crate) protocol: u32,
    pub(crate) cluster: String,
    /// For whom; another process may have its address by now.
    pub(crate) to: u64,
    pub(crate) message: Message,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    /// Its bytes come after the JSON.
    Snapshot(InstallSnapshotRequest<Types>),
}

/// One step of a watch.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    /// The first.
    Hello(Hello),
    /// A piece of a whole catalog, and whether it is the last.
    Catalog { last: bool, bytes: Bytes },
    /// A command and the version that it made.
    Command { version: u64, bytes: Bytes },
    /// The other side is there and has this version.
    Alive { version: u64 },
}

/// Who sends the changes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) cluster: String,
}

/// A value as JSON.
pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes, rpc::Error> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Bytes::from).map_err(|error| {
        rpc::Error::Internal(format!("a message cannot be written as JSON: {error}"))
    })
}

/// An answer.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rpc::Error> {
    serde_json::from_slice(bytes).map_err(|error| match check_protocol(bytes) {
        Err(stranger) => stranger,
        Ok(()) => rpc::Error::Invalid(format!("a coordinator's message is damaged: {error}")),
    })
}

/// A question; what another version asks is refused, whatever it is.
pub(crate) fn decode_question<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rpc::Error> {
    check_protocol(bytes)?;
    decode(bytes)
}

/// # Errors
/// `Invalid` when it is another protocol than ours.
pub(crate) fn check(protocol: u32) -> Result<(), rpc::Error> {
    if protocol == PROTOCOL {
        return Ok(());
    }
    Err(rpc::Error::Invalid(format!(
        "coordinators of protocol {protocol} and of protocol {PROTOCOL} do not work together: run \
         versions of the program that do"
    )))
}

fn check_protocol(bytes: &[u8]) -> Result<(), rpc::Error> {
    match serde_json::from_slice::<Envelope>(bytes) {
        Ok(envelope) => check(envelope.protocol),
        Err(_) => Ok(()),
    }
}

/// Length of the JSON, JSON, bytes of a snapshot.
pub(crate) fn encode_raft(mut ask: RaftAsk) -> Result<Bytes, rpc::Error> {
    let data = match &mut ask.message {
        Message::Snapshot(request) => std::mem::take(&mut request.data),
        Message::Append(_) | Message::Vote(_) => Vec::new(),
    };
    let json = encode(&ask)?;
    let mut bytes = BytesMut::with_capacity(4 + json.len() + data.len());
    bytes.put_u32(json.len() as u32);
    bytes.put_slice(&json);
    bytes.put_slice(&data);
    Ok(bytes.freeze())
}

/// What [`encode_raft`] wrote.
pub(crate) fn decode_raft(mut bytes: Bytes) -> Result<RaftAsk, rpc::Error> {
    let damaged = || rpc::Error::Invalid("a coordinator's message is cut off".to_owned());
    let length = take_number(&mut bytes, 4).ok_or_else(damaged)? as usize;
    if bytes.len() < length {
        return Err(damaged());
    }
    let data = bytes.split_off(length);
    let mut ask: RaftAsk = decode_question(&bytes)?;
    if let Message::Snapshot(request) = &mut ask.message {
        request.data = data.to_vec();
    }
    Ok(ask)
}

const HELLO: u8 = 0;
const CATALOG: u8 = 1;
const CATALOG_END: u8 = 2;
const COMMAND: u8 = 3;
const ALIVE: u8 = 4;

impl Frame {
    pub(crate) fn encode(&self) -> Result<Bytes, rpc::Error> {
        let mut frame = BytesMut::new();
        match self {
            Frame::Hello(hello) => {
                frame.put_u8(HELLO);
                frame.put_slice(&encode(hello)?);
            }
            Frame::Catalog { last, bytes } => {
                frame.put_u8(if *last { CATALOG_END } else { CATALOG });
                frame.put_slice(bytes);
            }
            Frame::Command { version, bytes } => {
                frame.put_u8(COMMAND);
                frame.put_u64(*version);
                frame.put_slice(bytes);
            }
            Frame::Alive { version } => {
                frame.put_u8(ALIVE);
                frame.put_u64(*version);
            }
        }
        Ok(frame.freeze())
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, rpc::Error> {
        let damaged = || rpc::Error::Invalid("a change of the catalog is damaged".to_owned());
        let kind = take_number(&mut bytes, 1).ok_or_else(damaged)?;
        match u8::try_from(kind).map_err(|_| damaged())? {
            HELLO => Ok(Frame::Hello(decode(&bytes)?)),
            kind @ (CATALOG | CATALOG_END) => Ok(Frame::Catalog {
                last: kind == CATALOG_END,
                bytes,
            }),
            COMMAND => Ok(Frame::Command {
                version: take_number(&mut bytes, 8).ok_or_else(damaged)?,
                bytes,
            }),
            ALIVE => Ok(Frame::Alive {
                version: take_number(&mut bytes, 8).ok_or_else(damaged)?,
            }),
            _ => Err(damaged()),
        }
    }
}

/// A big-endian number of so many bytes at the front.
fn take_number(bytes: &mut Bytes, length: usize) -> Option<u64> {
    if bytes.len() < length {
        return None;
    }
    let number = bytes.split_to(length);
    Some(
        number
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were() {
        let bytes = Bytes::from_static(b"{}");
        for frame in [
            Frame::Hello(Hello {
                protocol: PROTOCOL,
                cluster: "c".to_owned(),
            }),
            Frame::Catalog {
                last: false,
                bytes: bytes.clone(),
            },
            Frame::Catalog {
                last: true,
                bytes: Bytes::new(),
            },
            Frame::Command {
                version: u64::MAX,
                bytes,
            },
            Frame::Alive { version: 1 << 40 },
        ] {
            assert_eq!(Frame::decode(frame.encode().unwrap()), Ok(frame));
        }
    }

    #[test]
    fn cut_off_frames_are_refused() {
        let whole = Frame::Alive { version: 7 }.encode().unwrap();
        for length in 0..whole.len() {
            assert!(Frame::decode(whole.slice(..length)).is_err(), "{length}");
        }
        assert!(Frame::decode(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn a_snapshots_bytes_travel_as_they_are() {
        let data = vec![0, 1, 255, b'{'];
        let ask = RaftAsk {
            protocol: PROTOCOL,
            cluster: "c".to_owned(),
            to: 3,
            message: Message::Snapshot(InstallSnapshotRequest {
                vote: openraft::Vote::new(1, 2),
                meta: Default::default(),
                offset: 5,
                data: data.clone(),
                done: true,
            }),
        };
        let bytes = encode_raft(ask).unwrap();
        for length in 0..8 {
            assert!(decode_raft(bytes.slice(..length)).is_err(), "{length}");
        }
        let back = decode_raft(bytes).unwrap();
        let Message::Snapshot(request) = back.message else {
            panic!("another message");
        };
        assert_eq!((request.data, request.offset, back.to), (data, 5, 3));
    }

    #[test]
    fn another_protocol_is_named_even_when_its_words_are_unknown() {
        let asked = decode_question::<StatusAsk>(br#"{"protocol":1,"what":[]}"#);
        let Err(rpc::Error::Invalid(text)) = asked else {
            panic!("{asked:?}");
        };
        assert!(text.contains("protocol 1 and of protocol 5"), "{text}");
    }
}
