//! `tail`: a WebSocket that shows recent entries and then what arrives.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use model::{NANOS_PER_SECOND, TenantId, Timestamp};
use query::logql::ast::{Expr, LogExpr};
use query::logql::engine::{self, StreamResult, Value};

use super::answer;
use super::call::Call;
use super::json::Json;
use super::legacy::{self, with_regexp};
use super::watch::{Sight, Watch};
use crate::tail::{Dropped, OpenTail, Shown, live_query};
use crate::{Error, Querier};

/// How long entries may be held back to come in order.
const DELAY_SECONDS_MAX: i64 = 5;
/// How many entries of history are shown when the client does not say.
const HISTORY_ENTRIES: u64 = 100;
/// How often the client hears that the connection lives.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How frames are written.
#[derive(Clone, Debug)]
enum Form {
    Loki(Box<Call>),
    Legacy,
}

/// What a client asks to see.
struct Asked {
    tenant: TenantId,
    expr: LogExpr,
    start: Timestamp,
    limit: u64,
    delay_nanos: i64,
    form: Form,
}

/// What a client may not see, although the request is well formed: it is told when the socket is open,
/// as in Loki.
struct Closed(Error);

const IN_THE_FUTURE: &str = "rpc error: code = Code(400) desc = this data is no longer available, \
     it is past now - max_query_lookback (0s)";

/// A handshake, or what is missing for one.
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// `/loki/api/v1/tail`
pub(super) async fn tail(
    State(querier): State<Querier>,
    upgrade: Upgrade,
    request: Request,
) -> Result<Response, Error> {
    let call = Call::of(request.headers(), request.uri().query(), &[])?;
    let form = Form::Loki(Box::new(call.clone()));
    begin(querier, upgrade, call, form)
}

/// `/api/prom/tail`
pub(super) async fn old_tail(
    State(querier): State<Querier>,
    upgrade: Upgrade,
    request: Request,
) -> Result<Response, Error> {
    let call = Call::of(request.headers(), request.uri().query(), &[])?;
    begin(querier, upgrade, call, Form::Legacy)
}

/// What is wrong with the request is said in its answer; that there are too many views already,
/// as Loki does, when the socket is open.
fn begin(querier: Querier, upgrade: Upgrade, call: Call, form: Form) -> Result<Response, Error> {
    let asked = asked(&querier, &call, form)?;
    let upgrade = upgrade
        .map_err(|problem| Error::Invalid(format!("a live view is a WebSocket: {problem}")))?;
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let opened = asked.and_then(|asked| match open(&querier, &asked.tenant) {
            Ok(open) => Ok((asked, open)),
            Err(error) => Err(Closed(error)),
        });
        match opened {
            Ok((asked, open)) => show(querier, asked, call, open, socket).await,
            Err(Closed(error)) => {
                // The client may have gone already.
                let _ = socket.send(super::watch::closing(&error)).await;
            }
        }
    }))
}

/// Counts one more live view of a tenant.
pub(super) fn open(querier: &Querier, tenant: &TenantId) -> Result<OpenTail, Error> {
    let shared = &querier.shared;
    shared.tails.open(tenant, shared.config.tails_max)
}

/// The one tenant of a live view.
pub(super) fn only_tenant(call: &Call) -> Result<TenantId, Error> {
    if call.tenants.is_many() {
        return Err(Error::Invalid("multiple org IDs present".into()));
    }
    Ok(call.tenants.first().clone())
}

fn asked(querier: &Querier, call: &Call, form: Form) -> Result<Result<Asked, Closed>, Error> {
    let params = &call.params;
    let expr = match live_query(params.query()) {
        Err(error) if query::logql::parse(params.query()).is_ok_and(is_metric) => Err(error),
        expr => Ok(with_regexp(expr?, params)),
    };
    if let Ok(expr) = &expr {
        call.limits.check_matchers(&expr.selector)?;
    }
    let delay = params.integer("delay_for")?.unwrap_or(0);
    // Loki's words for a negative one, too.
    if !(0..=DELAY_SECONDS_MAX).contains(&delay) {
        return Err(Error::Invalid(format!(
            "delay_for can't be greater than {DELAY_SECONDS_MAX}"
        )));
    }
    let limit = params.limit("limit", HISTORY_ENTRIES)?;
    let now = querier.shared.now();
    let (start, _) = params.bounds(now)?;
    let tenant = only_tenant(call)?;
    let expr = match expr {
        Ok(_) if start > now => return Ok(Err(Closed(Error::Invalid(IN_THE_FUTURE.into())))),
        Ok(expr) => expr,
        Err(error) => return Ok(Err(Closed(error))),
    };
    Ok(Ok(Asked {
        tenant,
        expr,
        start,
        limit: limit.min(querier.shared.config.entries_max),
        delay_nanos: delay * NANOS_PER_SECOND,
        form,
    }))
}

