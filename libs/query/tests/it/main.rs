//! Tests of the query crate from outside.

mod engine;
mod expressions;
mod syntax;
mod syntax_properties;
