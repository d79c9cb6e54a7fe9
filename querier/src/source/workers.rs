//! Work on several threads at once, without outliving the caller.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Applies `f` to each item on at most `workers` threads (the caller's is one of them); results
/// are in the order of the items. After an error, remaining items may be left out.
pub(crate) fn map<T: Sync, R: Send, E: Send>(
    workers: usize,
    items: &[T],
    f: impl Fn(usize, &T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if workers <= 1 || items.len() <= 1 {
        return items
            .iter()
            .enumerate()
            .map(|(at, item)| f(at, item))
            .collect();
    }
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let error = Mutex::new(None);
    run(workers.min(items.len()), |_| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else {
                return;
            };
            match f(at, item) {
                Ok(result) => *slots[at].lock() = Some(result),
                Err(failed) => {
                    error.lock().get_or_insert(failed);
                    next.store(items.len(), Ordering::Relaxed);
                    return;
                }
            }
        }
    });
    match error.into_inner() {
        Some(error) => Err(error),
        None => Ok(slots.into_iter().filter_map(Mutex::into_inner).collect()),
    }
}

/// Runs `work` on so many threads, the caller's among them, and returns what each returned.
pub(crate) fn run<R: Send>(threads: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.max(1))
            .map(|at| scope.spawn(move || work(at)))
            .collect();
        let mut results = vec![work(0)];
        for other in others {
            match other.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u32> = (0..100).collect();
        let doubled = map(4, &items, |_, item| Ok::<_, ()>(item * 2)).unwrap();
        assert_eq!(
            doubled,
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_error_ends_the_work() {
        let items: Vec<u32> = (0..100).collect();
        let failed = map(
            4,
            &items,
            |_, item| if *item == 50 { Err(*item) } else { Ok(()) },
        );
        assert_eq!(failed, Err(50));
    }
}
