//! Runs seeds, each in a process of its own; see `make sim`.
#![expect(clippy::print_stdout, reason = "it prints what it found")]

use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, ValueEnum};

/// Simulates a cluster under faults, once for each seed.
#[derive(Clone, Debug, Parser)]
struct Settings {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    seed_base: u64,
    /// Goes on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
    /// Runs each seed twice, and compares.
    #[arg(long)]
    twice: bool,
    /// How many lines of the trace of a seed that fails are printed.
    #[arg(long, default_value_t = 60)]
    trace_lines: usize,
    /// Prints all that happens, also when nothing is wrong.
    #[arg(long)]
    tell: bool,
    /// Prints a line for each seed.
    #[arg(long, short)]
    verbose: bool,
    /// Prints figures that come from simulated time, and runs no seeds.
    #[arg(long)]
    measure: bool,
    /// Makes something wrong on purpose: some seed should fail.
    #[arg(long)]
    mutant: Option<sim::Mutant>,
    /// Runs this one seed in this very process.
    #[arg(long, hide = true)]
    only: Option<u64>,
}

/// What the processes of all seeds share.
#[derive(Default)]
struct Found {
    next: AtomicU64,
    failed: AtomicU64,
    done: AtomicU64,
    ends: AtomicBool,
}

fn main() -> anyhow::Result<ExitCode> {
    let settings = Settings::parse();
    if settings.measure {
        return measure();
    }
    if let Some(seed) = settings.only {
        return one(&settings, seed);
    }
    let (began, found) = (Instant::now(), Found::default());
    let workers = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let each = |_| scope.spawn(|| some(&settings, &found));
        let running: Vec<_> = (0..workers).map(each).collect();
        let mut ended = running.into_iter().map(|worker| worker.join());
        ended.try_for_each(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let (done, seconds) = (found.done.into_inner(), began.elapsed().as_secs_f64());
    let failed = found.failed.into_inner();
    match failed {
        0 => println!("{done} seeds hold, {seconds:.0} s"),
        failed => println!("{failed} of {done} seeds fail, {seconds:.0} s"),
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Takes one seed after another.
fn some(settings: &Settings, found: &Found) -> anyhow::Result<()> {
    while !found.ends.load(Ordering::Relaxed) {
        let at = found.next.fetch_add(1, Ordering::Relaxed);
        if at >= settings.seeds {
            break;
        }
        let seed = settings.seed_base.saturating_add(at);
        let output = alone(settings, seed)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut failed = !output.status.success();
        if failed || settings.verbose || settings.tell {
            println!("{}", text.trim_end());
        }
        if failed {
            println!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        if settings.twice && alone(settings, seed)?.stdout != output.stdout {
            println!("seed {seed} does not replay: its two runs differ");
            failed = true;
        }
        if failed {
            println!("to replay: make sim SEED_BASE={seed} SEEDS=1");
            found.failed.fetch_add(1, Ordering::Relaxed);
            found.ends.fetch_or(!settings.keep_going, Ordering::Relaxed);
        }
        found.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A process of its own, for some seeds of randomness are the process's.
fn alone(settings: &Settings, seed: u64) -> anyhow::Result<Output> {
    let lines = match settings.tell {
        true => usize::MAX,
        false => settings.trace_lines,
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--only", &seed.to_string()]);
    command.args(["--trace-lines", &lines.to_string()]);
    if settings.tell {
        command.arg("--tell");
    }
    if let Some(mutant) = settings.mutant.and_then(|m| m.to_possible_value()) {
        command.args(["--mutant", mutant.get_name()]);
    }
    command
        .output()
        .context("cannot start a process for a seed")
}

fn one(settings: &Settings, seed: u64) -> anyhow::Result<ExitCode> {
    let verdict = sim::simulate(seed, settings.trace_lines, settings.mutant)?;
    if settings.tell || verdict.broken.is_some() {
        for line in &verdict.trace {
            println!("{line}");
        }
    }
    println!("seed {seed}: {:016x}, {}", verdict.hash, verdict.summary);
    if let Some((invariant, how)) = &verdict.broken {
        println!("seed {seed} breaks {invariant}: {how}");
    }
    Ok(ExitCode::from(u8::from(verdict.broken.is_some())))
}

fn measure() -> anyhow::Result<ExitCode> {
    for nodes in [3, 5, 7, 9] {
        let bytes = sim::bytes_per_node(3, nodes)?;
        println!("{nodes} ingesters: {:.1} MB/s each", bytes / 1e6);
    }
    for restarts in [false, true] {
        let three = sim::hour_of_load(1, 3, restarts)?;
        let one = sim::hour_of_load(1, 1, restarts)?;
        let ratio = three.stored_bytes as f64 / one.stored_bytes as f64;
        println!(
            "an hour, restarts {restarts}: {ratio:.4} of the bytes; three owners {three:?}, one {one:?}"
        );
    }
    Ok(ExitCode::SUCCESS)
}
