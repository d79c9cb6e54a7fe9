//! The network: carries calls of ports between processes, late, twice, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use ingester::Ingester;
use meta::Node;
use parking_lot::Mutex;
use querier::Querier;
use rpc::Error;

use crate::cost::{Costs, Processor};
use crate::dice::Dice;
use crate::invariants::Checks;
use crate::life::Life;
use crate::trace::Trace;

mod ports;
mod shares;
mod tail;

pub(crate) use ports::{Wires, Within};

/// As `rpc::remote` waits by default.
const CALL_PATIENCE: Duration = Duration::from_secs(30);
/// A copy of a message comes at most so much later.
const COPY_LATE_MAX: Duration = Duration::from_secs(9);

/// How messages fare; chances are in a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Of a call, or of its answer, to be lost.
    pub(crate) lost: u64,
    /// Of a call to come a second time.
    pub(crate) doubled: u64,
    /// Of a message to be late, which lets others overtake it.
    pub(crate) late: u64,
    pub(crate) late_max: Duration,
    /// How long any message takes.
    pub(crate) way_min: Duration,
    pub(crate) way_max: Duration,
}

impl Weather {
    pub(crate) const FAIR: Weather = Weather {
        lost: 0,
        doubled: 0,
        late: 0,
        late_max: Duration::ZERO,
        way_min: Duration::from_micros(200),
        way_max: Duration::from_millis(2),
    };
}

/// What listens at an address: the ports of one run of a process.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) life: Arc<Life>,
    pub(crate) meta: Option<Node>,
    pub(crate) ingester: Option<Ingester>,
    pub(crate) querier: Option<Querier>,
    pub(crate) processor: Arc<Processor>,
}

/// Everybody's wires.
pub(crate) struct Net {
    trace: Arc<Trace>,
    checks: Arc<Checks>,
    dice: Dice,
    costs: Costs,
    weather: Mutex<Weather>,
    /// From whom to whom nothing comes through.
    cuts: Mutex<BTreeSet<(Arc<str>, Arc<str>)>>,
    doors: Mutex<BTreeMap<Arc<str>, Door>>,
    calls: AtomicU64,
    /// How many shares of other queriers' queries runs are doing.
    shares: Mutex<BTreeMap<u64, u64>>,
}

/// What a process does with a call.
type Serve<T> = Arc<dyn Fn(Door) -> BoxFuture<'static, Result<T, Error>> + Send + Sync>;

/// What becomes of one call.
struct Fate {
    there: Duration,
    back: Duration,
    lost_there: bool,
    lost_back: bool,
    /// When it comes again.
    again: Option<Duration>,
    /// Whether who is not heard is waited for; otherwise the connection breaks at once.
    hangs: bool,
}

impl Net {
    pub(crate) fn new(trace: Arc<Trace>, checks: Arc<Checks>, dice: Dice, costs: Costs) -> Self {
        Net {
            trace,
            checks,
            dice,
            costs,
            weather: Mutex::new(Weather::FAIR),
            cuts: Mutex::default(),
            doors: Mutex::default(),
            calls: AtomicU64::new(0),
            shares: Mutex::default(),
        }
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    /// Nothing comes from one to the other any more; the other way is another cut.
    pub(crate) fn cut(&self, from: &Arc<str>, to: &Arc<str>) {
        let way = (Arc::clone(from), Arc::clone(to));
        self.cuts.lock().insert(way);
    }

    /// All wires are whole again.
    pub(crate) fn mend(&self) {
        self.cuts.lock().clear();
    }

    pub(crate) fn open(&self, door: Door) {
        let address = Arc::clone(&door.life.address);
        self.doors.lock().insert(address, door);
    }

    /// The run answers queriers, too.
    pub(crate) fn add_querier(&self, life: &Life, querier: Querier) {
        let mut doors = self.doors.lock();
        if let Some(door) = doors.get_mut(&life.address)
            && door.life.number == life.number
        {
            door.querier = Some(querier);
        }
    }

    pub(crate) fn close(&self, address: &str) {
        self.doors.lock().remove(address);
    }

    /// How many calls were made so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn passes(&self, from: &Arc<str>, to: &Arc<str>) -> bool {
        let cuts = self.cuts.lock();
        !cuts.contains(&(Arc::clone(from), Arc::clone(to)))
    }

