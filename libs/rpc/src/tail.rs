//! Batches as they are acknowledged, for whoever watches: a broadcast whose memory is bounded in
//! bytes as well as in batches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{broadcast, watch};

use crate::HeldBatch;

/// Gives batches to all receivers. Clones give to the same ones.
#[derive(Clone, Debug)]
pub struct TailSender {
    batches: broadcast::Sender<Arc<Item>>,
    begun: watch::Sender<bool>,
    bytes_max: usize,
    /// What some receiver may still have to read, oldest first.
    unread: Arc<Mutex<VecDeque<Weak<Item>>>>,
}

/// Receives what is sent from now on.
#[derive(Debug)]
pub struct TailReceiver {
    batches: broadcast::Receiver<Arc<Item>>,
    begun: watch::Receiver<bool>,
}

/// Why a receiver got no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// So many batches passed by unseen, because the receiver was too slow.
    #[error("{0} batches were missed")]
    Missed(u64),
    /// Nothing will ever be sent again.
    #[error("the sender has ended")]
    Ended,
}

/// A batch, until it is taken back.
#[derive(Debug)]
struct Item {
    held: Mutex<Option<HeldBatch>>,
    /// For how many batches it stands when it holds none (any more).
    batches: u64,
}

impl TailSender {
    /// At most so many batches, and bytes of them (one batch may be larger), wait for receivers.
    pub fn new(batches_max: usize, bytes_max: usize) -> Self {
        TailSender {
            batches: broadcast::channel(batches_max).0,
            begun: watch::Sender::new(true),
            bytes_max,
            unread: Arc::default(),
        }
    }

    /// As [`new`](Self::new), for what comes from elsewhere: receivers are told when it
    /// [begins](Self::begin).
    pub fn waiting(batches_max: usize, bytes_max: usize) -> Self {
        TailSender {
            begun: watch::Sender::new(false),
            ..TailSender::new(batches_max, bytes_max)
        }
    }

    /// From now on nothing passes by without a word.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Gives a batch to all receivers; the slow ones miss the oldest when there is no room for it.
    pub fn send(&self, batch: HeldBatch) {
        if self.batches.receiver_count() == 0 {
            return;
        }
        let item = Arc::new(Item {
            held: Mutex::new(Some(batch)),
            batches: 1,
        });
        let mut unread = lock(&self.unread);
        // What every receiver has read is gone by itself.
        unread.retain(|item| item.strong_count() > 0);
        unread.push_back(Arc::downgrade(&item));
        let items: Vec<Arc<Item>> = unread.iter().filter_map(Weak::upgrade).collect();
        let mut bytes: usize = items.iter().map(|item| item.bytes()).sum();
        for item in &items[..items.len() - 1] {
            if bytes <= self.bytes_max {
                break;
            }
            bytes -= item.bytes();
            *lock(&item.held) = None;
            unread.pop_front();
        }
        // The last receiver may have left meanwhile.
        let _ = self.batches.send(item);
    }

    /// Tells all receivers that so many batches passed by unseen, before they came here.
    pub fn missed(&self, batches: u64) {
        let item = Item {
            held: Mutex::new(None),
            batches,
        };
        // Nobody may be listening.
        let _ = self.batches.send(Arc::new(item));
    }

    /// Returns when there is no receiver any more.
    pub async fn unwatched(&self) {
        self.batches.closed().await;
    }

    /// A receiver of what is sent from now on.
    pub fn subscribe(&self) -> TailReceiver {
        TailReceiver {
            batches: self.batches.subscribe(),
            begun: self.begun.subscribe(),
        }
    }

    /// How many receivers there are.
    pub fn receivers(&self) -> usize {
        self.batches.receiver_count()
    }
}

impl TailReceiver {
    /// Returns when the sender listens to all that is to come, at once where batches are made in this
    /// process; `false` when it has ended before.
    pub async fn begun(&mut self) -> bool {
        self.begun.wait_for(|begun| *begun).await.is_ok()
    }

