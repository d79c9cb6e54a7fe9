//! The way of one process to object storage.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use testkit::{BucketLink, Operation};
use tokio::time::Instant;

use crate::dice::Dice;
use crate::invariants::{Checks, Event};
use crate::life::{EPOCH, Life};
use crate::trace::Trace;

/// How the bucket fares; chances are in a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketWeather {
    pub(crate) away: bool,
    pub(crate) fails: u64,
    pub(crate) way_min: Duration,
    pub(crate) way_max: Duration,
}

impl BucketWeather {
    pub(crate) const FAIR: BucketWeather = BucketWeather {
        away: false,
        fails: 0,
        way_min: Duration::from_millis(2),
        way_max: Duration::from_millis(20),
    };
}

/// How long a bucket that is away is waited for.
const AWAY_MAX: Duration = Duration::from_secs(10);

/// What all ways have in common.
pub(crate) struct BucketSky {
    pub(crate) began: Instant,
    pub(crate) weather: Mutex<BucketWeather>,
    pub(crate) dice: Dice,
    pub(crate) trace: Arc<Trace>,
    pub(crate) checks: Arc<Checks>,
}

/// One run's way to the bucket.
pub(crate) struct BucketWay {
    pub(crate) sky: Arc<BucketSky>,
    pub(crate) life: Arc<Life>,
    /// Whether what is read is read for queries.
    pub(crate) queries: bool,
}

impl BucketWay {
    async fn pass(&self) -> bool {
        self.life.halt_if_over().await;
        let weather = *self.sky.weather.lock();
        let dice = &self.sky.dice;
        if weather.away {
            self.life
                .pause(dice.between(Duration::ZERO, AWAY_MAX))
                .await;
            return false;
        }
        let way = dice.between(weather.way_min, weather.way_max);
        let fails = dice.chance(weather.fails);
        self.life.pause(way).await;
        !fails
    }
}

#[async_trait]
impl BucketLink for BucketWay {
    async fn there(&self, operation: Operation, path: &str, bytes: u64) -> bool {
        let of = &self.life.address;
        self.sky
            .trace
            .tell(format_args!("{of} {operation:?} {path} {bytes}"));
        if self.queries && operation == Operation::Get {
            let path = path.to_owned();
            let life = self.life.number;
            self.sky.checks.see(&Event::Read { life, path });
        }
        self.pass().await
    }

    async fn back(&self, _operation: Operation, _path: &str, _bytes: u64) -> bool {
        self.pass().await
    }

    fn now(&self) -> SystemTime {
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_nanos(EPOCH as u64);
        epoch + self.sky.began.elapsed()
    }
}

impl fmt::Debug for BucketWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketWay")
            .field("of", &self.life.address)
            .finish_non_exhaustive()
    }
}
