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
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

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
/// When a caller that is gone may be heard of last: a ping after 5 s, and none back for as long. And how
/// often only a ping tells, in a thousand.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const SILENT: u64 = 150;

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
    /// To whom what is sent is stuck on its way, until when.
    stalls: Mutex<BTreeMap<Arc<str>, Instant>>,
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
    /// When it comes again, and how long that is worked on.
    again: Option<(Duration, Duration)>,
    /// Whether who is not heard is waited for; otherwise the connection breaks at once.
    hangs: bool,
    /// So long after the caller has hung up or crashed, the other side hears of it and stops.
    heard_after: Duration,
}

/// One call, and who makes it.
#[derive(Clone)]
struct Call {
    from: Arc<Life>,
    to: Arc<str>,
    what: &'static str,
    /// Its length.
    bytes: usize,
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
            stalls: Mutex::default(),
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

    /// For so long, what is sent to an address is stuck: callers give it up as lost, and it comes in the
    /// end.
    pub(crate) fn stall(&self, to: &Arc<str>, time: Duration) {
        let until = Instant::now() + time.min(COPY_LATE_MAX);
        self.stalls.lock().insert(Arc::clone(to), until);
    }

    fn stalled_until(&self, to: &str) -> Option<Instant> {
        let until = self.stalls.lock().get(to).copied();
        until.filter(|until| *until > Instant::now())
    }

    /// All wires are whole again.
    pub(crate) fn mend(&self) {
        self.cuts.lock().clear();
        self.stalls.lock().clear();
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
            again: again.then(|| {
                let late = dice.between(Duration::ZERO, COPY_LATE_MAX);
                let worked_on = [Duration::ZERO, Duration::from_secs(1), CALL_PATIENCE];
                let worked_on = worked_on[dice.below(3) as usize];
                (late, dice.between(Duration::ZERO, worked_on))
            }),
            hangs: dice.chance(500),
            heard_after: match dice.chance(SILENT) {
                true => dice.between(Duration::ZERO, SILENCE_MAX),
                false => way(),
            },
        }
    }

    /// Carries a call there and its answer back. As with a server, what is done there goes on for a
    /// moment when the caller has hung up or crashed, and is then dropped wherever it waits.
    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        call: Call,
        serve: Serve<T>,
    ) -> Result<T, Error> {
        call.from.halt_if_over().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut fate = self.fate();
        if let Some(until) = self.stalled_until(&call.to) {
            let left = until.saturating_duration_since(Instant::now());
            fate.lost_there = true;
            let late = self.dice.between(left, COPY_LATE_MAX);
            fate.again = Some((late, CALL_PATIENCE));
        }
        let hangs = fate.hangs;
        if let Some((late, worked_on)) = fate.again.filter(|_| call.what != "share") {
            let (net, call, serve) = (Arc::clone(self), call.clone(), Arc::clone(&serve));
            tokio::spawn(async move { net.carry_again(&call, late, worked_on, serve).await });
        }
        let (tell, told) = oneshot::channel();
        tokio::spawn(Arc::clone(self).carry(call.clone(), fate, serve, tell));
        let Call { from, to, what, .. } = &call;
        let answer = match timeout(CALL_PATIENCE, told).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) if hangs => {
                tokio::time::sleep(CALL_PATIENCE).await;
                Err(broken(to, "it did not answer in time"))
            }
            Ok(Ok(None)) => Err(broken(to, "the connection was lost")),
            Ok(Err(_)) => Err(Error::Internal(format!("{what} ended by a panic"))),
            Err(_) => Err(broken(to, "it did not answer in time")),
        };
        from.halt_if_over().await;
        if *what != "raft" || answer.is_err() {
            let from = &from.address;
            match answer.as_ref().err() {
                None => self.trace.tell(format_args!("{from}>{to} {what}")),
                Some(error) => self.trace.tell(format_args!("{from}>{to} {what}: {error}")),
            }
        }
        answer
    }

    /// Tells the answer, `None` when the call or its answer is lost; nothing when nobody waits.
    async fn carry<T: Send + 'static>(
        self: Arc<Self>,
        call: Call,
        fate: Fate,
        serve: Serve<T>,
        mut tell: oneshot::Sender<Option<Result<T, Error>>>,
    ) {
        let answer = tokio::select! {
            biased;
            answer = self.there_and_back(&call, &fate, serve) => answer,
            () = self.hung_up(&call, &fate, &mut tell) => return,
        };
        // Who called may have left at this very moment.
        drop(tell.send(answer));
    }

    /// Returns when the other side has heard that the caller is gone.
    async fn hung_up<T>(&self, call: &Call, fate: &Fate, tell: &mut oneshot::Sender<T>) {
        tokio::select! {
            biased;
            () = tell.closed() => {}
            () = call.from.over() => {}
        }
        tokio::time::sleep(fate.heard_after).await;
        if !self.passes(&call.from.address, &call.to) {
            tokio::time::sleep(SILENCE_MAX).await;
        }
    }

    async fn there_and_back<T>(
        &self,
        call: &Call,
        fate: &Fate,
        serve: Serve<T>,
    ) -> Option<Result<T, Error>> {
        let Call { from, to, .. } = call;
        let cost = self.costs.of_call(call.what, call.bytes);
        tokio::time::sleep(fate.there + cost.way).await;
        if fate.lost_there || !self.passes(&from.address, to) {
            return None;
        }
        let door = match self.door(to) {
            Ok(door) => door,
            Err(error) => return Some(Err(error)),
        };
        let (life, processor) = (Arc::clone(&door.life), Arc::clone(&door.processor));
        let served = async move {
            processor.work(cost.processor).await;
            serve(door).await
        };
        let lost = || Some(Err(broken(to, "the connection was lost")));
        let Some(answer) = life.live(served).await else {
            return lost();
        };
        tokio::time::sleep(fate.back).await;
        if life.is_over() {
            return lost();
        }
        match fate.lost_back || !self.passes(to, &from.address) {
            true => None,
            false => Some(answer),
        }
    }

    /// Carries a call that comes late, whatever became of it before: as one that was stuck on its way.
    /// Nobody waits for its answer.
    async fn carry_again<T>(
        &self,
        call: &Call,
        late: Duration,
        worked_on: Duration,
        serve: Serve<T>,
    ) {
        tokio::time::sleep(late).await;
        if !self.passes(&call.from.address, &call.to) {
            return;
        }
        if let Ok(door) = self.door(&call.to) {
            let (from, to, what) = (&call.from.address, &call.to, call.what);
            self.trace
                .tell(format_args!("{from}>{to} {what} comes late"));
            let life = Arc::clone(&door.life);
            drop(timeout(worked_on, life.live(serve(door))).await);
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
