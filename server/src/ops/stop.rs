//! Storing what is in memory, and ending in good order.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form as UrlEncoded, Router};
use tokio::sync::watch;

use super::Flushes;
use crate::admin::{answer, no_ingester};

/// In `data_dir` as long as the next stop is to be for good: a restart must not forget it.
const MARKER: &str = "prepared-for-shutdown";

/// How an operator wants the process to end. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StopRequest {
    marker: Arc<PathBuf>,
    /// `Some` when it is to end now; whether it is to leave the cluster.
    asked: watch::Sender<Option<bool>>,
}

impl StopRequest {
    pub(crate) fn new(data_dir: &std::path::Path) -> Self {
        StopRequest {
            marker: Arc::new(data_dir.join(MARKER)),
            asked: watch::Sender::new(None),
        }
    }

    /// Whether the next stop is to be for good: with everything stored, and no place in the ring.
    pub(crate) fn prepared(&self) -> bool {
        self.marker.exists()
    }

    fn prepare(&self) -> io::Result<()> {
        File::create(self.marker.as_path())?.sync_all()?;
        match self.marker.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Also when the process has ended as it was to.
    pub(crate) fn unprepare(&self) -> io::Result<()> {
        match std::fs::remove_file(self.marker.as_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends the process, and lets it leave the cluster first if `leave` says so.
    fn stop(&self, leave: bool) {
        self.asked.send_replace(Some(leave));
    }

    /// Waits until somebody wants the process to end; whether it is to leave the cluster.
    pub(crate) async fn asked(&self) -> bool {
        let mut asked = self.asked.subscribe();
        match asked.wait_for(Option::is_some).await {
            Ok(leave) => leave.unwrap_or(false),
            // The sender is in `self`.
            Err(_) => std::future::pending().await,
        }
    }
}

#[derive(Clone)]
struct Parts {
    flushes: Flushes,
    stop: StopRequest,
}

pub(super) fn router(flushes: Flushes, stop: StopRequest) -> Router {
    Router::new()
        .route("/admin/api/v1/flush", post(flush))
        .route("/flush", get(flush).post(flush))
        .route("/flush/tenant", get(flush).post(flush))
        .route(
            "/ingester/prepare_shutdown",
            get(is_prepared).post(prepare).delete(unprepare),
        )
        .route("/ingester/shutdown", get(shutdown).post(shutdown))
        .with_state(Parts { flushes, stop })
}

/// `/flush`, `/admin/api/v1/flush`, and `/flush/tenant`: a segment holds what arrived of all tenants, so that to store one
/// tenant's records is to store all.
async fn flush(State(parts): State<Parts>) -> Response {
    answer(parts.flushes.flush().await)
}

async fn is_prepared(State(parts): State<Parts>) -> Response {
    if !parts.flushes.has_ingester() {
        return answer(Err(no_ingester()));
    }
    let state = match parts.stop.prepared() {
        true => "set",
        false => "unset",
    };
    ([(header::CONTENT_TYPE, "text/plain")], state).into_response()
}

async fn prepare(State(parts): State<Parts>) -> Response {
    marked(&parts, StopRequest::prepare)
}

async fn unprepare(State(parts): State<Parts>) -> Response {
    marked(&parts, StopRequest::unprepare)
}

fn marked(parts: &Parts, mark: impl FnOnce(&StopRequest) -> io::Result<()>) -> Response {
    let marked = match parts.flushes.has_ingester() {
        true => mark(&parts.stop).map_err(|error| {
            let marker = parts.stop.marker.display();
            rpc::Error::Unavailable(format!("cannot change {marker}: {error}"))
        }),
        false => Err(no_ingester()),
    };
    answer(marked)
}

/// `/ingester/shutdown`: stores everything and ends the process; with `delete_ring_tokens=true` it
/// leaves the cluster first.
async fn shutdown(State(parts): State<Parts>, form: Form) -> Response {
    if !parts.flushes.has_ingester() {
        return answer(Err(no_ingester()));
    }
    let flag = |name: &str, default: bool| match form.get(name) {
        None | Some("") => Ok(default),
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(text) => Err(format!("{name}={text:?} is neither true nor false\n")),
    };
    let flags = flag("flush", true).and_then(|flush| {
        let leave = flag("delete_ring_tokens", false)?;
        Ok((flush, leave, flag("terminate", true)?))
    });
    let leave = match flags {
        Ok((true, leave, true)) => leave,
        Ok((false, ..)) => {
            let text = "a process that ends stores what it has: flush=false is not possible\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
        Ok((.., false)) => {
            let text = "an ingester does not end without its process: terminate=false is not possible; /flush stores what it has\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let flushed = parts.flushes.flush().await;
    if flushed.is_ok() {
        parts.stop.stop(leave);
    }
    answer(flushed)
}

/// Parameters of the address, and those of a form in the body, which win.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        type Pairs = Vec<(String, String)>;
        let (mut parts, body) = request.into_parts();
        let in_address = Query::<Pairs>::from_request_parts(&mut parts, state).await;
        let Query(in_address) = in_address.map_err(IntoResponse::into_response)?;
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let is_form = kind.is_some_and(|kind| {
            kind.as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        });
        let mut pairs = Pairs::new();
        if is_form && parts.method == axum::http::Method::POST {
            let request = Request::from_parts(parts, body);
            let form = UrlEncoded::<Pairs>::from_request(request, state).await;
            UrlEncoded(pairs) = form.map_err(IntoResponse::into_response)?;
        }
        pairs.extend(in_address);
        Ok(Form(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn being_prepared_outlives_the_process() {
        let folder = std::env::temp_dir().join(format!("pharos-stop-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let stop = StopRequest::new(&folder);
        assert!(!stop.prepared());
        stop.prepare().unwrap();
        stop.prepare().unwrap();
        assert!(StopRequest::new(&folder).prepared());
        stop.unprepare().unwrap();
        stop.unprepare().unwrap();
        assert!(!stop.prepared());
        stop.stop(true);
        assert!(stop.clone().asked().await);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
