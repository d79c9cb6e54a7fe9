//! What a process that is not in the cluster yet waits for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Core;

/// Whoever waits for less says nothing of it.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// How often is said what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What is waited for, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Option<String>>);

impl Waiting {
    pub(super) fn now(&self) -> Option<String> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.clone()
    }

    fn set(&self, what: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

/// Tells what is waited for, now and then.
pub(super) struct Patience<'a> {
    waiting: &'a Waiting,
    since: Instant,
    told: Option<(String, Instant)>,
}

impl Patience<'_> {
    /// `what` follows "waits for".
    pub(super) fn tell(&mut self, what: &str) {
        self.waiting.set(Some(what.to_owned()));
        if self.is_due(what, Instant::now()) {
            tracing::info!(waits_for = what, "not in the cluster yet");
        } else {
            tracing::debug!(waits_for = what, "not in the cluster yet");
        }
    }

    fn is_due(&mut self, what: &str, now: Instant) -> bool {
        if now.duration_since(self.since) < TELL_AFTER {
            return false;
        }
        let due = match &self.told {
            Some((before, at)) => before != what || now.duration_since(*at) >= TELL_EVERY,
            None => true,
        };
        if due {
            self.told = Some((what.to_owned(), now));
        }
        due
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        self.waiting.set(None);
    }
}

impl Core {
    pub(super) fn patience(&self) -> Patience<'_> {
        Patience {
            waiting: &self.waiting,
            since: Instant::now(),
            told: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_no_news_and_a_long_one_is_told_now_and_then() {
        let waiting = Waiting::default();
        let since = Instant::now();
        let mut patience = Patience {
            waiting: &waiting,
            since,
            told: None,
        };
        let mut due = |what, seconds| patience.is_due(what, since + Duration::from_secs(seconds));
        assert!(!due("a", 0));
        assert!(due("a", 1) && !due("a", 2) && !due("a", 10));
        assert!(due("b", 3), "something else");
        assert!(!due("b", 12) && due("b", 13));
        patience.tell("c");
        assert_eq!(waiting.now().as_deref(), Some("c"));
        drop(patience);
        assert_eq!(waiting.now(), None);
    }
}
