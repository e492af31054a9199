//! The hub: the centre of the star, in the process that has made the unique id.
//!
//! One thread accepts connections until all ranks have come. Each connection has a thread that reads what its rank asks for. The
//! thread that brings the last input of a collective compares, combines and answers to all ranks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::call::Call;
use crate::error::{Code, Fault};
use crate::lock;
use crate::reduce::Order;
use crate::wire::{Asked, Token, Told};

/// How long a connection may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

struct Hub {
    token: Token,
    state: Mutex<State>,
}

/// A rank's connection, to write to.
type Line = Arc<Mutex<TcpStream>>;

#[derive(Default)]
struct State {
    /// The number of ranks, as the first one has told it.
    ranks: Option<u32>,
    lines: BTreeMap<u32, Line>,
    /// Rank 0's.
    order: Option<Order>,
    /// The number of each rank's next collective.
    next: BTreeMap<u32, u64>,
    /// Collectives that some ranks have not come to: the calls and inputs of the others.
    waiting: BTreeMap<u64, BTreeMap<u32, (Call, Vec<u8>)>>,
    /// Ranks that have finalized.
    gone: BTreeSet<u32>,
    /// Why the communicator has failed. The first reason stays.
    failure: Option<Fault>,
}

/// What is to be sent, after the lock of the state is given back: a rank that does not read must not hold up the others.
type Post = Vec<(Line, Told)>;

/// Opens a hub. Its threads end with the connections of its ranks.
pub fn open(token: Token) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let hub = Arc::new(Hub { token, state: Mutex::default() });
    thread::Builder::new().name("virtual-nccl hub".into()).spawn(move || hub.accept(&listener))?;
    Ok(address)
}

impl State {
    fn complete(&self) -> bool {
        self.ranks.is_some_and(|ranks| self.lines.len() == ranks as usize)
    }

    fn to_all(&self, told: impl Fn() -> Told) -> Post {
        self.lines.values().map(|line| (line.clone(), told())).collect()
    }

    fn fail(&mut self, code: Code, why: String) -> Post {
        if self.failure.is_some() {
            return Vec::new();
        }
        let failed = || Told::Failed { code, why: why.clone() };
        let post = self.to_all(failed);
        self.failure = Some(code.because(why));
        post
    }

    /// Lets a rank in. An error is for that rank alone.
    fn join(&mut self, ranks: u32, rank: u32, order: Order, line: Line) -> Result<Post, Fault> {
        let expected = *self.ranks.get_or_insert(ranks);
        let wrong = |why: String| Err(Code::InvalidUsage.because(why));
        if ranks != expected {
            return wrong(format!(
                "rank {rank} was made as one of {ranks} ranks, the first that came as one of {expected}"
            ));
        }
        if rank >= ranks || self.lines.contains_key(&rank) {
            return wrong(format!("there already is a rank {rank} of {ranks}, or the unique id was used twice"));
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if rank == 0 {
            self.order = Some(order);
        }
        self.lines.insert(rank, line);
        Ok(if self.complete() { self.to_all(|| Told::Welcome) } else { Vec::new() })
    }

    /// Takes a rank's call and input. All of them, once the last rank has come.
    fn take(&mut self, rank: u32, number: u64, call: Call, input: Vec<u8>) -> Result<Option<Round>, Fault> {
        let next = self.next.entry(rank).or_default();
        if !self.lines.contains_key(&rank) || number != *next {
            return Err(
                Code::InternalError.because(format!("rank {rank} sent collective {number} where {next} was due"))
            );
        }
        *next += 1;
        if let Some(gone) = self.gone.first() {
            let why =
                format!("collective {number}: rank {rank} has {call}, rank {gone} has finalized its communicator");
            return Err(Code::InvalidUsage.because(why));
        }
        let round = self.waiting.entry(number).or_default();
        round.insert(rank, (call, input));
        if Some(round.len()) != self.ranks.map(|ranks| ranks as usize) {
            return Ok(None);
        }
        let order = self.order.unwrap_or(Order::Ring);
        let (calls, inputs) = self.waiting.remove(&number).unwrap_or_default().into_values().unzip();
        Ok(Some(Round { number, order, lines: self.lines.values().cloned().collect(), calls, inputs }))
    }

    fn bye(&mut self, rank: u32) -> Post {
        self.gone.insert(rank);
        if let Some((number, others)) = self.waiting.iter().find(|(_, round)| !round.contains_key(&rank))
            && let Some((other, (call, _))) = others.first_key_value()
        {
            let why =
                format!("collective {number}: rank {other} has {call}, rank {rank} has finalized its communicator");
            return self.fail(Code::InvalidUsage, why);
        }
        let all = self.complete() && self.gone.len() == self.lines.len();
        if all { self.to_all(|| Told::Quiet) } else { Vec::new() }
    }
}

/// A collective that all ranks have come to, by rank.
struct Round {
    number: u64,
    order: Order,
    lines: Vec<Line>,
    calls: Vec<Call>,
    inputs: Vec<Vec<u8>>,
}

impl Round {
    /// What differs between the ranks. The most frequent call is taken for the right one, of two as frequent that of the lower rank.
    fn mismatch(&self) -> Option<String> {
        let frequency = |call: &Call| self.calls.iter().filter(|other| *other == call).count();
        // `max_by_key` takes the last of several.
        let (usual, right) = self.calls.iter().enumerate().rev().max_by_key(|(_, call)| frequency(call))?;
        let differing = self.calls.iter().enumerate().filter_map(|(rank, call)| {
            let what = call.differs_in(right)?;
            Some(format!("rank {rank} differs in {what}: it has {call}, where rank {usual} has {right}"))
        });
        let differing: Vec<String> = differing.collect();
        (!differing.is_empty()).then(|| format!("collective {}: {}", self.number, differing.join("; ")))
    }

