//! Tests of the query crate from outside.

mod expressions;
mod syntax;
mod syntax_properties;
