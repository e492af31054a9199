//! The ring: each rank sends to its successor what it has, and what it has received from its predecessor, until all have all.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use super::environment::Place;
use super::reception::{Hello, Purpose, Reception, reach};
use super::state::Shared;
use super::timeouts::{Patience, after};
use super::wire::{self, Trouble};
use crate::error::RanksError;

/// Data goes on to the successor in blocks of so many bytes, as they have come.
const BLOCK: usize = 8 << 20;

/// The connections of a rank to its neighbours.
pub(super) struct Ring {
    successor: TcpStream,
    predecessor: TcpStream,
    /// Which ranks they are.
    next: usize,
    previous: usize,
}

/// A connection of the ring that does not work, and the rank at its other end.
pub(super) struct Torn {
    pub rank: usize,
    pub trouble: Trouble,
}

impl Ring {
    /// Connects to the successor, which listens at `to`, and takes the predecessor's connection.
    pub(super) fn new(
        shared: &Shared,
        place: &Place,
        reception: Reception,
        to: SocketAddr,
    ) -> Result<Ring, RanksError> {
        let end = after(shared.timeouts.join);
        let go_on = || Instant::now() < end && shared.goes_on();
        let (next, previous) = ((place.rank + 1) % place.ranks, (place.rank + place.ranks - 1) % place.ranks);
        let lost =
            |rank: usize, why: String| shared.usable(&shared.lock()).err().unwrap_or(RanksError::Lost { rank, why });
        // The successor hears the hello while it connects to its own successor, so both go on at once.
        let hello = Hello::new(Purpose::Ring, place, 0);
        let host = spelled(to);
        let (reached, arrived) = thread::scope(|scope| {
            let reaching = thread::Builder::new().name("ring".into());
            let reaching = reaching.spawn_scoped(scope, || reach(&host, to.port(), &hello, &go_on));
            let arrived = loop {
                match reception.next() {
                    Some(arrival) if arrival.hello.rank == previous => break Some(arrival.stream),
                    _ if go_on() => {}
                    _ => break None,
                }
            };
            let reached = reaching.map_err(|error| error.to_string()).and_then(|reaching| {
                reaching.join().unwrap_or_else(|_| Err("the thread that connects has panicked".into()))
            });
            (reached, arrived)
        });
        let successor =
            reached.map_err(|problem| lost(next, format!("it is not reached by its predecessor: {problem}")))?;
        let predecessor = arrived.ok_or_else(|| lost(previous, "it does not connect to its successor".into()))?;
        let refused =
            |error: std::io::Error| RanksError::System { action: "use a socket".into(), problem: error.to_string() };
        let tick = Some(shared.timeouts.tick());
        for stream in [&successor, &predecessor] {
            stream.set_nonblocking(false).map_err(refused)?;
            stream.set_nodelay(true).map_err(refused)?;
            stream.set_read_timeout(tick).map_err(refused)?;
            stream.set_write_timeout(tick).map_err(refused)?;
            // A failure of the group ends what waits for the ring.
            shared.lock().ring.push(stream.try_clone().map_err(refused)?);
        }
        shared.usable(&shared.lock())?;
        Ok(Ring { successor, predecessor, next, previous })
    }

    /// Gathers the blocks of all ranks. `all` has room for each rank's block, which is as long as `own`.
    pub(super) fn all_gather(&self, shared: &Shared, own: &[u8], all: &mut [u8]) -> Result<(), Torn> {
        let (rank, ranks) = (shared.rank, shared.ranks);
        let mut blocks: Vec<Option<&mut [u8]>> = all.chunks_exact_mut(own.len()).map(Some).collect();
        thread::scope(|scope| {
            let (forward, forwarded) = channel::<&[u8]>();
            let send = move || self.send(shared, own, forwarded);
            let sender = thread::Builder::new().name("ring".into()).spawn_scoped(scope, send).map_err(|error| {
                let problem = format!("this rank has no thread to send: {error}");
                Torn { rank, trouble: Trouble::Broken(problem) }
            })?;
            let mut patience = Patience::new(shared.timeouts.collective, shared.timeouts.tick());
            let mut go_on = |_| patience.is_left() && shared.goes_on();
            let received = (1..ranks).try_for_each(|distance| {
                let block = blocks[(rank + ranks - distance) % ranks].take().unwrap_or_default();
                for piece in block.chunks_mut(BLOCK) {
                    wire::fill(&mut &self.predecessor, piece, &mut go_on)?;
                    // The successor has its own block already.
                    if distance + 1 < ranks {
                        let _ = forward.send(piece);
                    }
                }
                Ok(())
            });
            // While the sender is still at work.
            if let Some(block) = blocks[rank].take() {
                block.copy_from_slice(own);
            }
            // The sender ends when it has sent what there is.
            drop(forward);
            let sent = match sender.join() {
                Ok(sent) => sent,
                Err(_) => Err(Trouble::Broken("the thread that sends has panicked".into())),
            };
            received.map_err(|trouble| Torn { rank: self.previous, trouble })?;
            sent.map_err(|trouble| Torn { rank: self.next, trouble })
        })
    }

    /// Sends the own block, and then the pieces to forward.
    fn send(&self, shared: &Shared, own: &[u8], forwarded: Receiver<&[u8]>) -> Result<(), Trouble> {
        let mut patience = Patience::new(shared.timeouts.collective, shared.timeouts.tick());
        let mut go_on = |_| patience.is_left() && shared.goes_on();
        let mut send = |piece: &[u8]| wire::drain(&mut &self.successor, piece, &mut go_on);
        send(own)?;
        forwarded.iter().try_for_each(send)
    }
}

/// The host of an address, as the system resolves it: a link-local one with its interface.
fn spelled(to: SocketAddr) -> String {
    match to {
        SocketAddr::V6(to) if to.scope_id() != 0 => format!("{}%{}", to.ip(), to.scope_id()),
        to => to.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddrV6, ToSocketAddrs};

    use super::*;

    #[test]
    fn a_spelled_host_is_resolved_to_its_address() {
        let link_local = SocketAddrV6::new("fe80::2".parse().unwrap(), 7, 0, 1);
        assert_eq!(spelled(link_local.into()), "fe80::2%1");
        for to in [SocketAddr::V6(link_local), "[2001:db8::2]:7".parse().unwrap(), "10.0.0.2:7".parse().unwrap()] {
            let found: Vec<SocketAddr> = (&spelled(to)[..], to.port()).to_socket_addrs().unwrap().collect();
            assert_eq!(found, [to]);
        }
    }
}
