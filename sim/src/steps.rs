//! Blocking work in lock step with the tasks of one runtime.
//!
//! Each piece of work has a thread of its own, for it may wait anywhere in its call stack. But only
//! one thread runs at any time: the runtime's stands still while the work goes on, and the work
//! stands still while it waits. So all that happens has one order, which the seed alone decides.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use runtime::LockStep;
use tokio::runtime::Handle;

thread_local! {
    static WORK: RefCell<Option<Work>> = const { RefCell::new(None) };
}

/// Runs blocking work among the tasks of a runtime.
#[derive(Debug)]
pub(crate) struct Steps {
    runtime: Handle,
}

/// The work's side.
struct Work {
    go: Receiver<Waker>,
    stopped: Sender<Stop>,
    waker: Waker,
}

enum Stop {
    Waiting,
    Ended,
}

/// The runtime's side: a task that lets the work go on whenever what it waits for may be ready.
struct Driver {
    go: Option<Sender<Waker>>,
    stopped: Receiver<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Unwinds work that nobody drives any more.
struct Abandoned;

impl Steps {
    /// Must be called within the runtime.
    pub(crate) fn new() -> Self {
        Steps {
            runtime: Handle::current(),
        }
    }
}

impl LockStep for Steps {
    fn start(&self, work: Box<dyn FnOnce() + Send>) {
        let (go, turns) = channel();
        let (stop, stopped) = channel();
        let runtime = self.runtime.clone();
        let thread = std::thread::spawn(move || {
            let Ok(waker) = turns.recv() else {
                return;
            };
            let _within = runtime.enter();
            let ended = stop.clone();
            WORK.set(Some(Work {
                go: turns,
                stopped: stop,
                waker,
            }));
            // What a panic means is told by what the work leaves undone.
            let _ = catch_unwind(AssertUnwindSafe(work));
            WORK.set(None);
            let _ = ended.send(Stop::Ended);
        });
        self.runtime.spawn(Driver {
            go: Some(go),
            stopped,
            thread: Some(thread),
        });
    }

    fn wait(&self, mut future: Pin<&mut dyn Future<Output = ()>>) {
        loop {
            let waker = WORK.with_borrow(|work| work.as_ref().map(|work| work.waker.clone()));
            let Some(waker) = waker else {
                panic!("waiting outside of blocking work, a defect");
            };
            let mut context = Context::from_waker(&waker);
            if future.as_mut().poll(&mut context).is_ready() {
                return;
            }
            let next = WORK.with_borrow(|work| {
                let work = work.as_ref()?;
                work.stopped.send(Stop::Waiting).ok()?;
                work.go.recv().ok()
            });
            match next {
                Some(waker) => WORK.with_borrow_mut(|work| {
                    if let Some(work) = work {
                        work.waker = waker;
                    }
                }),
                None => resume_unwind(Box::new(Abandoned)),
            }
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let going = self.go.as_ref();
        let sent = going.is_some_and(|go| go.send(context.waker().clone()).is_ok());
        match self.stopped.recv() {
            Ok(Stop::Waiting) if sent => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.go = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if it was one, has been caught.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use runtime::Blocking;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_waits_on_the_paused_clock() {
        let blocking = Blocking::lock_step(Arc::new(Steps::new()));
        let began = Instant::now();
        let inner = blocking.clone();
        let work = blocking.run(move || {
            inner.wait(sleep(Duration::from_secs(3600)));
            7
        });
        assert_eq!(work.await, Ok(7));
        assert_eq!(began.elapsed(), Duration::from_secs(3600));
    }

    #[test]
    fn work_that_waits_for_ever_ends_with_its_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let dropped = Arc::new(());
        let held = Arc::clone(&dropped);
        runtime.block_on(async {
            let blocking = Blocking::lock_step(Arc::new(Steps::new()));
            let inner = blocking.clone();
            let begun = blocking.spawn("waits", move || {
                let _held = held;
                inner.wait(std::future::pending::<()>());
            });
            begun.unwrap();
            tokio::task::yield_now().await;
        });
        drop(runtime);
        assert_eq!(Arc::strong_count(&dropped), 1);
    }
}
