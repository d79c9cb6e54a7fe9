#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod cache;
mod faults;
mod local;
mod s3_server;
mod suite;
