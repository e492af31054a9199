//! Promise 13. A download that is cut off, wrong, endless or slow is refused, and nothing of it stays.
//!
//! A server on this machine plays each. The data set is a small one of the MNIST family, described here.
#![cfg(feature = "fetch")]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{env, fs, thread};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use mlpconv::data::{DataFile, DataSpec, Format, Origin, Progress, Published, Recipe, Source, Splits, fetch};
use mlpconv::{Error, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::place::names;
use super::promise::{kept, tries};

const NAMES: [&str; 4] = ["train-images", "train-labels", "test-images", "test-labels"];

/// The files' contents: images of random pixels, which gzip does not make smaller, and their labels.
fn contents() -> &'static [Vec<u8>; 4] {
    static CONTENTS: OnceLock<[Vec<u8>; 4]> = OnceLock::new();
    CONTENTS.get_or_init(|| {
        let mut rng = SmallRng::seed_from_u64(13);
        let mut images = |count: u8| {
            let pixels = (0..usize::from(count) * 784).map(|_| rng.random::<u8>());
            [0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28].into_iter().chain(pixels).collect()
        };
        let labels = |count: u8| [0, 0, 8, 1, 0, 0, 0, count].into_iter().chain((0..count).map(|i| i % 2)).collect();
        [images(100), labels(100), images(20), labels(20)]
    })
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The description of the data set, with these mirrors.
fn spec(mirrors: Vec<String>) -> &'static DataSpec {
    let file = |(name, content): (&'static str, &Vec<u8>)| {
        let digest = Sha256::digest(content);
        let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        DataFile { name, published: Published::Content { bytes: content.len() as u64, sha256: sha256.leak() } }
    };
    let files: Vec<DataFile> = NAMES.into_iter().zip(contents()).map(file).collect();
    let (train, test) = files.leak().split_at(2);
    let mirrors: Vec<&'static str> = mirrors.into_iter().map(|address| &*address.leak()).collect();
    Box::leak(Box::new(DataSpec {
        name: "noise",
        title: "Noise",
        channels: 1,
        extents: [28, 28],
        class_names: &["even", "odd"],
        recipe: Recipe::Stretched,
        format: Format::Idx,
        train,
        test,
        archive: None,
        below: &["noise"],
        mirrors: mirrors.leak(),
        package: None,
        first_labels: None,
    }))
}

/// Starts a server that answers the request of each file, named without `.gz`, until the tests end. The stream is shut
/// down after the answer. Returns its address.
fn serve(answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    let reply = move |mut stream: TcpStream| {
        let mut lines = BufReader::new(&stream).lines().map_while(std::io::Result::ok);
        let request = lines.next().unwrap_or_default();
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        let path = request.split(' ').nth(1).unwrap_or_default();
        // The client hangs up where it has seen enough.
        let _ = answer(path.trim_start_matches('/').trim_end_matches(".gz"), &mut stream);
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reply = reply.clone();
            thread::spawn(move || reply(stream));
        }
    });
    address
}

/// The compressed content of the file of this name.
fn compressed(name: &str) -> Vec<u8> {
    let place = NAMES.iter().position(|known| *known == name).expect("the client asks for the data set's files");
    gzip(&contents()[place])
}

fn head(status: &str, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{fields}\r\n").into_bytes()
}

fn ok(body: &[u8]) -> Vec<u8> {
    [&head("200 OK", &format!("Content-Length: {}\r\n", body.len())), body].concat()
}

fn good() -> String {
    serve(|name, stream| stream.write_all(&ok(&compressed(name))))
}

/// Fetches from these mirrors. The folder must never take more disk than the files and the allowance for gzip.
fn fetch_from(mirrors: Vec<String>, into: &Path) -> Result<()> {
    let most = contents().iter().map(|content| content.len() as u64 + 64 * 1024).sum::<u64>();
    fetch::fetch(spec(mirrors), into, &mut |_: Progress| {
        let size = |name: String| fs::metadata(into.join(name)).map_or(0, |found| found.len());
        let taken: u64 = names(into).into_iter().map(size).sum();
        assert!(taken <= most, "{taken} bytes on disk, {most} allowed");
    })
}

/// Asserts that the folder holds the published files and nothing else.
fn assert_whole(folder: &Path) {
    let mut expected: Vec<_> = NAMES.iter().map(|name| format!("{name}.gz")).collect();
    expected.sort();
    assert_eq!(names(folder), expected);
    assert_right(folder);
    let source = Source { folder: folder.into(), origin: Origin::Argument };
    let data = Splits::read(spec(Vec::new()), source).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.warnings.len()), (100, 20, 0));
}

/// Asserts that the files that have their names are the published ones.
fn assert_right(folder: &Path) {
    for (name, content) in NAMES.iter().zip(contents()) {
        if let Ok(file) = fs::File::open(folder.join(format!("{name}.gz"))) {
            let mut found = Vec::new();
            GzDecoder::new(file).read_to_end(&mut found).unwrap();
            assert!(found == *content, "{name} has other content");
        }
    }
}

