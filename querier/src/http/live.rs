//! `/stream`: a WebSocket that shows what arrives; the client changes what it sees on the open
//! socket.
//!
//! To the client: `{"type":"entry","ts":RFC3339,"labels":{..},"line":".."}`, one message for each
//! entry; `{"type":"filter","query":".."}` when a filter is in force;
//! `{"type":"dropped","count":n}` when it reads too slowly; `{"type":"error","message":".."}` when
//! a message of its own was wrong, after which the old filter stays.
//!
//! From the client: `{"type":"filter","labels":{"app":"a"}}` or `{"type":"filter","query":"{..} | .."}`.

use std::collections::BTreeMap;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::{SinkExt, StreamExt};
use model::TenantId;
use query::logql::ast::{LogExpr, Matcher};
use query::logql::engine::{StreamResult, merged};

use super::call::Call;
use super::json::Json;
use super::plain::rfc3339;
use super::watch::{Sight, Watch, text};
use crate::tail::{OpenTail, flat, live_query};
use crate::{Error, Querier};

/// How often the client hears that the connection lives.
const PING_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// `GET /stream?query={app="a"}`, or `?labels={"app":"a"}`; without either it shows everything.
pub(super) async fn stream(
    State(querier): State<Querier>,
    upgrade: WebSocketUpgrade,
    request: Request,
) -> Result<Response, Error> {
    let call = Call::of(request.headers(), request.uri().query(), &[])?;
    let tenant = super::tail::only_tenant(&call)?;
    let expr = match (call.params.get("query"), call.params.get("labels")) {
        (Some(query), _) => live_query(query)?,
        (None, Some(labels)) => of_labels(&parse_labels(labels)?),
        (None, None) => of_labels(&BTreeMap::new()),
    };
    let open = super::tail::open(&querier, &tenant)?;
    Ok(upgrade.on_upgrade(move |socket| show(querier, tenant, expr, open, socket)))
}

async fn show(
    querier: Querier,
    tenant: TenantId,
    mut expr: LogExpr,
    open: OpenTail,
    socket: WebSocket,
) {
    let _open = open;
    let mut watch = Watch::new(&querier, tenant, 0);
    watch.begun().await;
    let (mut sender, mut receiver) = socket.split();
    let mut ping = tokio::time::interval(PING_EVERY);
    let end = tokio::time::sleep(querier.shared.config.tail_duration_max);
    tokio::pin!(end);
    watch.offer(in_force(&expr));
    loop {
        tokio::select! {
            biased;
            () = &mut end => {
                let _ = sender.send(Message::Close(None)).await;
                return;
            }
            message = receiver.next(), if watch.listens() => match message {
                Some(Ok(Message::Text(message))) => match changed(&message) {
                    Ok(changed) => {
                        expr = changed;
                        watch.offer(in_force(&expr));
                    }
                    Err(error) => watch.offer(wrong(&error)),
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            sight = watch.next(&mut sender) => match sight {
                Sight::Sent => {}
                Sight::Gone => return,
                Sight::Ready { batches, dropped } => {
                    if let Some(dropped) = dropped {
                        watch.offer(dropped_notice(dropped.count));
                    }
                    match watch.filter(&expr, batches).await {
                        Ok(streams) => entries(&mut watch, &streams),
                        Err(error) => watch.offer(wrong(&error)),
                    }
                }
            },
            _ = ping.tick() => watch.ping(),
        }
    }
}

/// Reads a message that changes the filter.
fn changed(message: &str) -> Result<LogExpr, Error> {
    let wrong = |reason: &str| {
        Error::Invalid(format!(
            "{reason}; want {{\"type\":\"filter\",\"labels\":{{\"app\":\"a\"}}}} or \
             {{\"type\":\"filter\",\"query\":\"{{app=\\\"a\\\"}}\"}}"
        ))
    };
    let message: serde_json::Value = serde_json::from_str(message)
        .map_err(|error| wrong(&format!("message is not JSON: {error}")))?;
    if message["type"] != "filter" {
        return Err(wrong("message has another type than \"filter\""));
    }
    match (&message["query"], &message["labels"]) {
        (serde_json::Value::String(query), _) => live_query(query),
        (_, labels @ serde_json::Value::Object(_)) => {
            Ok(of_labels(&parse_labels(&labels.to_string())?))
        }
        _ => Err(wrong("message has neither \"labels\" nor \"query\"")),
    }
}

fn parse_labels(json: &str) -> Result<BTreeMap<String, String>, Error> {
    let labels: BTreeMap<String, String> = serde_json::from_str(json)
        .map_err(|error| Error::Invalid(format!("labels are not an object of texts: {error}")))?;
    match labels.keys().find(|name| !model::is_valid_label_name(name)) {
        None => Ok(labels),
        Some(name) => Err(Error::Invalid(format!(
            "invalid label name {name:?}: want [a-zA-Z_][a-zA-Z0-9_]*"
        ))),
    }
}

/// Streams that have these labels; none asks for all streams.
fn of_labels(labels: &BTreeMap<String, String>) -> LogExpr {
    let selector = labels.iter().map(|(name, value)| Matcher {
        name: name.clone(),
        op: model::MatchOp::Equal,
        value: value.clone(),
    });
    LogExpr {
        selector: selector.collect(),
        stages: Vec::new(),
    }
}

fn entries(watch: &mut Watch, streams: &[StreamResult]) {
    for (at, line, labels) in flat(&merged(streams)) {
        let mut json = Json::default();
        json.object(|json| {
            json.key("type").string("entry");
            json.key("ts").string(&rfc3339(at));
            json.key("labels").labels(labels.iter());
            json.key("line").string(line);
        });
        watch.offer(text(json));
    }
}

fn in_force(expr: &LogExpr) -> Message {
    let query = query::logql::ast::Expr::Log(expr.clone()).to_string();
    notice("filter", |json| json.key("query").string(&query))
}

fn dropped_notice(count: u64) -> Message {
    notice("dropped", |json| json.key("count").int(count))
}

fn wrong(error: &Error) -> Message {
    let error = error.to_string();
    notice("error", |json| json.key("message").string(&error))
}

fn notice(kind: &str, rest: impl FnOnce(&mut Json)) -> Message {
    let mut json = Json::default();
    json.object(|json| {
        json.key("type").string(kind);
        rest(json);
    });
    text(json)
}
