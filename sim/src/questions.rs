//! Those who ask: for the records of one tenant or of several, as lines or as a count.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use model::{NANOS_PER_SECOND, Timestamp};
use rpc::MetaApi;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use crate::clients::PATIENCE;
use crate::dice::Dice;
use crate::invariants::{Event, Kept, RecordNumber};
use crate::process::Run;
use crate::records::tenant;
use crate::world::{Purpose, World};

/// One query asks twice for the number of all records; the numbers come out in one value.
const TWICE: u64 = 10_000_000;
const ALL: &str = r#"{app=~".+"}"#;
/// Clocks are off by less.
const RANGE_HOURS: i64 = 36;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Lines,
    Counts,
}

/// What is asked, and of whose records.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) form: Form,
    pub(crate) tenants: BTreeSet<u64>,
}

impl World {
    /// Asks now and then, one question at a time.
    pub(crate) async fn ask_now_and_then(self: Arc<Self>) {
        let dice = Dice::new(self.seed, Purpose::Queries as u64);
        loop {
            let pause = dice.between(Duration::from_millis(100), Duration::from_millis(2500));
            tokio::time::sleep(pause).await;
            let runs = self.runs();
            let askable: Vec<&Run> = runs.iter().filter(|run| run.queries.is_some()).collect();
            let form = match dice.chance(700) {
                true => Form::Lines,
                false => Form::Counts,
            };
            let some = 1 + dice.below(2);
            let tenants = (0..some).map(|_| dice.below(self.plan.tenants)).collect();
            if let Some(run) = dice.pick(&askable) {
                self.ask(run, &Question { form, tenants }).await;
            }
        }
    }

    /// Whether there was an answer; the checks see what it was.
    pub(crate) async fn ask(&self, run: &Run, question: &Question) -> bool {
        let Some(router) = &run.queries else {
            return false;
        };
        let version = run.node.as_ref().map_or(0, |node| node.catalog().version);
        let until = self.history.lock().get(&run.life.number).copied();
        let views_read = until.is_some_and(|until| until >= Instant::now());
        self.checks.see(&Event::QueryBegins {
            alone: !views_read && !self.net.does_shares(run.life.number),
            tenants: question.tenants.clone(),
            life: run.life.number,
            version,
        });
        let clock = self
            .site(&run.life.address)
            .map(|site| Arc::clone(&site.clock));
        let began = clock.as_ref().map(|clock| (clock.now(), clock.changes()));
        let address = self.address(question.form);
        let asked = send(router.clone(), Method::GET, &question.tenants, address);
        let answer = match timeout(PATIENCE, run.life.live(asked)).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err("no answer".to_owned()),
        };
        let ended = clock.as_ref().map(|clock| (clock.now(), clock.changes()));
        let kept = self.kept(began, ended);
        let by = &run.life.address;
        let event = match answer.and_then(|answer| read(question.form, kept, &answer)) {
            Ok(event) => event,
            Err(error) => {
                self.trace
                    .tell(format_args!("{by} does not answer: {error}"));
                self.tally.lock().unanswered += 1;
                self.checks.see(&Event::QueryFailed);
                return false;
            }
        };
        let of = &question.tenants;
        match &event {
            Event::Found { records, .. } => {
                let digest = crate::net::digest(records);
                let count = records.len();
                self.trace
                    .tell(format_args!("{by} finds {count} of {of:?}, {digest:x}"));
            }
            event => self.trace.tell(format_args!("{by} of {of:?}: {event:?}")),
        }
        self.tally.lock().answered += 1;
        self.checks.see(&event);
        true
    }

    /// What retention lets an answer show, from what the clock of the asked querier showed, and how
    /// often it had been set, when the query began and when it ended.
    fn kept(&self, began: Option<(Timestamp, u64)>, ended: Option<(Timestamp, u64)>) -> Kept {
        let retention = i64::try_from(self.plan.ingester.retention.as_nanos());
        let retention = retention.unwrap_or(i64::MAX);
        match (began, ended) {
            _ if retention == 0 => Kept::ALL,
            (Some((first, before)), Some((last, after))) if before == after => Kept {
                must_from: last.max(self.now()).saturating_sub(retention),
                may_from: first.saturating_sub(retention),
            },
            // Nobody knows which time the querier saw.
            _ => Kept::ANY,
        }
    }

    fn address(&self, form: Form) -> String {
        let (now, hour) = (self.now(), 3600 * NANOS_PER_SECOND);
        match form {
            Form::Lines => format!(
                "/loki/api/v1/query_range?limit=1000000&start={}&end={}&query={}",
                now - RANGE_HOURS * hour,
                now + hour,
                escaped(ALL)
            ),
            Form::Counts => {
                let count = format!("sum(count_over_time({ALL}[{RANGE_HOURS}h]))");
                let query = format!("{count} * {TWICE} + {count}");
                let time = now + 60 * NANOS_PER_SECOND;
                let query = escaped(&query);
                format!("/loki/api/v1/query?time={time}&query={query}")
            }
        }
    }
}

/// The answer to one request, if it is a good one; `Null` when it says nothing.
pub(crate) async fn send(
    router: Router,
    method: Method,
    tenants: &BTreeSet<u64>,
    address: String,
) -> Result<Value, String> {
    let names: Vec<String> = tenants.iter().map(|at| tenant(*at).to_string()).collect();
    let request = Request::builder().method(method).uri(address);
    let request = request.header("x-scope-orgid", names.join("|"));
    let request = request.body(Body::empty());
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
        StatusCode::NO_CONTENT => Ok(Value::Null),
        _ => Err(format!("{status} {}", String::from_utf8_lossy(&body))),
    }
}

/// What an answer says.
fn read(form: Form, kept: Kept, answer: &Value) -> Result<Event, String> {
    let results = answer["data"]["result"].as_array();
    let results = results.ok_or_else(|| format!("no result in {answer}"))?;
    match form {
        Form::Lines => {
            let values = results
                .iter()
                .filter_map(|stream| stream["values"].as_array());
            let lines = values.flatten().filter_map(|value| value[1].as_str());
            let records = lines.map(number_in).collect::<Result<_, _>>()?;
            Ok(Event::Found { records, kept })
        }
        Form::Counts => {
            let value = results
                .first()
                .map_or("0", |sample| sample["value"][1].as_str().unwrap_or("none"));
            let value: u64 = value.parse().map_err(|_| format!("no number: {answer}"))?;
            Ok(Event::Counted {
                once: value / TWICE,
                again: value % TWICE,
                kept,
            })
        }
    }
}

pub(crate) fn number_in(line: &str) -> Result<RecordNumber, String> {
    let number = line
        .strip_prefix('r')
        .and_then(|rest| rest.split(' ').next());
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("a line that nobody sent: {line:?}"))
}

/// For a place in an address.
pub(crate) fn escaped(text: &str) -> String {
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
