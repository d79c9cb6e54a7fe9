//! Somebody who raises the number of shards while all else goes on
//! (`docs/adr/0020-shards-are-raised-by-a-ring.md`).

use std::sync::Arc;
use std::time::Duration;

use rpc::{Command, MetaApi};
use tokio::time::timeout;

use crate::dice::Dice;
use crate::process::Run;
use crate::world::{Purpose, World};

/// Between two raises.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the last raise ends: every query looks at all of them.
const SHARDS_MAX: u32 = 24;

impl World {
    /// Never returns. Asks whichever process for more shards, in half of the seeds.
    pub(crate) async fn raise_shards_now_and_then(self: Arc<Self>) {
        let dice = Dice::new(self.seed, Purpose::Raises as u64);
        if dice.below(2) == 0 {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(dice.between(PAUSE.0, PAUSE.1)).await;
            let more = 1 + dice.below(4) as u32;
            let Some(Run { node, life, .. }) = dice.pick(&self.runs()).cloned() else {
                continue;
            };
            let Some(node) = node else { continue };
            let shape = node.catalog().cluster.shape;
            let shards = shape.map_or(SHARDS_MAX, |shape| shape.shards) + more;
            if shards > SHARDS_MAX {
                continue;
            }
            let raise = node.propose(Command::RaiseShards(shards));
            let told = life.live(timeout(PATIENCE, raise)).await;
            self.trace.tell(format_args!(
                "{} is told of {shards} shards: {told:?}",
                life.address
            ));
        }
    }
}
