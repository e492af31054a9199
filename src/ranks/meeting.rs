//! The meeting: rank 0 listens, the others connect to it and say who they are, until all have come. Then rank 0 tells each where
//! its successor in the ring listens.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::environment::Place;
use super::reception::{Arrival, Hello, Purpose, Reception, listening_address, reach};
use super::timeouts::{Timeouts, after};
use super::wire::{self, Kind, Trouble};
use crate::error::RanksError;

/// How much longer the others wait for rank 0's word than rank 0 waits for them.
const GRACE: Duration = Duration::from_secs(5);
/// How long rank 0 waits for late ranks once there is no meeting, so that they learn why.
const LATE: Duration = Duration::from_secs(2);
/// How long rank 0 tries to get its port, which the job before may still hold.
const PORT: Duration = Duration::from_secs(5);

/// Where a rank's successor listens. Without an IP address it is rank 0.
#[derive(Serialize, Deserialize)]
struct Welcome {
    ip: Option<IpAddr>,
    port: u16,
}

/// What a meeting gives.
pub(super) struct Met {
    /// By rank: the control connections.
    pub streams: Vec<Option<TcpStream>>,
    /// Where this rank's predecessor in the ring connects.
    pub ring: Reception,
    /// Where this rank's successor in the ring listens.
    pub successor: SocketAddr,
}

/// Meets the other ranks. There are two at least.
pub(super) fn meet(place: &Place, timeouts: &Timeouts) -> Result<Met, RanksError> {
    let end = after(timeouts.join);
    let refused = |error: std::io::Error| RanksError::System {
        action: "listen for the ring's predecessor".into(),
        problem: error.to_string(),
    };
    let address = SocketAddr::new(listening_address(place), 0);
    let ring = Reception::new(address, Purpose::Ring, &place.job).map_err(refused)?;
    let own = Hello::new(Purpose::Control, place, ring.port().map_err(refused)?);
    let (streams, successor) =
        if place.rank == 0 { receive(place, timeouts, &own, end)? } else { arrive(place, timeouts, &own, end)? };
    Ok(Met { streams, ring, successor })
}

fn meeting(place: &Place, problem: impl Into<String>) -> RanksError {
    RanksError::Meeting { address: spelled(place), problem: problem.into() }
}

