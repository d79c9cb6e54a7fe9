//! Tests of the query crate from outside.

mod engine;
mod expressions;
mod scripts;
mod syntax;
mod syntax_properties;
