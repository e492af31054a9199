//! New connections: who they are, told from strangers. A port is open to everyone: scanners, browsers, ranks of other jobs. A
//! connection that does not say a valid hello in time is dropped, and delays nobody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::environment::{Place, is_loopback};
use super::wire::{self, Kind, MAGIC, PROTOCOL, Trouble};

/// The time for a hello, and for its answer.
const HELLO: Duration = Duration::from_secs(5);
/// Timeout of single reads and writes, after which a thread looks whether it is to go on.
const LOOK: Duration = Duration::from_millis(50);
/// The most connections that are given the time for a hello at once.
const AT_ONCE: usize = 512;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// To rank 0.
    Control,
    /// To a rank from its predecessor in the ring.
    Ring,
}

/// Who has connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub purpose: Purpose,
    pub protocol: u32,
    /// The program's version.
    pub version: String,
    pub rank: usize,
    pub ranks: usize,
    pub job: String,
    /// Where it listens for its predecessor.
    pub port: u16,
    /// Host and process, for people.
    pub who: String,
    /// Different for each group that a process joins.
    pub nonce: String,
}

impl Hello {
    pub(super) fn new(purpose: Purpose, place: &Place, port: u16) -> Hello {
        static JOINED: AtomicU64 = AtomicU64::new(0);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let process = std::process::id();
        Hello {
            purpose,
            protocol: PROTOCOL,
            version: program(),
            rank: place.rank,
            ranks: place.ranks,
            job: place.job.clone(),
            port,
            who: format!("process {process} on {}", host()),
            nonce: format!("{process}.{}.{}", JOINED.fetch_add(1, Ordering::Relaxed), since.as_nanos()),
        }
    }

    /// Whether the sender runs the same program and protocol.
    pub(super) fn is_alike(&self, own: &Hello) -> bool {
        self.protocol == own.protocol && self.version == own.version
    }

    /// The program, for people.
    pub(super) fn program(&self) -> String {
        format!("{} (protocol {})", self.version, self.protocol)
    }
}

/// The version of this program.
fn program() -> String {
    format!("mlpconv {}", env!("CARGO_PKG_VERSION"))
}

/// The name of this host, as far as it is known.
fn host() -> String {
    let file =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let name = file.ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "this host".into())
}

