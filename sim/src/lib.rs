//! The whole cluster in one thread, under faults that a seed draws: what must be true at every
//! moment is looked at all the time, and a seed that breaks it replays exactly.
//!
//! What it is: coordinators, ingesters, distributors and queriers as the binary composes them, over a
//! simulated network, simulated disks, a simulated bucket and a paused clock; clients that push and
//! ask; faults; one file for each invariant. What it is *not*: no transport, no HTTP listener and no
//! file system is simulated; `e2e` has the real ones.
//!
//! ```text
//! seed ─▶ Plan ─▶ World: processes ─ calls ─▶ Net (late, lost, doubled, cut)
//!                   │        ├─ log ────────▶ LogDisk over testkit::sim_disk (loses what is not synced)
//!                   │        ├─ coordinator ▶ meta::store::MemoryStore
//!                   │        └─ objects ────▶ testkit::SimBucket
//!                   ├─ clients: push, ask,
//!                   │  delete, watch           every event ─▶ invariants ─▶ Verdict
//!                   └─ faults, then peace
//! ```
//!
//! Invariants:
//! - A seed decides everything: there is one thread at a time (`steps`), one clock, which stands
//!   still while anything can be done, every random number comes from `Dice`, and the system's
//!   randomness is always the same (`random.c`). Equal seeds give equal traces; a test compares
//!   their hashes, also between two processes.
//! - What is wrong on purpose (`--mutant`, `mutants`) is wrong at the border of a process, never in it.
//! - A call ends with its caller, a moment later: what the other side does for it is dropped wherever it
//!   waits, done or not, as a server's handler is (`net`).
//! - A process that has crashed does nothing any more that anybody could notice (`Life`).
#![warn(missing_docs)]

mod boot;
mod bucket;
mod clients;
mod cost;
mod deletes;
mod dice;
mod disk;
mod enders;
mod faults;
mod invariants;
mod leaks;
mod life;
mod losses;
mod measure;
mod mutants;
mod net;
mod plan;
mod process;
mod questions;
mod raises;
mod records;
mod run;
mod splits;
mod steps;
mod tails;
mod trace;
mod world;

pub use measure::{HourOfLoad, bytes_per_node, hour_of_load};
pub use mutants::Mutant;
pub use run::{Verdict, simulate};