    /// The answers, unless the ranks have not called the same.
    fn answer(self) -> Result<Post, Fault> {
        if let Some(why) = self.mismatch() {
            return Err(Code::InvalidUsage.because(why));
        }
        let Round { number, order, lines, calls, inputs } = self;
        let Some(call) = calls.first() else { return Ok(Vec::new()) };
        if let Some(rank) =
            inputs.iter().position(|input| input.len() as u64 != call.count.saturating_mul(call.of.bytes() as u64))
        {
            let why = format!("collective {number}: rank {rank} has sent {} bytes for {call}", inputs[rank].len());
            return Err(Code::InternalError.because(why));
        }
        let output = order.combine(call, number, &inputs);
        let ranks = lines.len();
        let pieces = lines.into_iter().enumerate().flat_map(|(rank, line)| {
            let output = &output;
            order.pieces(call, number, rank, ranks).into_iter().map(move |piece| {
                let bytes = output.get(piece.clone()).unwrap_or_default().to_vec();
                (line.clone(), Told::Piece { number, offset: piece.start as u64, bytes })
            })
        });
        Ok(pieces.collect())
    }
}

/// Sends what was decided. A rank whose connection is closed is noticed where it is read.
fn send(post: Post) {
    for (line, told) in &post {
        let _ = told.write(&mut *lock(line));
    }
    // The end of a connection tells a rank that all the others have been told as well.
    for (line, _) in post.iter().filter(|(_, told)| *told == Told::Quiet) {
        let _ = lock(line).shutdown(Shutdown::Write);
    }
}

impl Hub {
    fn accept(self: Arc<Hub>, listener: &TcpListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of file descriptors, perhaps.
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            // The hello is read here: when the last rank has come, nothing more is to be accepted.
            let served = self.greet(stream).and_then(|(rank, stream)| {
                let hub = self.clone();
                let thread = thread::Builder::new().name(format!("virtual-nccl hub of {rank}"));
                thread.spawn(move || hub.serve(rank, stream))
            });
            // A connection that is none of a rank is closed. What is wrong with a rank was told to it.
            drop(served);
            if lock(&self.state).complete() {
                return;
            }
        }
    }

    /// Reads who a connection is, and lets it in.
    fn greet(&self, mut stream: TcpStream) -> io::Result<(u32, TcpStream)> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (ranks, rank, order) = match Asked::read(&mut stream)? {
            Some(Asked::Hello { token, ranks, rank, order }) if token == self.token => (ranks, rank, order),
            _ => return Err(io::ErrorKind::PermissionDenied.into()),
        };
        stream.set_read_timeout(None)?;
        let line = Arc::new(Mutex::new(stream.try_clone()?));
        let joined = lock(&self.state).join(ranks, rank, order, line.clone());
        match joined {
            Ok(post) => {
                send(post);
                Ok((rank, stream))
            }
            Err(Fault { code, why }) => {
                send(vec![(line, Told::Failed { code, why })]);
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
    }

    /// Reads what a rank asks for, until its connection ends.
    fn serve(&self, rank: u32, mut stream: TcpStream) {
        let ended = loop {
            let asked = match Asked::read(&mut stream) {
                Ok(Some(asked)) => asked,
                Ok(None) => break "its process has ended, or it has aborted the communicator".to_owned(),
                Err(error) => break error.to_string(),
            };
            let post = match asked {
                Asked::Hello { .. } => break "it has sent a second hello".to_owned(),
                Asked::Bye => lock(&self.state).bye(rank),
                Asked::Collective { number, call, input } => {
                    let taken = lock(&self.state).take(rank, number, call, input);
                    match taken.and_then(|round| round.map_or(Ok(Vec::new()), Round::answer)) {
                        Ok(post) => post,
                        Err(Fault { code, why }) => lock(&self.state).fail(code, why),
                    }
                }
            };
            send(post);
        };
        let mut state = lock(&self.state);
        // After a bye the connection may close.
        let post = match state.gone.contains(&rank) {
            true => Vec::new(),
            false => state.fail(Code::RemoteError, format!("the connection of rank {rank} was closed: {ended}")),
        };
        drop(state);
        send(post);
    }
}
