//! Query languages over a [`Source`] of records: parse, plan, execute.
//!
//! What it is: LogQL from text to answer, in plain synchronous code. What it is *not*: no I/O, no
//! clock, no HTTP shapes; the querier brings the records and takes the answer.
//!
//! Invariants:
//! - `parse(print(ast)) == ast` for every expression.
//! - A source shows each record once, whatever copies are stored.
//! - An answer never gets smaller silently: what cannot be read or exceeds a [`Budget`] is an error.
#![warn(missing_docs)]

pub mod logql;
pub mod source;

pub use model::{Columns, Flow, LineColumn, LineRows, MetadataRows, RowBlock};
pub use source::{
    Budget, BudgetError, Halt, Held, Reach, ScanOrder, ScanRequest, ScanStats, ShareSink, Sink,
    Source, SourceError,
};