/// The address as people write it.
fn spelled(place: &Place) -> String {
    let (address, port) = (&place.address, place.port);
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Rank 0's side.
fn receive(
    place: &Place,
    timeouts: &Timeouts,
    own: &Hello,
    end: Instant,
) -> Result<(Vec<Option<TcpStream>>, SocketAddr), RanksError> {
    let reception = listen(place, end)?;
    let mut here: Vec<Option<Arrival>> = (0..place.ranks).map(|_| None).collect();
    let missing =
        |here: &[Option<Arrival>]| (1..place.ranks).filter(|&rank| here[rank].is_none()).collect::<Vec<usize>>();
    while !missing(&here).is_empty() {
        if Instant::now() >= end {
            let (ranks, seconds) = (missing(&here), timeouts.join.as_secs());
            let error = RanksError::Missing { ranks, of: place.ranks, seconds, address: spelled(place) };
            return Err(reject(here.into_iter().flatten(), error));
        }
        let Some(arrival) = reception.next() else { continue };
        if let Some(error) = objection(&arrival.hello, own, &here) {
            let mut late = missing(&here);
            late.retain(|&rank| rank != arrival.hello.rank);
            let error = reject(here.into_iter().flatten().chain([arrival]), error);
            return Err(reject_late(&reception, late, error));
        }
        let rank = arrival.hello.rank;
        here[rank] = Some(arrival);
    }
    welcome(place, own.port, here)
}

/// The port, which may be free only in a moment.
fn listen(place: &Place, end: Instant) -> Result<Reception, RanksError> {
    let address = SocketAddr::new(listening_address(place), place.port);
    let end = end.min(Instant::now() + PORT);
    loop {
        match Reception::new(address, Purpose::Control, &place.job) {
            Ok(reception) => return Ok(reception),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if Instant::now() >= end {
                    let problem =
                        "the port is in use, by another job or program; set MASTER_PORT to a free one on all ranks";
                    return Err(meeting(place, problem));
                }
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(meeting(place, format!("rank 0 cannot listen there: {error}"))),
        }
    }
}

/// Why an arrival ends the meeting, if it does.
fn objection(hello: &Hello, own: &Hello, here: &[Option<Arrival>]) -> Option<RanksError> {
    let (rank, who) = (hello.rank, hello.who.clone());
    if !hello.is_alike(own) {
        return Some(RanksError::OtherVersion { rank, who, version: hello.program(), expected: own.program() });
    }
    if hello.ranks != own.ranks {
        return Some(RanksError::OtherCount { rank, who, ranks: hello.ranks, expected: own.ranks });
    }
    let first = match here.get(rank) {
        // Rank 0 itself.
        Some(None) if rank == own.rank => own,
        Some(None) => return None,
        // The same process once more, whose first connection has failed on its side.
        Some(Some(first)) if first.hello.nonce == hello.nonce => return None,
        Some(Some(first)) => &first.hello,
        None => {
            let problem = format!("a number that {} ranks do not have", own.ranks);
            return Some(RanksError::Protocol { rank, problem });
        }
    };
    Some(RanksError::Twice { rank, first: first.who.clone(), second: who })
}

/// Tells those who have come that there is no meeting.
fn reject(here: impl Iterator<Item = Arrival>, error: RanksError) -> RanksError {
    let message = serde_json::to_vec(&error).unwrap_or_default();
    for arrival in here {
        let end = Instant::now() + Duration::from_secs(1);
        let go_on = &mut |_| Instant::now() < end;
        let _ = wire::write(&mut &arrival.stream, (Kind::Rejected, 0, 0), &message, go_on);
    }
    error
}

/// Tells those who have not come yet as well, as they come. It waits for them, but not for long.
fn reject_late(reception: &Reception, mut late: Vec<usize>, error: RanksError) -> RanksError {
    let end = Instant::now() + LATE;
    let mut error = error;
    while !late.is_empty() && Instant::now() < end {
        if let Some(arrival) = reception.next() {
            late.retain(|&rank| rank != arrival.hello.rank);
            error = reject([arrival].into_iter(), error);
        }
    }
    error
}

/// Tells all where their successors listen.
fn welcome(
    place: &Place,
    own_port: u16,
    here: Vec<Option<Arrival>>,
) -> Result<(Vec<Option<TcpStream>>, SocketAddr), RanksError> {
    let address = |arrival: &Arrival| listening(arrival.from.ip().to_canonical(), arrival.hello.port, arrival.from);
    let at = |rank: usize| here[rank].as_ref().map(address);
    let Some(successor) = at(1) else { return Err(meeting(place, "rank 1 has not come")) };
    let mut welcomes = Vec::new();
    for rank in 1..place.ranks {
        let next = at((rank + 1) % place.ranks);
        welcomes.push(Welcome { ip: next.map(|next| next.ip()), port: next.map_or(own_port, |next| next.port()) });
    }
    let mut streams = vec![None];
    for (arrival, welcome) in here.into_iter().flatten().zip(welcomes) {
        let message = serde_json::to_vec(&welcome).unwrap_or_default();
        let end = Instant::now() + GRACE;
        let go_on = &mut |_| Instant::now() < end;
        // A rank that has ended since is found by the reader of its connection.
        let _ = wire::write(&mut &arrival.stream, (Kind::Welcome, 0, 0), &message, go_on);
        streams.push(Some(arrival.stream));
    }
    Ok((streams, successor))
}

/// The other ranks' side.
fn arrive(
    place: &Place,
    timeouts: &Timeouts,
    own: &Hello,
    end: Instant,
) -> Result<(Vec<Option<TcpStream>>, SocketAddr), RanksError> {
    let reached = reach(&place.address, place.port, own, &|| Instant::now() < end);
    let stream = reached.map_err(|problem| {
        let seconds = timeouts.join.as_secs_f64();
        let remedy = "does rank 0 run, and do MASTER_ADDR and MASTER_PORT name it?";
        meeting(place, format!("rank 0 was not reached within {seconds:.0} s; {remedy} ({problem})"))
    })?;
    let end = after(timeouts.join.saturating_add(GRACE));
    let frame = wire::read(&mut &stream, wire::LIMIT, &mut |_| Instant::now() < end);
    let frame = frame.map_err(|trouble| match trouble {
        Trouble::Ended | Trouble::Broken(_) => {
            RanksError::Lost { rank: 0, why: "it ended before all ranks had come".into() }
        }
        trouble => meeting(place, format!("rank 0 does not say whether all have come: {trouble}")),
    })?;
    let garbled = || RanksError::Protocol { rank: 0, problem: "a welcome that cannot be read".into() };
    match frame.kind {
        Kind::Rejected => Err(serde_json::from_slice(&frame.payload).unwrap_or_else(|_| garbled())),
        Kind::Welcome => {
            let welcome: Welcome = serde_json::from_slice(&frame.payload).map_err(|_| garbled())?;
            let rank_0 = stream.peer_addr().map_err(|error| meeting(place, error.to_string()))?;
            // A rank that reached rank 0 by the loopback interface is on rank 0's host.
            let ip = welcome.ip.filter(|ip| !ip.is_loopback()).unwrap_or(rank_0.ip());
            let mut streams: Vec<Option<TcpStream>> = (0..place.ranks).map(|_| None).collect();
            streams[0] = Some(stream);
            Ok((streams, listening(ip, welcome.port, rank_0)))
        }
        _ => Err(garbled()),
    }
}

/// Where a rank listens. A link-local address (`fe80::...`) means a host on one interface alone. Each host numbers its
/// interfaces itself: this one reaches all ranks by that of `peer`, the other end of a control connection.
fn listening(ip: IpAddr, port: u16, peer: SocketAddr) -> SocketAddr {
    match (ip, peer) {
        (IpAddr::V6(ip), SocketAddr::V6(peer)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, peer.scope_id()).into()
        }
        _ => SocketAddr::new(ip, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_keep_their_interface() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let peer = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3));
        assert_eq!(listening(ip("fe80::2"), 7, peer).to_string(), "[fe80::2%3]:7");
        assert_eq!(listening(ip("2001:db8::2"), 7, peer).to_string(), "[2001:db8::2]:7");
        assert_eq!(listening(ip("10.0.0.2"), 7, peer).to_string(), "10.0.0.2:7");
    }
}
