//! Those who push and those who ask.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use distributor::{Format, Push};
use http_body_util::BodyExt;
use model::{NANOS_PER_SECOND, TenantId};
use proto::Encoding;
use serde_json::Value;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::dice::Dice;
use crate::invariants::{Event, RecordNumber};
use crate::process::Run;
use crate::records::{Records, Sender};
use crate::world::{Purpose, World};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(25);
/// How often it sends the same records, and when.
const TRIES_MAX: u64 = 3;
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// One query asks twice for the number of all records; the numbers come out in one value.
const TWICE: u64 = 10_000_000;

const ALL: &str = r#"{app=~".+"}"#;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Lines,
    Counts,
}

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
            tenant: TenantId::default(),
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

    /// Asks now and then, one question at a time.
    pub(crate) async fn ask_now_and_then(self: Arc<Self>) {
        let dice = Dice::new(self.seed, Purpose::Queries as u64);
        loop {
            let pause = dice.between(Duration::from_millis(100), Duration::from_millis(2500));
            tokio::time::sleep(pause).await;
            let runs = self.runs();
            let askable: Vec<&Run> = runs.iter().filter(|run| run.queries.is_some()).collect();
            let question = match dice.chance(700) {
                true => Question::Lines,
                false => Question::Counts,
            };
            if let Some(run) = dice.pick(&askable) {
                self.ask(run, question).await;
            }
        }
    }

    /// Whether there was an answer; the checks see what it was.
    pub(crate) async fn ask(&self, run: &Run, question: Question) -> bool {
        let Some(router) = &run.queries else {
            return false;
        };
        self.checks.see(&Event::QueryBegins);
        let asked = run.life.live(get(router.clone(), self.address(question)));
        let answer = match timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err("no answer".to_owned()),
        };
        let by = &run.life.address;
        let event = match answer.and_then(|answer| read(question, &answer)) {
            Ok(event) => event,
            Err(error) => {
                self.trace
                    .tell(format_args!("{by} does not answer: {error}"));
                self.tally.lock().unanswered += 1;
                self.checks.see(&Event::QueryFailed);
                return false;
            }
        };
        match &event {
            Event::Found(found) => {
                let digest = crate::net::digest(found);
                self.trace
                    .tell(format_args!("{by} finds {}, {digest:x}", found.len()));
            }
            event => self.trace.tell(format_args!("{by}: {event:?}")),
        }
        self.tally.lock().answered += 1;
        self.checks.see(&event);
        true
    }

    fn address(&self, question: Question) -> String {
        let (now, hour) = (self.now(), 3600 * NANOS_PER_SECOND);
        match question {
            Question::Lines => format!(
                "/loki/api/v1/query_range?limit=1000000&start={}&end={}&query={}",
                now - 24 * hour,
                now + hour,
                escaped(ALL)
            ),
            Question::Counts => {
                let count = format!("sum(count_over_time({ALL}[24h]))");
                let query = format!("{count} * {TWICE} + {count}");
                let time = now + 60 * NANOS_PER_SECOND;
                let query = escaped(&query);
                format!("/loki/api/v1/query?time={time}&query={query}")
            }
        }
    }
}

async fn get(router: Router, address: String) -> Result<Value, String> {
    let request = Request::get(address).body(Body::empty());
    let request = request.map_err(|error| error.to_string())?;
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|error| error.to_string()),
        _ => Err(format!("{status} {}", String::from_utf8_lossy(&body))),
    }
}

/// What an answer says.
fn read(question: Question, answer: &Value) -> Result<Event, String> {
    let results = answer["data"]["result"].as_array();
    let results = results.ok_or_else(|| format!("no result in {answer}"))?;
    match question {
        Question::Lines => {
            let values = results
                .iter()
                .filter_map(|stream| stream["values"].as_array());
            let lines = values.flatten().filter_map(|value| value[1].as_str());
            let numbers = lines.map(number_in);
            Ok(Event::Found(numbers.collect::<Result<_, _>>()?))
        }
        Question::Counts => {
            let value = results
                .first()
                .map_or("0", |sample| sample["value"][1].as_str().unwrap_or("none"));
            let value: u64 = value.parse().map_err(|_| format!("no number: {answer}"))?;
            Ok(Event::Counted {
                once: value / TWICE,
                again: value % TWICE,
            })
        }
    }
}

fn number_in(line: &str) -> Result<RecordNumber, String> {
    let number = line
        .strip_prefix('r')
        .and_then(|rest| rest.split(' ').next());
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("a line that nobody sent: {line:?}"))
}

/// For a place in an address.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => escaped.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}
