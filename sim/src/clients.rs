//! Those who push.

use std::sync::Arc;
use std::time::Duration;

use distributor::{Format, Push};
use proto::Encoding;
use tokio::time::timeout;

use crate::invariants::Event;
use crate::process::Run;
use crate::records::{Records, Sender};
use crate::world::World;

/// How long a client waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);
/// How often it sends the same records, and when.
const TRIES_MAX: u64 = 3;
const AGAIN_AFTER: Duration = Duration::from_millis(500);

impl World {
    /// Sends records now and then, by whichever distributor; each once, or again when it was not
    /// told that they are stored.
    pub(crate) async fn push_now_and_then(self: Arc<Self>, client: u64) {
        let mut sender = Sender::new(&self, client);
        loop {
            let pause = (Duration::from_millis(10), Duration::from_millis(700));
            tokio::time::sleep(sender.dice.between(pause.0, pause.1)).await;
            let records = sender.small(&self);
            for _ in 0..1 + sender.dice.below(TRIES_MAX) {
                let pick = sender.dice.next();
                if self.push_to_any(&records, pick).await {
                    break;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Sends records until somebody says that they are stored.
    pub(crate) async fn insist(&self, records: Records) {
        let mut pick = records.numbers.len() as u64;
        while !self.push_to_any(&records, pick).await {
            pick += 1;
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn push_to_any(&self, records: &Records, pick: u64) -> bool {
        let runs = self.runs();
        let takers = runs.iter().filter(|run| run.distributor.is_some());
        let takers: Vec<&Run> = takers.collect();
        let at = pick.checked_rem(takers.len() as u64);
        match at.and_then(|at| takers.get(at as usize)) {
            Some(taker) => self.push(taker, records).await,
            None => false,
        }
    }

    /// Whether the records are acknowledged.
    pub(crate) async fn push(&self, run: &Run, records: &Records) -> bool {
        let Some(distributor) = &run.distributor else {
            return false;
        };
        let numbers = &records.numbers;
        let bytes = records.body.len() as u64;
        let push = Push {
            tenant: records.tenant.clone(),
            format: Format::LokiJson,
            encoding: Encoding::Identity,
            body: records.body.clone(),
        };
        let pushed = run.life.live(distributor.push(push));
        let (by, first) = (&run.life.address, numbers.first().copied().unwrap_or(0));
        let count = numbers.len() as u64;
        match timeout(PATIENCE, pushed).await {
            Ok(Some(Ok(outcome))) if outcome.records == count => {
                self.trace
                    .tell(format_args!("{by} acknowledges {count} from {first}"));
                let mut tally = self.tally.lock();
                tally.acknowledged += count;
                tally.acknowledged_bytes += bytes;
                drop(tally);
                self.checks.see(&Event::Acknowledged(numbers.clone()));
                true
            }
            Ok(Some(Ok(outcome))) => {
                let how = format!("{by} refuses good records: {:?}", outcome.refusals);
                self.checks.fail("good_records_are_taken", how);
                false
            }
            Ok(Some(Err(error))) => {
                let what = format_args!("{by} does not take {count} from {first}: {error}");
                self.trace.tell(what);
                false
            }
            Ok(None) | Err(_) => {
                self.trace
                    .tell(format_args!("{by} says nothing of {count} from {first}"));
                false
            }
        }
    }
}
