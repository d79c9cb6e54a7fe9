//! What every process needs whatever its roles: options, telemetry, readiness, HTTP listeners and
//! an orderly end.
//!
//! What it is *not*: it knows no role and no signal. Who calls it: the composition in `server`, and
//! the roles for their `options!`.
//!
//! Invariants:
//! - An option is declared once, with [`options!`]; flag, environment variable, file key, default
//!   and reference page come from that declaration. Flag beats environment beats file beats default.
//! - Listeners stop taking connections before the roles behind them stop ([`Shutdown`]).
#![warn(missing_docs)]

mod blocking;
pub mod config;
mod http;
mod process;
mod telemetry;

pub use blocking::{Blocking, LockStep, Panicked};
pub use config::{ByteText, DurationText, OptionDoc, OptionShown, OptionValue, SecretText};
pub use http::{explained, serve_http, status_router};
pub use process::{Shutdown, Termination, clock};
pub use telemetry::{
    LogFormat, LogLevel, Telemetry, TelemetryConfig, TelemetryError, TelemetryOptions,
};

/// What the [`options!`] macro needs at its call site.
#[doc(hidden)]
pub mod reexport {
    pub use clap;
    pub use serde;
}
