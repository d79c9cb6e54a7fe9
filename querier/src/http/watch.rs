//! What the two live views have in common: batches in, frames out, and what happens when the
//! client reads more slowly than records arrive.
//!
//! At most one frame is on its way to the client. While it is, arriving batches wait in
//! [`Pending`], which is bounded; so a slow client costs a bounded amount of memory, loses the
//! oldest entries, and is told so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures::SinkExt;
use futures::stream::SplitSink;
use model::{LogBatch, TenantId};
use query::logql::ast::LogExpr;
use query::logql::engine::StreamResult;
use rpc::{TailError, TailReceiver};

use super::json::Json;
use crate::tail::{Dropped, FilterLimits, Pending, filter};
use crate::{Error, Querier};

/// How long batches are gathered for one frame.
const GATHER: Duration = Duration::from_millis(100);
/// Most frames that wait for a client before no more of its messages are read.
const FRAMES_MAX: usize = 1000;
/// Longest text of a close frame, bytes: 125 less two for the code.
const CLOSE_REASON_BYTES_MAX: usize = 123;
/// How long to wait for the ingesters' tails before the view goes on without some of them.
const BEGIN_PATIENCE: Duration = Duration::from_secs(5);

/// One client's live view.
pub(super) struct Watch {
    querier: Querier,
    arriving: TailReceiver,
    pending: Pending,
    frames: VecDeque<Message>,
    /// Whether the socket holds a part of a frame.
    unflushed: bool,
    delay_nanos: i64,
    gathered: tokio::time::Interval,
}

/// What happened.
pub(super) enum Sight {
    /// A frame went out.
    Sent,
    /// Records for the next frame.
    Ready {
        batches: Vec<Arc<LogBatch>>,
        dropped: Option<Dropped>,
    },
    /// The client or the source has gone.
    Gone,
}

impl Watch {
    /// Begins to listen. Batches are held back for `delay_nanos`.
    pub(super) fn new(querier: &Querier, tenant: TenantId, delay_nanos: i64) -> Self {
        let shared = &querier.shared;
        shared.metrics.tails.inc();
        Watch {
            arriving: shared.backend.search.tail(),
            pending: Pending::new(tenant, shared.config.tail_entries_max),
            frames: VecDeque::new(),
            unflushed: false,
            delay_nanos,
            gathered: tokio::time::interval(GATHER),
            querier: querier.clone(),
        }
    }

    /// Returns when nothing that arrives passes by unseen, or after [`BEGIN_PATIENCE`].
    pub(super) async fn begun(&mut self) {
        // What is missed meanwhile is told as such.
        let _ = tokio::time::timeout(BEGIN_PATIENCE, self.arriving.begun()).await;
    }

    /// Queues a frame; there is one at most from the view itself, and few answers to the client.
    pub(super) fn offer(&mut self, frame: Message) {
        self.frames.push_back(frame);
    }

    /// Queues a sign of life, unless something else is on its way.
    pub(super) fn ping(&mut self) {
        if !self.is_sending() {
            self.frames.push_back(Message::Ping(Vec::new().into()));
        }
    }

    /// Whether more messages of the client may be answered; else it sends without reading.
    pub(super) fn listens(&self) -> bool {
        self.frames.len() < FRAMES_MAX
    }

    fn is_sending(&self) -> bool {
        self.unflushed || !self.frames.is_empty()
    }

    /// Sends what is queued, and takes in what arrives; returns when there is something to do.
    /// Nothing is lost when the future is dropped before it is done.
    pub(super) async fn next(&mut self, sender: &mut SplitSink<WebSocket, Message>) -> Sight {
        loop {
            let now = self.querier.shared.now();
            let sending = self.is_sending();
            tokio::select! {
                batch = self.arriving.recv() => match batch {
                    Ok(held) => self.pending.push(now, held.batch),
                    Err(TailError::Missed(batches)) => self.pending.missed(now, batches),
                    Err(TailError::Ended) => return Sight::Gone,
                },
                sent = send_first(&mut self.frames, &mut self.unflushed, sender), if sending => {
                    return match sent {
                        Ok(()) => Sight::Sent,
                        Err(_) => Sight::Gone,
                    };
                }
                _ = self.gathered.tick(), if !sending => {
                    let batches = self.pending.take_before(now.saturating_sub(self.delay_nanos));
                    let dropped = self.pending.take_dropped();
                    if let Some(dropped) = &dropped {
                        self.querier.shared.metrics.tail_dropped.inc_by(dropped.count);
                    }
                    if !batches.is_empty() || dropped.is_some() {
                        return Sight::Ready { batches, dropped };
                    }
                }
            }
        }
    }

    /// The entries of the batches that pass a query, on a thread for such work.
    pub(super) async fn filter(
        &self,
        expr: &LogExpr,
        batches: Vec<Arc<LogBatch>>,
    ) -> Result<Vec<StreamResult>, Error> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let expr = expr.clone();
        let tenant = self.pending.tenant().clone();
        let shared = &self.querier.shared;
        let catalog = shared.backend.meta.catalog();
        let hidden = shared.backend.hiding.of(&catalog, &tenant, shared.now())?;
        let config = &shared.config;
        let limits = FilterLimits {
            memory_bytes_max: config.query_memory_bytes_max,
            detect_level: config.discover_log_levels,
        };
        let work = move || filter(&expr, tenant, batches, hidden, &limits);
        let filtered = shared.backend.blocking.run(work);
        filtered
            .await
            .map_err(|error| Error::Internal(format!("filter ended without an answer: {error}")))?
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.querier.shared.metrics.tails.dec();
    }
}

/// Hands the first frame to the socket and waits until it has left. A frame is taken only when the
/// socket has room, so that dropping this future never loses or repeats one.
async fn send_first(
    frames: &mut VecDeque<Message>,
    unflushed: &mut bool,
    sender: &mut SplitSink<WebSocket, Message>,
) -> Result<(), axum::Error> {
    std::future::poll_fn(|context| sender.poll_ready_unpin(context)).await?;
    if let Some(frame) = frames.pop_front() {
        *unflushed = true;
        sender.start_send_unpin(frame)?;
    }
    sender.flush().await?;
    *unflushed = false;
    Ok(())
}

/// A frame of text.
pub(super) fn text(json: Json) -> Message {
    let text = String::from_utf8_lossy(&json.into_bytes()).into_owned();
    Message::Text(Utf8Bytes::from(text))
}

/// The end of a view that went wrong, with the reason.
pub(super) fn closing(error: &Error) -> Message {
    let mut reason = error.to_string();
    let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    Message::Close(Some(CloseFrame {
        code: close_code::ERROR,
        reason: Utf8Bytes::from(reason),
    }))
}
