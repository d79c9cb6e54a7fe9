//! Segments through their public API: what goes in comes out, found or not, merged or not.
#![allow(clippy::unwrap_used)]

mod by_template;
mod damage;
mod filters;
mod golden;
mod merge;
mod outcomes;
mod round_trip;
mod search;
mod shapes;
mod support;
