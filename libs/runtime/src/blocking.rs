//! Work that would keep other tasks waiting: decoding, encoding, files.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Where such work runs: on threads of its own in a process, in lock step in a simulation. Cheap to
/// clone.
#[derive(Clone)]
pub struct Blocking {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Threads(Handle),
    LockStep(Arc<dyn LockStep>),
}

/// Runs one piece of work at a time, and no task of the runtime beside it, so that the order of all
/// that happens is the same in every run.
pub trait LockStep: Send + Sync + 'static {
    /// Begins the work; it goes on whenever it does not wait.
    fn start(&self, work: Box<dyn FnOnce() + Send>);

    /// Called by work that was started: tasks go on until the future is ready.
    fn wait(&self, future: Pin<&mut dyn Future<Output = ()>>);
}

/// The work ended by a panic, a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work panicked, a defect")]
pub struct Panicked;

impl Blocking {
    /// Threads, beside the runtime within which this is called.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn threads() -> Self {
        Blocking {
            place: Place::Threads(Handle::current()),
        }
    }

    /// A simulation's way.
    pub fn lock_step(steps: Arc<dyn LockStep>) -> Self {
        Blocking {
            place: Place::LockStep(steps),
        }
    }

    /// Runs the work to its end, also when the caller goes away.
    ///
    /// # Errors
    /// When it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        match &self.place {
            Place::Threads(runtime) => runtime.spawn_blocking(work).await.map_err(|_| Panicked),
            Place::LockStep(steps) => {
                let (done, result) = oneshot::channel();
                steps.start(Box::new(move || drop(done.send(work()))));
                result.await.map_err(|_| Panicked)
            }
        }
    }

    /// Begins work that lasts, on a thread of this name. What it returns tells the end: an error
    /// that the work panicked.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<oneshot::Receiver<()>> {
        let (done, ended) = oneshot::channel();
        let work = move || {
            work();
            // Nobody may want to know.
            let _ = done.send(());
        };
        match &self.place {
            Place::Threads(_) => {
                let thread = std::thread::Builder::new().name(name.to_owned());
                thread.spawn(work)?;
            }
            Place::LockStep(steps) => steps.start(Box::new(work)),
        }
        Ok(ended)
    }

    /// Waits within the work for what tasks do.
    ///
    /// # Panics
    /// Outside of such work.
    #[expect(
        clippy::expect_used,
        reason = "LockStep::wait returns when the future is ready, and not before"
    )]
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        match &self.place {
            Place::Threads(runtime) => runtime.block_on(future),
            Place::LockStep(steps) => {
                let mut ready = None;
                steps.wait(std::pin::pin!(async { ready = Some(future.await) }));
                ready.expect("the future is ready")
            }
        }
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Threads(_) => "Threads",
            Place::LockStep(_) => "LockStep",
        };
        f.debug_tuple("Blocking").field(&place).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_waits_for_tasks_and_its_panic_is_told() {
        let blocking = Blocking::threads();
        let (tell, told) = oneshot::channel();
        let inner = blocking.clone();
        let work = tokio::spawn(async move {
            let waiting = inner.clone();
            inner.run(move || waiting.wait(told)).await
        });
        tell.send(7).unwrap();
        assert_eq!(work.await.unwrap(), Ok(Ok(7)));
        let panicked = blocking.run(|| std::panic::resume_unwind(Box::new(())));
        assert_eq!(panicked.await, Err::<(), _>(Panicked));
        let ended = blocking.spawn("ends", || {}).unwrap();
        assert_eq!(ended.await, Ok(()));
    }
}
