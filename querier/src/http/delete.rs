//! `delete`: records that must go, and the list of what was asked for.
//!
//! A request hides its records from the moment that it is answered; ingesters remove them from
//! storage in the background.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{NANOS_PER_MILLI, NANOS_PER_SECOND, TimeRange, Timestamp};
use query::logql::engine::{RecordFilter, RecordFilterError};
use rpc::{Command, DeleteId, DeleteRequest};

use super::call::Call;
use super::duration::{parse_duration, print_go_duration};
use super::json::Json;
use super::params::{Params, parse_timestamp};
use super::tail::only_tenant;
use crate::{Error, Querier};

/// Seconds have so many digits at most; longer numbers are other units, which Loki refuses here.
const SECONDS_DIGITS_MAX: usize = 10;
const IN_PROCESS: &str =
    "deletion of request which is in process or already processed is not allowed";
const BEGUN: &str = "Unable to cancel partially completed delete request. \
     To force, use the ?force query parameter";
const UNKNOWN: &str = "could not find delete request with given id";

/// `POST` or `PUT /loki/api/v1/delete`
pub(super) async fn add(querier: State<Querier>, call: Call) -> Response {
    lines(request(querier, call).await)
}

/// Errors end their line here, as in Loki.
fn lines(answer: Result<Response, Error>) -> Response {
    match answer {
        Ok(response) => response,
        Err(error) => {
            let text = format!("{error}\n");
            let (mut parts, _) = error.into_response().into_parts();
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, text.into())
        }
    }
}

async fn request(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let now = querier.shared.now();
    let request = DeleteRequest {
        tenant: only_tenant(&call)?,
        query: query(call.params.query())?.into(),
        range: range(&call.params, now)?,
        created: now,
    };
    querier.propose(Command::RequestDelete(request)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /loki/api/v1/delete`
pub(super) async fn list(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let tenant = only_tenant(&call)?;
    let catalog = querier.shared.backend.meta.catalog();
    let active = catalog.deletes.iter();
    let active = active.map(|(id, delete)| (*id, &delete.request, "received"));
    let past = catalog.past_deletes.iter();
    let past = past.map(|(id, request)| (*id, &**request, "processed"));
    let mut requests: Vec<_> = active
        .chain(past)
        .filter(|(_, request, _)| request.tenant == tenant)
        .collect();
    requests.sort_by_key(|(id, request, _)| (request.created, *id));
    let mut json = Json::default();
    json.array(|json| {
        for (id, request, status) in requests {
            json.object(|json| {
                json.key("request_id").string(&format!("{:08x}", id.0));
                seconds(json.key("start_time"), request.range.start);
                seconds(json.key("end_time"), request.range.end.saturating_sub(1));
                json.key("query").string(&request.query);
                json.key("status").string(status);
                seconds(json.key("created_at"), request.created);
            });
        }
    });
    Ok(super::json_as("application/json", json))
}

/// `DELETE /loki/api/v1/delete`: takes a request back. What was removed from storage already is
/// gone: such a request is only taken back with `force`.
pub(super) async fn cancel(querier: State<Querier>, call: Call) -> Response {
    lines(take_back(querier, call).await)
}

async fn take_back(State(querier): State<Querier>, call: Call) -> Result<Response, Error> {
    let tenant = only_tenant(&call)?;
    let id = call.params.get("request_id").unwrap_or_default();
    let unknown = || Error::NotFound(UNKNOWN.into());
    let id = DeleteId(u64::from_str_radix(id, 16).map_err(|_| unknown())?);
    let catalog = querier.shared.backend.meta.catalog();
    let past = catalog.past_deletes.get(&id);
    if past.is_some_and(|request| request.tenant == tenant) {
        return Err(Error::Invalid(IN_PROCESS.into()));
    }
    let active = catalog.deletes.get(&id);
    let active = active.filter(|delete| delete.request.tenant == tenant);
    if active.ok_or_else(unknown)?.begun && call.params.get("force") != Some("true") {
        return Err(Error::Invalid(BEGUN.into()));
    }
    match querier.propose(Command::CancelDelete(id)).await {
        Err(Error::Conflict(_)) => Err(Error::Invalid(IN_PROCESS.into())),
        done => done.map(|()| StatusCode::NO_CONTENT.into_response()),
    }
}

fn query(text: &str) -> Result<&str, Error> {
    if text.is_empty() {
        return Err(Error::Invalid("query not set".into()));
    }
    match RecordFilter::parse(text) {
        Ok(_) => Ok(text),
        Err(RecordFilterError::Stage(_)) => {
            Err(Error::Invalid("unsupported query expression".into()))
        }
        Err(RecordFilterError::Parse(_) | RecordFilterError::Compile(_)) => {
            Err(Error::Invalid("invalid query expression".into()))
        }
    }
}

/// Both ends belong to what is deleted.
fn range(params: &Params, now: Timestamp) -> Result<TimeRange, Error> {
    let wrong = |text: &str| Error::Invalid(text.into());
    let Some(start) = params.get("start") else {
        return Err(wrong("start time not set"));
    };
    let start = time(start)
        .ok_or_else(|| wrong("invalid start time: require unix seconds or RFC3339 format"))?;
    let end = match params.get("end") {
        None => now,
        Some(end) => time(end)
            .ok_or_else(|| wrong("invalid end time: require unix seconds or RFC3339 format"))?,
    };
    if end > now {
        return Err(wrong("deletes in the future are not allowed"));
    }
    if start >= end {
        return Err(wrong(
            "start time can't be greater than or equal to end time",
        ));
    }
    if let Some(text) = params.get("max_interval") {
        check_interval(text, end - start)?;
    }
    Ok(TimeRange::inclusive(start, end))
}

/// Loki splits requests into parts of this length; here a request is one, but a length that makes
/// no sense is refused all the same.
fn check_interval(text: &str, length: i64) -> Result<(), Error> {
    let interval = parse_duration(text).ok();
    let Some(interval) = interval.filter(|interval| *interval >= NANOS_PER_SECOND) else {
        let text = "invalid max_interval: valid time units are 's', 'm', 'h'";
        return Err(Error::Invalid(text.into()));
    };
    if interval > length {
        return Err(Error::Invalid(format!(
            "max_interval can't be greater than the interval to be deleted ({})",
            print_go_duration(length)
        )));
    }
    Ok(())
}

/// Seconds, with or without a fraction, or RFC 3339.
fn time(text: &str) -> Option<Timestamp> {
    let seconds = text.split('.').next().unwrap_or_default();
    let is_number = text.parse::<f64>().is_ok();
    if is_number && seconds.len() > SECONDS_DIGITS_MAX {
        return None;
    }
    parse_timestamp(text).ok()
}

/// Seconds to the millisecond.
fn seconds(json: &mut Json, at: Timestamp) {
    let millis = at.div_euclid(NANOS_PER_MILLI);
    let (whole, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    match millis {
        0 => json.raw(&whole.to_string()),
        millis => {
            let fraction = format!("{millis:03}");
            json.raw(&format!("{whole}.{}", fraction.trim_end_matches('0')));
        }
    }
}

impl Querier {
    /// Asks the coordinator for a change, no longer than a query may take.
    pub(super) async fn propose(&self, command: Command) -> Result<(), Error> {
        let shared = &self.shared;
        let patience = shared.config.query_timeout.max(Duration::from_secs(1));
        match tokio::time::timeout(patience, shared.backend.meta.propose(command)).await {
            Ok(done) => done.map(drop).map_err(Error::from),
            Err(_) => Err(Error::Timeout),
        }
    }
}