/// Where a rank listens: at the loopback interface if all ranks are to meet there, else at every interface.
pub(super) fn listening_address(place: &Place) -> IpAddr {
    let ip = place.address.parse::<IpAddr>();
    match ip {
        Ok(ip) if ip.is_loopback() => ip,
        Ok(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Ok(IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        Err(_) if is_loopback(&place.address) => Ipv4Addr::LOCALHOST.into(),
        Err(_) => {
            let found: Vec<_> = (&place.address[..], place.port).to_socket_addrs().into_iter().flatten().collect();
            let only_v6 = !found.is_empty() && found.iter().all(SocketAddr::is_ipv6);
            if only_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
        }
    }
}

/// A connection whose hello is valid.
pub(super) struct Arrival {
    pub stream: TcpStream,
    pub from: SocketAddr,
    pub hello: Hello,
}

/// A port at which ranks of one job are awaited.
pub(super) struct Reception {
    listener: TcpListener,
    purpose: Purpose,
    job: String,
    arrivals: Receiver<Arrival>,
    door: Sender<Arrival>,
    pending: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

impl Reception {
    pub(super) fn new(address: SocketAddr, purpose: Purpose, job: &str) -> io::Result<Reception> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let (door, arrivals) = channel();
        let (pending, closed) = (Arc::default(), Arc::default());
        Ok(Reception { listener, purpose, job: job.into(), arrivals, door, pending, closed })
    }

    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// The next arrival. `None` if there is none for a moment.
    pub(super) fn next(&self) -> Option<Arrival> {
        // An error is of one connection (it has gone again), or passes (no file descriptors).
        while let Ok((stream, from)) = self.listener.accept() {
            if self.pending.fetch_add(1, Ordering::Relaxed) >= AT_ONCE {
                self.pending.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (door, job, purpose) = (self.door.clone(), self.job.clone(), self.purpose);
            let (pending, closed) = (self.pending.clone(), self.closed.clone());
            let left = pending.clone();
            let hear = move || {
                if let Some(hello) = hear(&stream, purpose, &job, &closed) {
                    let _ = door.send(Arrival { stream, from, hello });
                }
                pending.fetch_sub(1, Ordering::Relaxed);
            };
            if thread::Builder::new().name("hello".into()).spawn(hear).is_err() {
                left.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.arrivals.recv_timeout(Duration::from_millis(5)).ok()
    }
}

impl Drop for Reception {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Gives a connection the timeouts for a hello.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(LOOK))
}

/// Reads the hello of a connection, and answers that it was heard. `None` for strangers.
fn hear(stream: &TcpStream, purpose: Purpose, job: &str, closed: &AtomicBool) -> Option<Hello> {
    prepare(stream).ok()?;
    let end = Instant::now() + HELLO;
    let mut go_on = |_| Instant::now() < end && !closed.load(Ordering::Relaxed);
    let mut magic = [0; MAGIC.len()];
    wire::fill(&mut &*stream, &mut magic, &mut go_on).ok()?;
    if magic != MAGIC {
        return None;
    }
    let frame = wire::read(&mut &*stream, wire::HELLO_LIMIT, &mut go_on).ok()?;
    let hello: Hello = serde_json::from_slice(&frame.payload).ok().filter(|_| frame.kind == Kind::Hello)?;
    if hello.purpose != purpose || hello.job != job {
        return None;
    }
    wire::drain(&mut &*stream, &MAGIC, &mut go_on).ok()?;
    wire::write(&mut &*stream, (Kind::Heard, 0, 0), &[], &mut go_on).ok()?;
    Some(hello)
}

/// Connects to a reception and says hello, again and again until it is heard, or `go_on` says to stop. The error is the last
/// problem.
pub(super) fn reach(host: &str, port: u16, hello: &Hello, go_on: &dyn Fn() -> bool) -> Result<TcpStream, String> {
    let greeting = serde_json::to_vec(hello).map_err(|error| error.to_string())?;
    let mut pause = Duration::from_millis(10);
    loop {
        let problem = match greet(host, port, &greeting, go_on) {
            Ok(stream) => return Ok(stream),
            Err(problem) => problem,
        };
        let end = Instant::now() + pause;
        pause = (pause * 2).min(Duration::from_millis(250));
        while Instant::now() < end {
            if !go_on() {
                return Err(problem);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// One attempt of [`reach`].
fn greet(host: &str, port: u16, greeting: &[u8], go_on: &dyn Fn() -> bool) -> Result<TcpStream, String> {
    let found = (host, port).to_socket_addrs().map_err(|error| format!("{host} is not found: {error}"))?;
    let mut problem = format!("{host} has no address");
    for address in found {
        let stream = match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
            Ok(stream) => stream,
            Err(error) => {
                problem = format!("{address}: {error}");
                continue;
            }
        };
        let end = Instant::now() + HELLO;
        let mut go_on = |_| Instant::now() < end && go_on();
        let said = prepare(&stream).map_err(|error| Trouble::Broken(error.to_string())).and_then(|()| {
            wire::drain(&mut &stream, &MAGIC, &mut go_on)?;
            wire::write(&mut &stream, (Kind::Hello, 0, 0), greeting, &mut go_on)?;
            let mut magic = [0; MAGIC.len()];
            wire::fill(&mut &stream, &mut magic, &mut go_on)?;
            let frame = wire::read(&mut &stream, wire::HELLO_LIMIT, &mut go_on)?;
            Ok(magic == MAGIC && frame.kind == Kind::Heard)
        });
        match said {
            Ok(true) => return Ok(stream),
            Ok(false) | Err(Trouble::Garbage(_)) => {
                problem = format!("{address} is another program, not a rank of this job");
            }
            Err(trouble) => {
                problem = format!("{address} does not answer as a rank of this job does: {trouble}");
            }
        }
    }
    Err(problem)
}
