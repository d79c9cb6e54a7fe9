//! Chores of the project, as `cargo xtask NAME`.

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
}

fn main() -> anyhow::Result<ExitCode> {
    match Chore::parse() {
        Chore::Tidy => tidy::run(),
    }
}
