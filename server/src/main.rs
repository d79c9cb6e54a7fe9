//! `pharos`: one binary, every role. This crate holds options and composition, no logic.

mod admin;
mod announce;
mod compose;
mod options;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use options::{ServeArguments, Settings};

/// Freed memory goes back to the system soon: flushing and merging free much at once.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pharos: logs go in, are kept, are found.
#[derive(Debug, Parser)]
#[command(name = "pharos", version)]
enum Cli {
    /// Runs the roles of a Pharos process until SIGTERM or SIGINT.
    Serve(Box<ServeArguments>),
}

fn main() -> ExitCode {
    let outcome = settings().and_then(compose::run);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            announce::failure(&reason);
            ExitCode::FAILURE
        }
    }
}

fn settings() -> anyhow::Result<Settings> {
    let command = Cli::command().mut_subcommand("serve", runtime::config::with_environment);
    let matches = command.get_matches();
    let Cli::Serve(arguments) = Cli::from_arg_matches(&matches)?;
    arguments.settings()
}

#[cfg(test)]
mod tests;
