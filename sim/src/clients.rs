//! Those who push.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::invariants::Event;
use crate::process::Run;
use crate::records::{Client, Records, Sender};
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
        let mut sender = Sender::new(&self, Client::Load, client);
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

    pub(crate) async fn push_to_any(&self, records: &Records, pick: u64) -> bool {
        let runs = self.runs();
        let takers = runs.iter().filter(|run| run.pushes.is_some());
        let takers: Vec<&Run> = takers.collect();
        let at = pick.checked_rem(takers.len() as u64);
        match at.and_then(|at| takers.get(at as usize)) {
            Some(taker) => self.push(taker, records).await,
            None => false,
        }
    }

    /// Whether the records are acknowledged.
    pub(crate) async fn push(&self, run: &Run, records: &Records) -> bool {
        let Some(router) = &run.pushes else {
            return false;
        };
        let numbers = &records.numbers;
        let bytes = records.body.len() as u64;
        let request = Request::post("/loki/api/v1/push")
            .header("content-type", "application/json")
            .header("x-scope-orgid", records.tenant.as_str())
            .body(Body::from(records.body.clone()));
        let pushed = run.life.live(answer(router.clone(), request));
        let (by, first) = (&run.life.address, numbers.first().copied().unwrap_or(0));
        let count = numbers.len() as u64;
        match timeout(PATIENCE, pushed).await {
            Ok(Some(Ok(()))) => {
                self.trace
                    .tell(format_args!("{by} acknowledges {count} from {first}"));
                let mut tally = self.tally.lock();
                tally.acknowledged += count;
                tally.acknowledged_bytes += bytes;
                drop(tally);
                self.checks.see(&Event::Acknowledged(numbers.clone()));
                true
            }
            Ok(Some(Err((StatusCode::BAD_REQUEST, refusals)))) => {
                let how = format!("{by} refuses good records: {refusals}");
                self.checks.fail("good_records_are_taken", how);
                false
            }
            Ok(Some(Err((status, error)))) => {
                let what =
                    format_args!("{by} does not take {count} from {first}: {status} {error}");
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

/// What is wrong with the answer to a push, if anything.
async fn answer(
    router: Router,
    request: Result<Request<Body>, axum::http::Error>,
) -> Result<(), (StatusCode, String)> {
    let wrong = |error: &dyn std::fmt::Display| (StatusCode::BAD_REQUEST, error.to_string());
    let request = request.map_err(|error| wrong(&error))?;
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    if status == StatusCode::NO_CONTENT {
        return Ok(());
    }
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| wrong(&error))?.to_bytes();
    Err((status, String::from_utf8_lossy(&body).trim_end().to_owned()))
}
