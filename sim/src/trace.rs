use std::collections::VecDeque;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What happened, in order. All of it goes into a hash: two runs that have the same hash did the
/// same.
#[derive(Debug)]
pub(crate) struct Trace {
    began: Instant,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    lines: VecDeque<String>,
    hash: DefaultHasher,
    /// Only so many of the last lines are kept.
    kept: usize,
}

impl Trace {
    pub(crate) fn new(kept: usize) -> Self {
        Trace {
            began: Instant::now(),
            told: Mutex::new(Told {
                lines: VecDeque::new(),
                // Its keys are fixed.
                hash: DefaultHasher::new(),
                kept,
            }),
        }
    }

    pub(crate) fn tell(&self, what: impl Display) {
        let at = self.began.elapsed().as_secs_f64();
        let line = format!("{at:10.4} {what}");
        let mut told = self.told.lock();
        line.hash(&mut told.hash);
        told.lines.push_back(line);
        if told.lines.len() > told.kept {
            told.lines.pop_front();
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.told.lock().hash.finish()
    }

    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.told.lock().lines.iter().cloned().collect()
    }
}
