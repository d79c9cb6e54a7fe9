//! LogQL: the language of Loki 3.x and some extensions that no valid Loki query can mean.

pub mod ast;
pub mod engine;
pub mod format;
pub mod parse;
pub mod pipeline;
pub mod print;
pub mod regex;
mod stack;

pub use parse::{
    ParseError, parse, parse_label_filter, parse_log, parse_metric, parse_selector, parse_variants,
};
pub use stack::deep;
