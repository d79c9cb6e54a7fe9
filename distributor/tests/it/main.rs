#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod fixture;
mod grpc;
mod loki;
mod otlp;
mod plain;
