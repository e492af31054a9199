//! Groups whose ranks are threads, or processes of this test program.

mod calls;
mod meetings;
#[cfg(unix)]
mod processes;
mod speed;
mod strangers;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::{Group, Place, RanksError, Timeouts};
use crate::Error;

/// A port that no other test of this process gets, and no connection: it is below those that systems choose themselves.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let ports = std::iter::repeat_with(|| {
        let at = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        20_000 + at as u16
    });
    ports.take(12_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// Short times, though long enough for cores that others use as well.
fn short() -> Timeouts {
    Timeouts { join: Duration::from_secs(8), silence: Duration::from_millis(2400), collective: Duration::from_secs(10) }
}

/// Places of one job of this test.
fn places(ranks: usize) -> Vec<Place> {
    let port = free_port();
    let place = |rank| Place { job: format!("test {port}"), ..Place::on_this_host(rank, ranks, port) };
    (0..ranks).map(place).collect()
}

/// Does work in a thread for each item, and returns the results. Fails if that takes more than 18 s.
fn at_once<T: Send + 'static, R: Send + 'static>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Send + Sync + 'static,
) -> Vec<R> {
    let (work, (done, results)) = (Arc::new(work), channel());
    let count = items.len();
    for (at, item) in items.into_iter().enumerate() {
        let (work, done) = (work.clone(), done.clone());
        thread::spawn(move || drop(done.send((at, work(item)))));
    }
    let mut all: Vec<_> =
        (0..count).map(|_| results.recv_timeout(Duration::from_secs(18)).expect("a rank hangs")).collect();
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Does work on each rank of a group of threads.
fn ranks<R: Send + 'static>(
    ranks: usize,
    timeouts: Timeouts,
    work: impl Fn(&Arc<Group>) -> R + Send + Sync + 'static,
) -> Vec<R> {
    at_once(places(ranks), move |place| {
        let group = Group::join(&place, timeouts).expect("the ranks meet");
        work(&group)
    })
}

/// The error of the ranks.
#[track_caller]
fn error<T>(result: crate::Result<T>) -> RanksError {
    match result {
        Err(Error::Ranks(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no error"),
    }
}
