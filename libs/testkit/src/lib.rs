//! What tests of several crates share: sources, generators and stand-ins for the ports.

mod faulty_backend;
mod memory_source;
mod object_storage;
pub mod querytest;

pub use faulty_backend::{FaultyBackend, Operation, RequestCounts};
pub use memory_source::{MemoryRecord, MemorySource};
pub use object_storage::object_storage_suite;
pub use sim_objects::{BucketLink, SimBucket};
pub mod sim_disk;
mod sim_objects;
