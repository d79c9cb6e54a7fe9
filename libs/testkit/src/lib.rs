//! What tests of several crates share: sources, generators and stand-ins for the ports.

mod memory_source;
mod object_storage;

pub use memory_source::{MemoryRecord, MemorySource};
pub use object_storage::{FaultyBackend, Operation, RequestCounts, object_storage_suite};
pub mod sim_disk;
