//! Programs that are no ranks of the job, at the job's port.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::super::reception::{Hello, Purpose};
use super::super::wire::{self, Kind, MAGIC};
use super::*;

/// Connects once somebody listens.
fn connect(port: u16) -> TcpStream {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// What strangers say.
fn garbage(port: u16) -> Vec<Vec<u8>> {
    let magic = |rest: &[u8]| [&MAGIC[..], rest].concat();
    let hello = |hello: &Hello| {
        let mut bytes = MAGIC.to_vec();
        wire::write(&mut bytes, (Kind::Hello, 0, 0), &serde_json::to_vec(hello).unwrap(), &mut |_| true).unwrap();
        bytes
    };
    let place = Place { job: "another job".into(), ..Place::on_this_host(1, 3, port) };
    vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(),
        vec![0; 100_000],
        vec![255; 100],
        MAGIC[..5].to_vec(),
        magic(&[]),
        magic(&[8, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]),
        magic(&[8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'{', 0, 255, b'}', b'!']),
        hello(&Hello::new(Purpose::Control, &place, 1)),
        hello(&Hello::new(Purpose::Ring, &place, 1)),
    ]
}

#[test]
fn strangers_do_not_disturb_a_meeting() {
    let places = places(3);
    let port = places[0].port;
    let first = places[0].clone();
    let rank_0 = thread::spawn(move || at_once(vec![first], work));
    // Those who say nothing stay; some of the others go.
    let mut open = Vec::new();
    for (at, bytes) in garbage(port).iter().chain(&garbage(port)).enumerate() {
        let mut stream = connect(port);
        let _ = stream.write_all(bytes);
        if at % 2 == 0 {
            open.push(stream);
        }
    }
    let began = Instant::now();
    at_once(places[1..].to_vec(), work);
    rank_0.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

    fn work(place: Place) {
        let group = Group::join(&place, short()).unwrap();
        assert_eq!(group.exchange(&[place.rank as u8]).unwrap(), [[0], [1], [2]]);
        group.leave(None);
    }
}

#[test]
fn a_stranger_in_rank_0s_stead_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::on_this_host(1, 2, listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nwhat was that?");
            thread::spawn(move || drop(stream.read_to_end(&mut Vec::new())));
        }
    });
    let timeouts = Timeouts { join: Duration::from_secs(1), ..short() };
    let said = at_once(vec![place], move |place| error(Group::join(&place, timeouts)));
    assert!(said[0].to_string().contains("is another program"), "{}", said[0]);
}

#[test]
fn garbage_from_a_rank_is_an_error_and_no_panic() {
    // A rank that has met the others properly, and then sends bytes that are no frames.
    let chance = |seed: u64| {
        (0..200u64).map(move |i| (i.wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37) as u8)
    };
    for seed in 0..6 {
        let said = ranks(2, short(), move |group| {
            if group.rank() == 1 {
                // Frames with true headers and untrue contents, then noise.
                let link = group.shared().links[0].as_ref().unwrap();
                let kinds = [Kind::Failed, Kind::Bye, Kind::Answer, Kind::Welcome, Kind::Hello, Kind::Overdue];
                let noise: Vec<u8> = chance(seed).collect();
                let _ = link.send((kinds[seed as usize], 9, 1 << 60), &noise, &mut |_| true);
                let _ = (&mut link.stream()).write_all(&noise);
                return error(group.barrier());
            }
            error(group.barrier())
        });
        assert_eq!(said.len(), 2);
    }
}
