//! `pharos`: one binary, every role. This crate holds options and composition, no logic.
//!
//! ```text
//! compose.rs  open ports ─▶ join (cluster.rs) ─▶ start roles (roles.rs) ─▶ ready ─▶ signal, leave ─▶ end
//! admin.rs    /admin/api/v1     ring.rs, catalog.rs  `pharos ring` and `pharos catalog`, which ask it
//! ops.rs      the routes that Loki has for operators
//! ```

mod admin;
mod announce;
mod catalog;
mod cluster;
mod compose;
mod ops;
mod options;
mod process_metrics;
mod ring;
mod ring_metrics;
mod roles;
mod storage;

use std::process::ExitCode;

use self::ring::RingArguments;
use catalog::CatalogArguments;
use clap::{CommandFactory, FromArgMatches, Parser};
use options::ServeArguments;

/// Freed memory goes back to the system soon: flushing and merging free much at once.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pharos: logs go in, are kept, are found.
#[derive(Debug, Parser)]
#[command(name = "pharos", version)]
enum Cli {
    /// Runs the roles of a Pharos process until SIGTERM or SIGINT.
    Serve(Box<ServeArguments>),
    /// Shows who is in the cluster; lets a process leave, or forgets one that is gone.
    Ring(RingArguments),
    /// Makes a lost catalog anew, of the objects in the storage.
    Catalog(CatalogArguments),
}

fn main() -> ExitCode {
    let outcome = command().and_then(|cli| match cli {
        Cli::Serve(arguments) => arguments.settings().and_then(compose::run),
        Cli::Ring(arguments) => ring::run(&arguments),
        Cli::Catalog(arguments) => catalog::run(&arguments),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            announce::failure(&reason);
            ExitCode::FAILURE
        }
    }
}

fn command() -> anyhow::Result<Cli> {
    let docs: Vec<_> = options::reference()
        .into_iter()
        .flat_map(|(_, options)| options)
        .collect();
    let command = Cli::command().mut_subcommand("serve", |serve| {
        runtime::config::with_environment(serve, &docs)
    });
    Ok(Cli::from_arg_matches(&command.get_matches())?)
}

#[cfg(test)]
mod tests;