fn is_metric(expr: Expr) -> bool {
    matches!(expr, Expr::Metric(_))
}

async fn show(querier: Querier, asked: Asked, call: Call, open: OpenTail, socket: WebSocket) {
    let _open = open;
    let (mut sender, receiver) = socket.split();
    if let Err(error) = follow(&querier, &asked, &call, &mut sender, receiver).await {
        // The client may have gone already.
        let _ = sender.send(super::watch::closing(&error)).await;
    }
}

/// Shows history and what arrives until the client leaves or its time is over.
///
/// # Errors
/// When entries cannot be read, or what is left of a frame needs more memory than a query may have.
async fn follow(
    querier: &Querier,
    asked: &Asked,
    call: &Call,
    sender: &mut SplitSink<WebSocket, Message>,
    mut receiver: SplitStream<WebSocket>,
) -> Result<(), Error> {
    // Listening begins before history is read, so that nothing falls between the two.
    let mut watch = Watch::new(querier, asked.tenant.clone(), asked.delay_nanos);
    watch.begun().await;
    let mut shown = Shown::default();
    let mut offer =
        |watch: &mut Watch, mut streams: Vec<StreamResult>, dropped: Option<Dropped>| {
            shown.keep_new(&mut streams);
            if !streams.is_empty() || dropped.is_some() {
                watch.offer(frame(streams, dropped.as_ref(), &asked.form));
            }
        };
    let past = history(querier, asked, call).await?;
    offer(&mut watch, past, None);
    let mut ping = tokio::time::interval(PING_EVERY);
    let end = tokio::time::sleep(querier.shared.config.tail_duration_max);
    tokio::pin!(end);
    loop {
        tokio::select! {
            biased;
            () = &mut end => {
                let _ = sender.send(Message::Close(None)).await;
                return Ok(());
            }
            message = receiver.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            sight = watch.next(sender) => match sight {
                Sight::Sent => {}
                Sight::Gone => return Ok(()),
                Sight::Ready { batches, dropped } => {
                    let streams = watch.filter(&asked.expr, batches).await?;
                    offer(&mut watch, streams, dropped);
                }
            },
            _ = ping.tick() => watch.ping(),
        }
    }
}

/// The newest entries from `start` on, oldest first.
async fn history(
    querier: &Querier,
    asked: &Asked,
    call: &Call,
) -> Result<Vec<StreamResult>, Error> {
    let params = engine::Params {
        start: asked.start,
        end: Timestamp::MAX,
        step: 0,
        interval: 0,
        limit: u32::try_from(asked.limit).unwrap_or(u32::MAX),
        direction: engine::Direction::Backward,
        now: None,
    };
    let expr = Expr::Log(asked.expr.clone());
    let (answer, _) = super::query::execute(querier, call, expr, params).await?;
    let Value::Streams(mut streams) = answer.value else {
        return Err(Error::Internal("a log query gave no streams".into()));
    };
    for stream in &mut streams {
        stream.entries.reverse();
    }
    Ok(streams)
}

/// Each entry as a stream of its own, oldest first: clients show them in the order of the frame.
fn in_order(streams: Vec<StreamResult>) -> Vec<StreamResult> {
    let entries = streams.into_iter().flat_map(|stream| {
        let labels = stream.labels;
        stream.entries.into_iter().map(move |entry| StreamResult {
            labels: labels.clone(),
            entries: vec![entry],
        })
    });
    let mut entries: Vec<StreamResult> = entries.collect();
    entries.sort_by_key(|stream| stream.entries.first().map(|entry| entry.at));
    entries
}

/// `{"streams":[..],"dropped_entries":[..]}`
fn frame(streams: Vec<StreamResult>, dropped: Option<&Dropped>, form: &Form) -> Message {
    let entries = in_order(streams);
    // One by one, so that none is put to others of its stream.
    let entries: Vec<&[StreamResult]> = entries.iter().map(std::slice::from_ref).collect();
    let Form::Loki(call) = form else {
        return super::watch::text(legacy::frame(&entries, dropped));
    };
    let mut json = Json::default();
    json.object(|json| {
        answer::groups(json.key("streams"), &entries, call.categorize_labels);
        if let Some(dropped) = dropped {
            json.key("dropped_entries").array(|json| {
                for (labels, at) in &dropped.named {
                    json.object(|json| {
                        json.key("timestamp").nanos(*at);
                        json.key("labels").label_set(labels);
                    });
                }
            });
        }
        answer::encoding_flags(json, call);
    });
    super::watch::text(json)
}
