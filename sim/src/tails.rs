//! Those who watch: live views over WebSockets whose bytes never leave the process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use futures::StreamExt;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::dice::Dice;
use crate::invariants::{Event, RecordNumber};
use crate::process::Run;
use crate::questions::{escaped, number_in};
use crate::records::tenant;
use crate::world::{Purpose, World};

/// Bytes on their way between client and server.
const PIPE_BYTES: usize = 64 << 10;
const QUERY: &str = r#"{app=~".+"}"#;
/// How long a view is watched.
const WATCHED_MIN: Duration = Duration::from_secs(2);
const WATCHED_MAX: Duration = Duration::from_secs(20);

/// History is read in this time, or not at all.
const HISTORY_MAX: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<DuplexStream>;

/// Accepts one connection.
struct Once(Option<DuplexStream>);

impl Listener for Once {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.take() {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

impl World {
    /// Watches what arrives, by one querier after another.
    pub(crate) async fn watch_now_and_then(self: Arc<Self>) {
        let dice = Dice::new(self.seed, Purpose::Tails as u64);
        for tail in 0.. {
            let pause = dice.between(Duration::from_millis(100), Duration::from_secs(3));
            tokio::time::sleep(pause).await;
            let runs = self.runs();
            let watchable: Vec<&Run> = runs.iter().filter(|run| run.queries.is_some()).collect();
            let of = dice.below(self.plan.tenants);
            let ends = Instant::now() + dice.between(WATCHED_MIN, WATCHED_MAX);
            if let Some(run) = dice.pick(&watchable) {
                self.watch(run, tail, of, ends).await;
            }
        }
    }

    /// Watches until a time, or until the view ends before.
    async fn watch(&self, run: &Run, tail: u64, of: u64, ends: Instant) {
        let life = run.life.number;
        self.checks.see(&Event::ReadsForOthers { life });
        let read = Instant::now() + HISTORY_MAX;
        self.history.lock().insert(life, read);
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let router = run.queries.clone().unwrap_or_default();
        let serving = tokio::spawn(async move { axum::serve(Once(Some(server)), router).await });
        let by = &run.life.address;
        let watched = run.life.live(self.show(client, life, tail, of, ends)).await;
        self.trace
            .tell(format_args!("{by} showed {of} in view {tail}: {watched:?}"));
        serving.abort();
    }

    /// How many records were shown, and whether the view was whole in the end.
    async fn show(
        &self,
        client: DuplexStream,
        life: u64,
        tail: u64,
        of: u64,
        ends: Instant,
    ) -> Result<(usize, bool), String> {
        let query = escaped(QUERY);
        let address = format!("ws://sim/loki/api/v1/tail?limit=1000000&query={query}");
        let text = |error: Error| error.to_string();
        let mut request = address.into_client_request().map_err(text)?;
        let name = HeaderValue::from_str(&tenant(of).to_string());
        let name = name.map_err(|error| error.to_string())?;
        request.headers_mut().insert("x-scope-orgid", name);
        let (mut socket, _) = client_async(request, client).await.map_err(text)?;
        let mut count = 0;
        let mut begun = false;
        while let Ok(message) = timeout_at(ends, next(&mut socket)).await {
            let Some(message) = message? else {
                return Ok((count, false));
            };
            // A ping comes when history was read, also where there is none.
            if !begun {
                self.checks.see(&Event::TailBegins { tail, tenant: of });
                begun = true;
                self.history.lock().remove(&life);
                if !self.plan.ingester.retention.is_zero() {
                    // By the clock of the querier all may have expired when it arrives.
                    self.checks.see(&Event::TailDropped { tail });
                }
            }
            let frame: Value = serde_json::from_str(&message).map_err(|error| error.to_string())?;
            let records = shown(&frame)?;
            count += records.len();
            self.checks.see(&Event::TailShows { tail, records });
            if frame.get("dropped_entries").is_some() {
                self.trace.tell(format_args!("view {tail} says: dropped"));
                self.checks.see(&Event::TailDropped { tail });
            }
        }
        self.checks.see(&Event::TailEnds { tail });
        Ok((count, true))
    }
}

/// The next text, or an empty frame for a sign of life; `None` when the view has ended.
async fn next(socket: &mut Socket) -> Result<Option<String>, String> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Ok(Some(text.to_string())),
        Some(Ok(Message::Close(_))) | None => Ok(None),
        Some(Ok(_)) => Ok(Some("{}".to_owned())),
        Some(Err(error)) => Err(error.to_string()),
    }
}

fn shown(frame: &Value) -> Result<Vec<RecordNumber>, String> {
    let streams = frame["streams"].as_array().into_iter().flatten();
    let values = streams.filter_map(|stream| stream["values"].as_array());
    let lines = values.flatten().filter_map(|value| value[1].as_str());
    lines.map(number_in).collect()
}
