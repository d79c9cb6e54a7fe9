//! Loki's push API: protobuf, JSON, and the text form of a label set.

mod json;
mod label_text;
mod protobuf;

pub use json::decode_json;
pub use label_text::{LabelTextError, parse_labels};
pub use protobuf::decode_protobuf;