    fn door(&self, address: &str) -> Result<Door, Error> {
        let doors = self.doors.lock();
        let door = doors.get(address).filter(|door| !door.life.is_over());
        door.cloned()
            .ok_or_else(|| broken(address, "nobody listens"))
    }

    fn fate(&self) -> Fate {
        let (weather, dice) = (*self.weather.lock(), &self.dice);
        let way = || {
            let way = dice.between(weather.way_min, weather.way_max);
            match dice.chance(weather.late) {
                true => way + dice.between(Duration::ZERO, weather.late_max),
                false => way,
            }
        };
        let again = dice.chance(weather.doubled);
        Fate {
            there: way(),
            back: way(),
            lost_there: dice.chance(weather.lost),
            lost_back: dice.chance(weather.lost),
            again: again.then(|| dice.between(Duration::ZERO, COPY_LATE_MAX)),
            hangs: dice.chance(500),
        }
    }

    /// Carries a call there and its answer back. `bytes` are those of the call.
    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        from: &Arc<Life>,
        to: &Arc<str>,
        what: &'static str,
        bytes: usize,
        serve: Serve<T>,
    ) -> Result<T, Error> {
        from.halt_if_over().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fate = self.fate();
        let hangs = fate.hangs;
        let carry = self.carry(from, to, what, bytes, fate, serve);
        let carried = tokio::time::timeout(CALL_PATIENCE, carry).await;
        let answer = match carried {
            Ok(Some(answer)) => answer,
            Ok(None) if hangs => {
                tokio::time::sleep(CALL_PATIENCE).await;
                Err(broken(to, "it did not answer in time"))
            }
            Ok(None) => Err(broken(to, "the connection was lost")),
            Err(_) => Err(broken(to, "it did not answer in time")),
        };
        from.halt_if_over().await;
        if what != "raft" || answer.is_err() {
            let failed = answer.as_ref().err();
            let from = &from.address;
            match failed {
                None => self.trace.tell(format_args!("{from}>{to} {what}")),
                Some(error) => self.trace.tell(format_args!("{from}>{to} {what}: {error}")),
            }
        }
        answer
    }

    /// `None` when the call or its answer is lost.
    async fn carry<T: Send + 'static>(
        self: &Arc<Self>,
        from: &Arc<Life>,
        to: &Arc<str>,
        what: &'static str,
        bytes: usize,
        fate: Fate,
        serve: Serve<T>,
    ) -> Option<Result<T, Error>> {
        let cost = self.costs.of_call(what, bytes);
        from.pause(fate.there + cost.way).await;
        if fate.lost_there || !self.passes(&from.address, to) {
            return None;
        }
        let door = match self.door(to) {
            Ok(door) => door,
            Err(error) => return Some(Err(error)),
        };
        let goes_on = what != "share";
        if let Some(late) = fate.again.filter(|_| goes_on) {
            let (net, to, serve) = (Arc::clone(self), Arc::clone(to), Arc::clone(&serve));
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                if let Ok(door) = net.door(&to) {
                    let life = Arc::clone(&door.life);
                    // Nobody waits for its answer.
                    drop(life.live(serve(door)).await);
                }
            });
        }
        let life = Arc::clone(&door.life);
        let served = async move {
            let life = Arc::clone(&door.life);
            let processor = Arc::clone(&door.processor);
            let serve = async move {
                processor.work(cost.processor).await;
                serve(door).await
            };
            life.live(serve).await
        };
        let served = match goes_on {
            // As with a server: it goes on when the caller has gone.
            true => tokio::spawn(served).await,
            false => Ok(served.await),
        };
        let answer = match served {
            Ok(Some(answer)) => answer,
            Ok(None) => return Some(Err(broken(to, "the connection was lost"))),
            Err(error) => return Some(Err(Error::Internal(error.to_string()))),
        };
        from.pause(fate.back).await;
        if life.is_over() {
            return Some(Err(broken(to, "the connection was lost")));
        }
        match fate.lost_back || !self.passes(to, &from.address) {
            true => None,
            false => Some(answer),
        }
    }
}

fn broken(address: &str, how: &str) -> Error {
    Error::Unavailable(format!("node at {address}: {how}"))
}

/// A number of its own for each content; for traces.
pub(crate) fn digest(content: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
