//! Several races at a time.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// Does all jobs on so many threads, and hands on their results in the order of the jobs.
pub(crate) fn in_order<J: Sync, T: Send>(
    threads: NonZeroUsize,
    jobs: &[J],
    work: impl Fn(&J) -> T + Sync,
    mut done: impl FnMut(&J, T),
) {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads.get() {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((number, job)) = take(jobs, next) {
                    // Whoever listens does so until the last result.
                    let _ = sender.send((number, work(job)));
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (number, result) in results {
            early.insert(number, result);
            while let Some(result) = early.remove(&due) {
                done(&jobs[due], result);
                due += 1;
            }
        }
    });
}

fn take<'a, J>(jobs: &'a [J], next: &AtomicUsize) -> Option<(usize, &'a J)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    Some((number, jobs.get(number)?))
}
