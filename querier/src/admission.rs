//! Who may run a query now. At most so many run at once; those that wait are served tenant by
//! tenant in turn, so that one tenant's dashboard does not hold up all the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::TenantId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The gate. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    state: Arc<Mutex<State>>,
    waiting_per_tenant_max: usize,
}

/// The right to run one query, given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    /// `None` once it was handed on.
    state: Option<Arc<Mutex<State>>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: HashMap<TenantId, VecDeque<oneshot::Sender<Permit>>>,
    /// Tenants that wait, the next one to be served first; each once.
    turns: VecDeque<TenantId>,
}

/// Too many of this tenant's queries wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

impl Admission {
    pub(crate) fn new(running_max: usize, waiting_per_tenant_max: usize) -> Self {
        Admission {
            state: Arc::new(Mutex::new(State {
                free: running_max.max(1),
                waiting: HashMap::new(),
                turns: VecDeque::new(),
            })),
            waiting_per_tenant_max,
        }
    }

    /// Waits for a turn. Dropping the future gives the place in the queue up.
    pub(crate) async fn enter(&self, tenant: &TenantId) -> Result<Permit, QueueFull> {
        loop {
            let turn = {
                let mut state = self.state.lock();
                if state.free > 0 {
                    state.free -= 1;
                    return Ok(Permit {
                        state: Some(Arc::clone(&self.state)),
                    });
                }
                state.queue(tenant, self.waiting_per_tenant_max)?
            };
            // The sender lives in the queue until it has sent, so an error cannot happen; if it
            // did, asking again would be right.
            if let Ok(permit) = turn.await {
                return Ok(permit);
            }
        }
    }
}

impl State {
    fn queue(
        &mut self,
        tenant: &TenantId,
        waiting_max: usize,
    ) -> Result<oneshot::Receiver<Permit>, QueueFull> {
        let queue = self.waiting.entry(tenant.clone()).or_default();
        queue.retain(|waiting| !waiting.is_closed());
        if queue.len() >= waiting_max {
            return Err(QueueFull);
        }
        if queue.is_empty() && !self.turns.contains(tenant) {
            self.turns.push_back(tenant.clone());
        }
        let (sender, receiver) = oneshot::channel();
        queue.push_back(sender);
        Ok(receiver)
    }

    /// Who is served next; tenants that still wait go to the end of the line.
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        while let Some(tenant) = self.turns.pop_front() {
            let Some(queue) = self.waiting.get_mut(&tenant) else {
                continue;
            };
            let first = queue.pop_front();
            if queue.is_empty() {
                self.waiting.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
            if let Some(sender) = first.filter(|sender| !sender.is_closed()) {
                return Some(sender);
            }
        }
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(shared) = self.state.take() else {
            return;
        };
        let mut state = shared.lock();
        let mut permit = Permit {
            state: Some(Arc::clone(&shared)),
        };
        while let Some(sender) = state.next() {
            match sender.send(permit) {
                Ok(()) => return,
                // That one has left meanwhile: the next in line gets the permit.
                Err(back) => permit = back,
            }
        }
        permit.state = None;
        state.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    #[tokio::test]
    async fn tenants_take_turns() {
        let gate = Admission::new(1, 10);
        let running = gate.enter(&tenant("a")).await.unwrap();
        let (a, b) = (tenant("a"), tenant("b"));
        let mut first = Box::pin(gate.enter(&a));
        let mut second = Box::pin(gate.enter(&a));
        let mut other = Box::pin(gate.enter(&b));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut other).now_or_never().is_none());
        drop(running);
        let running = (&mut first).now_or_never().unwrap().unwrap();
        assert!((&mut other).now_or_never().is_none());
        drop(running);
        let running = (&mut other).now_or_never().unwrap().unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop(running);
        assert!(second.now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn whoever_leaves_the_queue_is_passed_over() {
        let gate = Admission::new(1, 1);
        let a = tenant("a");
        let running = gate.enter(&a).await.unwrap();
        let mut gone = Box::pin(gate.enter(&a));
        assert!((&mut gone).now_or_never().is_none());
        assert_eq!(gate.enter(&a).await.unwrap_err(), QueueFull);
        drop(gone);
        let mut next = Box::pin(gate.enter(&a));
        assert!((&mut next).now_or_never().is_none());
        drop(running);
        let permit = next.now_or_never().unwrap().unwrap();
        drop(permit);
        assert!(gate.enter(&a).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_permit_sent_to_nobody_comes_back() {
        let gate = Admission::new(1, 4);
        let a = tenant("a");
        let running = gate.enter(&a).await.unwrap();
        let mut waiting = Box::pin(gate.enter(&a));
        assert!((&mut waiting).now_or_never().is_none());
        drop(running);
        drop(waiting);
        assert!(gate.enter(&a).now_or_never().is_some());
    }
}
