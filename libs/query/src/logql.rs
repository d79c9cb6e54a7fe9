//! LogQL: the language of Loki 3.x and some extensions that no valid Loki query can mean.

pub mod ast;
pub mod regex;
