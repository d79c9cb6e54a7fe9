//! Chores of the project, as `cargo xtask NAME`.

mod querytest;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

/// Chores of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Checks what the compiler does not: crate edges, sizes, names, and that ARCHITECTURE.md
    /// speaks of things that exist.
    Tidy,
    /// Runs query test scripts: `[--target lib|http://HOST:PORT] PATH...`.
    Querytest {
        /// Target, files and folders.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Chore::parse() {
        Chore::Tidy => tidy::run(),
        Chore::Querytest { args } => querytest::run(&args),
    }
}
