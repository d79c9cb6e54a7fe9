use std::sync::Arc;

use model::LogBatch;
use runtime::Blocking;
use segment::wal::{Filing, Record};
use tokio::sync::{mpsc, oneshot};

use super::LogWriter;
use crate::Error;
use crate::alarm::Guard;
use crate::metrics::Metrics;
use crate::state::{Event, WriteId};
use crate::task::Message;

/// A group is written when it holds this much; what is queued behind it makes the next one. Bounds
/// the delay of the first record in it: 16 MiB take about 20 ms at 800 MB/s.
const GROUP_BYTES_MAX: u64 = 16 << 20;

/// One batch to be written.
#[derive(Debug)]
pub(crate) struct AppendJob {
    pub(crate) write: WriteId,
    pub(crate) filing: Filing,
    pub(crate) batch: Arc<LogBatch>,
}

#[derive(Debug)]
pub(crate) enum WalCommand {
    Append(AppendJob),
    /// This file and all older ones feed no head any more.
    RemoveThrough(u64),
}

/// The one thread that writes the log. It ends when all senders are gone.
#[derive(Debug)]
pub(crate) struct WalThread {
    writer: LogWriter,
    commands: mpsc::UnboundedReceiver<WalCommand>,
    events: mpsc::WeakSender<Message>,
    metrics: Arc<Metrics>,
    blocking: Blocking,
}

#[derive(Default)]
struct Group {
    writes: Vec<WriteId>,
    records: Vec<Record>,
    bytes: u64,
}

impl WalThread {
    /// Returns where commands go, and what tells the thread's end. The queue is not bounded by
    /// itself: the state admits no more writes than it has room for.
    pub(crate) fn spawn(
        writer: LogWriter,
        events: mpsc::WeakSender<Message>,
        metrics: Arc<Metrics>,
        blocking: &Blocking,
        guard: Guard,
    ) -> Result<(mpsc::UnboundedSender<WalCommand>, oneshot::Receiver<()>), Error> {
        let (sender, commands) = mpsc::unbounded_channel();
        let thread = WalThread {
            writer,
            commands,
            events,
            metrics,
            blocking: blocking.clone(),
        };
        let ended = blocking.spawn("wal", move || {
            let _guard = guard;
            thread.run();
        });
        let ended = ended
            .map_err(|error| Error::Stopped(format!("cannot start the log's thread: {error}")))?;
        Ok((sender, ended))
    }

    fn run(mut self) {
        while let Some(first) = self.blocking.wait(self.commands.recv()) {
            let mut group = Group::default();
            let mut next = Some(first);
            while let Some(command) = next {
                if !self.take(command, &mut group) {
                    return;
                }
                next = match group.bytes < GROUP_BYTES_MAX {
                    true => self.commands.try_recv().ok(),
                    false => None,
                };
            }
            if !self.write(group) {
                return;
            }
        }
    }

    /// Adds the command to the group; false when nobody listens any more.
    fn take(&mut self, command: WalCommand, group: &mut Group) -> bool {
        match command {
            WalCommand::Append(job) => match self.writer.record(&job.filing, job.batch) {
                Ok(record) => {
                    group.bytes += record.len();
                    group.records.push(record);
                    group.writes.push(job.write);
                    true
                }
                Err(error) => self.tell(Event::AppendFailed {
                    writes: vec![job.write],
                    error: rpc::Error::Invalid(error.to_string()),
                }),
            },
            WalCommand::RemoveThrough(number) => {
                if let Err(error) = self.writer.remove_through(number) {
                    tracing::warn!(%error, "cannot remove a log file that is not needed any more; its records are in the catalog and the next start removes it");
                }
                true
            }
        }
    }

    fn write(&mut self, mut group: Group) -> bool {
        if group.records.is_empty() {
            return true;
        }
        match self.writer.append(&mut group.records) {
            Ok(file) => {
                self.metrics.wal_bytes.inc_by(group.bytes);
                self.metrics.wal_batches.inc_by(group.records.len() as u64);
                self.metrics.wal_groups.inc();
                self.tell(Event::Appended {
                    writes: group.writes,
                    file,
                })
            }
            Err(error) => {
                self.metrics.wal_failures.inc();
                tracing::error!(%error, "cannot write the log; the batches are refused");
                self.tell(Event::AppendFailed {
                    writes: group.writes,
                    error: refusal(error),
                })
            }
        }
    }

    fn tell(&self, event: Event) -> bool {
        let events = self.events.upgrade();
        events.is_some_and(|events| {
            let told = events.send(Message::Event(event));
            self.blocking.wait(told).is_ok()
        })
    }
}

fn refusal(error: Error) -> rpc::Error {
    match rpc::Error::from(error) {
        rpc::Error::OutOfSpace(text) => rpc::Error::OutOfSpace(format!(
            "{text}; nothing acknowledged is lost: make room on the disk, and send the batch again"
        )),
        error => error,
    }
}
