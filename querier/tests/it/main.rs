//! The querier from HTTP to fakes of its neighbours, over real segments.

mod limits;
mod live;
mod once;
mod routes;
mod world;