    /// The next batch. Nothing is lost when the future is dropped before it is done.
    ///
    /// # Errors
    /// [`TailError`] when batches were missed (the next call goes on behind them), or when nothing
    /// more will come.
    pub async fn recv(&mut self) -> Result<HeldBatch, TailError> {
        match self.batches.recv().await {
            Ok(item) => {
                let held = lock(&item.held).clone();
                held.ok_or(TailError::Missed(item.batches))
            }
            Err(broadcast::error::RecvError::Lagged(batches)) => Err(TailError::Missed(batches)),
            Err(broadcast::error::RecvError::Closed) => Err(TailError::Ended),
        }
    }
}

impl Item {
    fn bytes(&self) -> usize {
        lock(&self.held)
            .as_ref()
            .map_or(0, |held| held.batch.memory_bytes())
    }
}

/// What is behind the locks is whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{BatchId, Labels, LogBatchBuilder, Signal, StreamId, TenantId};

    fn batch(bytes: usize) -> HeldBatch {
        let tenant = TenantId::default();
        let labels = Arc::new(Labels::new([("app", "a")]).unwrap());
        let mut builder = LogBatchBuilder::new(tenant.clone());
        builder.stream(StreamId::of(&tenant, Signal::Logs, &labels), &labels);
        builder.push(1, &vec![b'x'; bytes], &mut []);
        HeldBatch {
            id: BatchId(bytes as u128),
            batch: Arc::new(builder.finish()),
        }
    }

    async fn lengths(receiver: &mut TailReceiver, count: usize) -> Vec<Result<usize, TailError>> {
        let mut lengths = Vec::new();
        for _ in 0..count {
            lengths.push(receiver.recv().await.map(|held| held.batch.lines.len()));
        }
        lengths
    }

    #[tokio::test]
    async fn a_slow_receiver_misses_the_oldest_batches_when_there_is_no_room() {
        let sender = TailSender::new(8, 10_000);
        let (mut slow, mut quick) = (sender.subscribe(), sender.subscribe());
        for bytes in [4000, 4001, 4002] {
            sender.send(batch(bytes));
            assert_eq!(lengths(&mut quick, 1).await, [Ok(bytes)]);
        }
        let missed = Err(TailError::Missed(1));
        assert_eq!(lengths(&mut slow, 3).await, [missed, Ok(4001), Ok(4002)]);
    }

    #[tokio::test]
    async fn a_batch_of_any_size_arrives_when_it_is_the_only_one() {
        let sender = TailSender::new(8, 10);
        let mut receiver = sender.subscribe();
        sender.send(batch(5000));
        assert_eq!(lengths(&mut receiver, 1).await, [Ok(5000)]);
        drop(sender);
        assert_eq!(lengths(&mut receiver, 1).await, [Err(TailError::Ended)]);
    }

    #[tokio::test]
    async fn batches_are_bounded_in_number_too() {
        let sender = TailSender::new(2, 1 << 20);
        let mut receiver = sender.subscribe();
        (1..=4).for_each(|bytes| sender.send(batch(bytes)));
        let expected = [Err(TailError::Missed(2)), Ok(3), Ok(4)];
        assert_eq!(lengths(&mut receiver, 3).await, expected);
    }

    #[tokio::test]
    async fn receivers_wait_for_a_sender_that_has_yet_to_listen() {
        use std::pin::pin;
        use std::task::{Context, Poll, Waker};
        let sender = TailSender::waiting(8, 1000);
        let mut receiver = sender.subscribe();
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(pin!(receiver.begun()).poll(&mut context), Poll::Pending);
        sender.begin();
        assert!(receiver.begun().await);
        let ended = TailSender::waiting(8, 1000);
        let mut receiver = ended.subscribe();
        drop(ended);
        assert!(!receiver.begun().await);
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let sender = TailSender::new(8, 1000);
        let held = batch(5);
        sender.send(held.clone());
        assert_eq!(Arc::strong_count(&held.batch), 1);
    }
}
