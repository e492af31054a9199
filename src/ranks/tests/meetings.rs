//! Meetings that do not come about.

use std::time::{Duration, Instant};

use super::super::reception::{Hello, Purpose, reach};
use super::super::wire::{self, Kind};
use super::*;

/// The errors of ranks that try to meet.
fn refused(places: Vec<Place>, timeouts: Timeouts) -> Vec<RanksError> {
    at_once(places, move |place| error(Group::join(&place, timeouts)))
}

#[test]
fn ranks_that_never_come_are_named() {
    let mut places = places(6);
    places.remove(5);
    places.remove(2);
    let join = Duration::from_secs(1);
    let began = Instant::now();
    for said in refused(places, Timeouts { join, ..short() }) {
        assert!(matches!(&said, RanksError::Missing { ranks, of: 6, seconds: 1, .. } if *ranks == [2, 5]), "{said}");
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn without_rank_0_the_others_name_its_address() {
    let mut places = places(2);
    let port = places[0].port;
    places.remove(0);
    let said = refused(places, Timeouts { join: Duration::from_millis(500), ..short() });
    let text = said[0].to_string();
    assert!(text.starts_with(&format!("the ranks do not meet at 127.0.0.1:{port}: rank 0 was not reached")), "{text}");
    assert!(text.contains("MASTER_ADDR"), "{text}");
}

#[test]
fn two_processes_of_one_rank_fail_all() {
    let mut places = places(4);
    places[2].rank = 1;
    for said in refused(places, short()) {
        assert!(
            matches!(&said, RanksError::Twice { rank: 1, first, second } if first.contains("process") && second.contains("process")),
            "{said}"
        );
    }
}

#[test]
fn another_count_fails_all() {
    let mut places = places(4);
    places[3].ranks = 5;
    for said in refused(places, short()) {
        assert!(matches!(said, RanksError::OtherCount { rank: 3, ranks: 5, expected: 4, .. }), "{said}");
    }
}

#[test]
fn another_version_fails_all() {
    let places = places(3);
    let other = places[2].clone();
    let old = std::thread::spawn(move || {
        let hello = Hello { version: "mlpconv 0.0.1".into(), ..Hello::new(Purpose::Control, &other, 1) };
        let end = Instant::now() + Duration::from_secs(8);
        let stream = reach("127.0.0.1", other.port, &hello, &|| Instant::now() < end).unwrap();
        let frame = wire::read(&mut &stream, wire::LIMIT, &mut |_| Instant::now() < end).unwrap();
        assert_eq!(frame.kind, Kind::Rejected);
        serde_json::from_slice::<RanksError>(&frame.payload).unwrap()
    });
    for said in refused(places[..2].to_vec(), short()).into_iter().chain([old.join().unwrap()]) {
        assert!(
            matches!(&said, RanksError::OtherVersion { rank: 2, version, .. } if version.contains("0.0.1")),
            "{said}"
        );
    }
}

#[test]
fn a_port_in_use_is_an_error_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::on_this_host(0, 2, taken.local_addr().unwrap().port());
    let said = refused(vec![place], Timeouts { join: Duration::from_millis(300), ..short() });
    let text = said[0].to_string();
    assert!(text.contains("the port is in use") && text.contains("set MASTER_PORT"), "{text}");
}

#[test]
fn ranks_that_would_wait_for_ever_meet() {
    ranks(2, Timeouts { join: Duration::MAX, ..short() }, |group| group.leave(None));
}

#[test]
fn names_of_hosts_are_resolved() {
    let places = places(2).into_iter().map(|place| Place { address: "localhost".into(), ..place }).collect();
    at_once(places, |place: Place| {
        let group = Group::join(&place, short()).unwrap();
        group.barrier().unwrap();
        group.leave(None);
    });
}
