//! The querier from HTTP to fakes of its neighbours, over real segments.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod context;
mod deletes;
mod fields;
mod levels;
mod limits;
mod live;
mod once;
mod patterns;
mod reads;
mod routes;
mod rules;
mod spread;
mod streams;
mod world;