/// What a server does instead of sending the file.
type Play = fn(&str, &mut TcpStream) -> std::io::Result<()>;

/// The plays, each with words that the refusal has.
const PLAYS: [(&str, Play, &[&str]); 16] = [
    ("cut off", |name, stream| stream.write_all(&half(&ok(&compressed(name)))), &["train-images"]),
    ("cut off, of unknown length", |name, stream| stream.write_all(&half(&unmeasured(name))), &["train-images"]),
    ("cut off in a chunk", |_, stream| stream.write_all(&[&chunked()[..], b"ff\r\nabc"].concat()), &["train-images"]),
    ("no answer", |_, _| Ok(()), &["train-images"]),
    ("no HTTP", |_, stream| stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"), &["train-images"]),
    ("404", |_, stream| stream.write_all(&head("404 Not Found", "Content-Length: 0\r\n")), &["404"]),
    ("other content", |_, stream| stream.write_all(&ok(&gzip(&contents()[2]))), &["SHA-256"]),
    ("a flipped bit", |name, stream| stream.write_all(&ok(&flipped(name))), &["train-images: "]),
    ("a proxy's page", |_, stream| stream.write_all(&ok(PAGE)), &["a web page, not the file"]),
    ("a compressed page", |_, stream| stream.write_all(&ok(&gzip(PAGE))), &["a web page, not the file"]),
    ("a proxy's refusal", |_, stream| stream.write_all(&forbidden()), &["403"]),
    ("a redirect to itself", |name, stream| stream.write_all(&to(&format!("/{name}.gz"))), &["redirect"]),
    ("a redirect to nowhere", |_, stream| stream.write_all(&to("http://127.0.0.1:1/")), &["refused"]),
    ("10 GiB announced", |_, stream| announced(stream), &["10737418240 bytes are announced"]),
    ("an endless body", |_, stream| endless(stream, &unlimited()), &["more than"]),
    ("an endless head", |_, stream| endless(stream, b"HTTP/1.1 200 OK\r\nX: "), &["train-images"]),
];

const PAGE: &[u8] = b"\n<!DOCTYPE html>\n<html><body>This network needs a login.</body></html>";

fn half(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() / 2].to_vec()
}

fn unlimited() -> Vec<u8> {
    head("200 OK", "")
}

fn unmeasured(name: &str) -> Vec<u8> {
    [unlimited(), compressed(name)].concat()
}

fn chunked() -> Vec<u8> {
    head("200 OK", "Transfer-Encoding: chunked\r\n")
}

fn flipped(name: &str) -> Vec<u8> {
    let mut bytes = compressed(name);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn forbidden() -> Vec<u8> {
    [&head("403 Forbidden", &format!("Content-Length: {}\r\n", PAGE.len())), PAGE].concat()
}

fn to(address: &str) -> Vec<u8> {
    head("302 Found", &format!("Location: {address}\r\nContent-Length: 0\r\n"))
}

fn announced(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&head("200 OK", &format!("Content-Length: {}\r\n", 10u64 << 30)))?;
    endless(stream, b"\x1f\x8b")
}

/// Sends bytes after `start` until the client has had enough.
fn endless(stream: &mut TcpStream, start: &[u8]) -> std::io::Result<()> {
    stream.write_all(start)?;
    loop {
        stream.write_all(&[b'x'; 4096])?;
    }
}

/// Asserts that a source that plays `play` is refused with its address and all of `says`, that nothing stays, and that
/// the next source is asked.
fn assert_refused(what: &str, play: Play, says: &[&str]) {
    let bad = serve(play);
    let folder = TempDir::new().unwrap();
    let Err(Error::DataNotFound { tried, .. }) = fetch_from(vec![bad.clone()], folder.path()) else {
        panic!("{what} is accepted")
    };
    assert_eq!(tried.len(), 1, "{what}");
    assert!(tried[0].starts_with(&format!("{bad}: ")), "{what}: {}", tried[0]);
    assert!(says.iter().all(|word| tried[0].contains(word)), "{what}: {}", tried[0]);
    assert_eq!(names(folder.path()), [""; 0], "{what}");
    fetch_from(vec![bad, good()], folder.path()).unwrap();
    assert_whole(folder.path());
}

#[test]
fn a_bad_answer_is_refused_and_the_next_source_asked() {
    let mut plays = PLAYS.to_vec();
    // A server may take seconds to say nothing: only the long form waits so long. The short form of the time-outs is a
    // unit test with less patience.
    if tries(0, 1) == 1 {
        plays.push(("silence", |_, _| silence(), &["timeout"]));
        plays.push((
            "silence in the body",
            |name, stream| {
                stream.write_all(&half(&ok(&compressed(name))))?;
                silence()
            },
            &["timeout"],
        ));
    }
    plays.iter().for_each(|(what, play, says)| assert_refused(what, *play, says));
    kept(13, format!("{} kinds of bad answers, each refused with its cause, 0 files left", plays.len()));
}

fn silence() -> std::io::Result<()> {
    thread::sleep(Duration::from_secs(40));
    Ok(())
}

