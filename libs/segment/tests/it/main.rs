//! Segments through their public API: what goes in comes out, found or not, merged or not.

mod round_trip;
mod support;