/// An answer that is cut at a random byte, or of which a random bit is flipped, yields the published file or nothing.
#[test]
fn a_damaged_answer_never_yields_another_file() {
    let seed = RandomState::new().build_hasher().finish();
    let count = tries(60, 3_000);
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut refused, mut accepted) = (0, 0);
    for number in 0..count {
        let (cuts, place) = (rng.random::<bool>(), rng.random::<f64>());
        let (bit, victim) = (rng.random_range(0..8), NAMES[rng.random_range(0..4)]);
        let bad = serve(move |name, stream| {
            let mut bytes = ok(&compressed(name));
            if name == victim {
                let at = (place * bytes.len() as f64) as usize;
                match cuts {
                    true => bytes.truncate(at),
                    false => bytes[at] ^= 1 << bit,
                }
            }
            stream.write_all(&bytes)
        });
        let folder = TempDir::new().unwrap();
        let result = fetch_from(vec![bad], folder.path());
        assert_right(folder.path());
        assert!(names(folder.path()).iter().all(|name| !name.starts_with('.')), "seed {seed}, try {number}");
        match result {
            Ok(()) => accepted += 1,
            Err(Error::DataNotFound { .. }) => refused += 1,
            Err(error) => panic!("seed {seed}, try {number}: {error}"),
        }
    }
    // A flipped bit of the response's head, or of gzip's, may change nothing.
    assert!(refused > count / 2, "seed {seed}: {refused} of {count} refused");
    kept(13, format!("{count} answers cut or damaged at random: {refused} refused, {accepted} with the right files"));
}

/// The variables that make a process of these tests a fetch: its folder and its mirror.
const INTO: &str = "MLPCONV_TEST_FETCH_INTO";
const FROM: &str = "MLPCONV_TEST_FETCH_FROM";

/// No test of its own: the process that `a_killed_fetch_leaves_nothing_that_is_trusted` kills.
#[test]
fn fetches_when_it_is_told_to() {
    if let (Some(into), Ok(from)) = (env::var_os(INTO), env::var(FROM)) {
        fetch_from(vec![from], Path::new(&into)).unwrap();
    }
}

fn fetch_in_a_process(mirror: &str, into: &Path) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "downloads::fetches_when_it_is_told_to"]).env(INTO, into).env(FROM, mirror);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A mirror that stops after `sent` bytes of the answer for the file `victim`, and then says so.
fn stopping(victim: &'static str, sent: usize) -> (String, Receiver<()>) {
    let (stopped, wait) = channel();
    let address = serve(move |name, stream| {
        let bytes = ok(&compressed(name));
        if name != victim {
            return stream.write_all(&bytes);
        }
        stream.write_all(&bytes[..sent.min(bytes.len())])?;
        let _ = stopped.send(());
        // Until the client is gone.
        stream.read_exact(&mut [0])
    });
    (address, wait)
}

#[test]
fn a_killed_fetch_leaves_nothing_that_is_trusted() {
    let seed = RandomState::new().build_hasher().finish();
    let count = tries(12, 200);
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut torn = 0;
    for number in 0..count {
        let within = |folder: &Path| names(folder).iter().any(|name| name.starts_with('.'));
        // The first kill is within a file for sure; the others are anywhere.
        let (victim, sent) = match number {
            0 => ("train-images", 40_000),
            _ => {
                let victim = NAMES[rng.random_range(0..4)];
                (victim, rng.random_range(0..=compressed(victim).len() + 100))
            }
        };
        let (mirror, stopped) = stopping(victim, sent);
        let folder = TempDir::new().unwrap();
        let mut child = fetch_in_a_process(&mirror, folder.path());
        stopped.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("seed {seed}, try {number}: no fetch"));
        while number == 0 && !within(folder.path()) {
            thread::sleep(Duration::from_millis(1));
        }
        // At once, or after the client has written what it got, or later.
        thread::sleep(Duration::from_micros([0, 300, 20_000][number % 3]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_right(folder.path());
        torn += usize::from(within(folder.path()));
        fetch_from(vec![good()], folder.path()).unwrap();
        assert_whole(folder.path());
    }
    assert!(torn > 0, "seed {seed}: no kill was within a file");
    kept(13, format!("{count} fetches killed, {torn} within a file: 0 wrong files, 0 files left after the next fetch"));
}

/// Several processes that fetch into one folder at the same time do not take each other's unfinished files for leftovers.
#[test]
fn fetches_at_the_same_time_do_not_harm_each_other() {
    let count = tries(3, 40);
    for _ in 0..count {
        let folder = TempDir::new().unwrap();
        let mirror = serve(|name, stream| {
            for part in ok(&compressed(name)).chunks(20_000) {
                stream.write_all(part)?;
                thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        });
        let children: Vec<Child> = (0..4).map(|_| fetch_in_a_process(&mirror, folder.path())).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        assert_whole(folder.path());
    }
    kept(13, format!("{count} times 4 fetches into one folder at once: all succeed"));
}
