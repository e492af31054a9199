//! Fetches from servers on this machine.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::mirror::Patience;
use super::server::{ok, response, serve, serve_slowly};
use super::*;
use crate::data::recipe::Recipe;
use crate::data::spec::{DataFile, Format, Published};
use crate::error::{Error, Result};

const CONTENTS: [(&str, &[u8]); 2] = [("first", b"one one one"), ("second", b"two two two")];

fn sha256(content: &[u8]) -> &'static str {
    String::leak(Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect())
}

/// Files with a published content.
fn files() -> Vec<&'static DataFile> {
    let file = |&(name, content): &(&'static str, &[u8])| {
        let published = Published::Content { bytes: content.len() as u64, sha256: sha256(content) };
        &*Box::leak(Box::new(DataFile { name, published }))
    };
    CONTENTS.iter().map(file).collect()
}

/// The same files, of which only the compressed form is published.
fn compressed_files() -> Vec<&'static DataFile> {
    let file = |&(name, content): &(&'static str, &[u8])| {
        let whole = gzip(content);
        let published = Published::Compressed { bytes: whole.len() as u64, sha256: sha256(&whole) };
        &*Box::leak(Box::new(DataFile { name, published }))
    };
    CONTENTS.iter().map(file).collect()
}

/// A data set for messages; the files of a test are passed separately.
static SPEC: DataSpec = DataSpec {
    name: "words",
    title: "Words",
    channels: 1,
    extents: [1, 1],
    class_names: &["word"],
    recipe: Recipe::Stretched,
    format: Format::Idx,
    train: &[],
    test: &[],
    archive: Some(DataFile { name: "words.tar", published: Published::Size { bytes: 1 } }),
    below: &["words"],
    mirrors: &[],
    package: None,
    first_labels: None,
};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The response of an upstream server to the request of a file.
fn upstream(path: &str) -> Vec<u8> {
    match CONTENTS.iter().find(|(name, _)| path == format!("/{name}.gz")) {
        Some((_, content)) => ok(&gzip(content)),
        None => response("404 Not Found", 0, b""),
    }
}

fn mirror(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Supplier {
    Supplier::Mirror(Mirror::new(serve(answer)))
}

/// Fetches `files` from these sources, in order. Returns the result and the events.
fn fetch_these(files: &[&'static DataFile], folder: &Path, sources: &[Supplier]) -> (Result<()>, Vec<Progress>) {
    let mut events = Vec::new();
    let result =
        Store::open(folder, files).and_then(|store| fill(&store, sources, &SPEC, &mut |event| events.push(event)));
    (result, events)
}

fn fetch(folder: &Path, sources: &[Supplier]) -> (Result<()>, Vec<Progress>) {
    fetch_these(&files(), folder, sources)
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The reason why a mirror with this answer is refused. Asserts that no file is left behind.
fn refusal(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let folder = tempfile::tempdir().unwrap();
    let source = mirror(answer);
    let Err(Error::DataNotFound { tried, .. }) = fetch(folder.path(), &[source]).0 else {
        panic!("accepted");
    };
    assert_eq!(names(&folder), [""; 0]);
    assert_eq!(tried.len(), 1);
    tried.into_iter().next().unwrap()
}

#[test]
fn files_arrive_with_progress() {
    let folder = tempfile::tempdir().unwrap();
    let source = mirror(upstream);
    let address = source.to_string();
    let (result, events) = fetch(folder.path(), &[source]);
    result.unwrap();
    assert_eq!(names(&folder), ["first.gz", "second.gz"]);
    assert_eq!(fs::read(folder.path().join("first.gz")).unwrap(), gzip(CONTENTS[0].1));
    let arrival = |&(file, content): &(&'static str, &[u8])| {
        let done = gzip(content).len() as u64;
        [Progress::Bytes { file, done, total: Some(done) }, Progress::Done { file }]
    };
    let expected = [Progress::Trying { data: "Words", source: address }];
    let expected = expected.into_iter().chain(CONTENTS.iter().flat_map(arrival));
    assert_eq!(events, expected.collect::<Vec<_>>());
}

#[test]
fn the_next_mirror_goes_on_where_one_failed() {
    let folder = tempfile::tempdir().unwrap();
    let half = mirror(|path| upstream(if path == "/first.gz" { path } else { "/" }));
    let other_half = mirror(|path| upstream(if path == "/second.gz" { path } else { "/" }));
    fetch(folder.path(), &[half, other_half]).0.unwrap();
    assert_eq!(names(&folder), ["first.gz", "second.gz"]);
    let (result, events) = fetch(folder.path(), &[]);
    result.unwrap();
    assert_eq!(events, []);
}

#[test]
fn a_damaged_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("first.gz"), b"damaged").unwrap();
    fetch(folder.path(), &[mirror(upstream)]).0.unwrap();
    assert_eq!(fs::read(folder.path().join("first.gz")).unwrap(), gzip(CONTENTS[0].1));
}

#[test]
fn a_file_that_the_server_uncompressed_gets_the_name_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("first.gz"), b"damaged").unwrap();
    let plain = |path: &str| ok(CONTENTS[usize::from(path == "/second.gz")].1);
    fetch(folder.path(), &[mirror(plain)]).0.unwrap();
    assert_eq!(names(&folder), ["first", "second"]);
}

#[test]
fn other_content_is_refused() {
    let problem = refusal(|_| ok(&gzip(b"eno eno eno")));
    assert!(problem.contains("first: its content (11 bytes) has SHA-256"), "{problem}");
}

#[test]
fn a_web_page_is_told_from_other_content() {
    let page = format!("<!DOCTYPE html><html>please log in{}</html>", " ".repeat(9_000));
    for body in [page.as_bytes().to_vec(), gzip(page.as_bytes()), b"<html>".to_vec()] {
        let problem = refusal(move |_| ok(&body));
        assert!(problem.contains("first: the answer is a web page, not the file; a proxy"), "{problem}");
    }
}

#[test]
fn a_body_cut_short_is_refused() {
    let whole = gzip(CONTENTS[0].1);
    let problem = refusal(move |_| response("200 OK", whole.len(), &whole[..9]));
    assert!(problem.contains("first: "), "{problem}");
    // A server that sends a truncated file with a matching length.
    let whole = gzip(CONTENTS[0].1);
    let problem = refusal(move |_| ok(&whole[..whole.len() - 4]));
    assert!(problem.contains("first: "), "{problem}");
}

#[test]
fn an_absent_file_is_refused() {
    let problem = refusal(|_| response("404 Not Found", 0, b""));
    assert!(problem.ends_with("first.gz: http status: 404"), "{problem}");
}

#[test]
fn more_than_the_file_can_have_is_refused() {
    let problem = refusal(|_| ok(&vec![0; 200_000]));
    assert!(problem.contains("first: 200000 bytes are announced, but the file has no more than 65547"), "{problem}");
    // The client is not told how many bytes will come.
    let endless = || [&b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"[..], &vec![0; 200_000]].concat();
    let problem = refusal(move |_| endless());
    assert!(problem.contains("first: more than 65547 bytes"), "{problem}");
    let bomb = gzip(&vec![0; 1 << 24]);
    let problem = refusal(move |_| ok(&bomb));
    assert!(problem.contains("first: its content has more than 11 bytes"), "{problem}");
}

/// Servers that stop before their response, within its head, and within its body.
#[test]
fn a_server_that_stops_is_given_up_for_the_next_one() {
    let whole = ok(&gzip(CONTENTS[0].1));
    for sent in [0, 10, whole.len() - 5] {
        let part = whole[..sent].to_vec();
        let address = serve_slowly(move |_| (part.clone(), false));
        let moment = Duration::from_millis(200);
        // Patience enough for everything but a pause.
        let long = Duration::from_secs(3600);
        let patience = Patience { connect: long, response: moment, stall: moment, file: long };
        let stopping = Supplier::Mirror(Mirror { address: address.clone(), patience });
        let folder = tempfile::tempdir().unwrap();
        let Err(Error::DataNotFound { tried, .. }) = fetch(folder.path(), std::slice::from_ref(&stopping)).0 else {
            panic!("accepted");
        };
        assert!(tried[0].starts_with(&address) && tried[0].contains("timeout"), "{tried:?}");
        assert_eq!(tried[0].contains("has stopped sending"), sent > 10, "{tried:?}");
        assert_eq!(names(&folder), [""; 0]);
        fetch(folder.path(), &[stopping, mirror(upstream)]).0.unwrap();
        assert_eq!(names(&folder), ["first.gz", "second.gz"]);
    }
}

#[test]
fn what_killed_fetches_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let leave = |names: &[&str]| names.iter().for_each(|name| fs::write(folder.path().join(name), b"part").unwrap());
    let others = [".first", ".first.7-0.txt", ".first.a-0", ".other.7-0", "first.7-0", "notes.txt"];
    leave(&others);
    leave(&[".first.7-0", ".second.123456-19"]);
    fs::create_dir(folder.path().join(".debian.7-1")).unwrap();
    fs::write(folder.path().join(".debian.7-1/part.deb"), b"part").unwrap();
    fetch(folder.path(), &[mirror(upstream)]).0.unwrap();
    assert_eq!(names(&folder), [&others[..5], &["first.gz"], &others[5..], &["second.gz"]].concat());
}

#[test]
fn files_of_a_fetch_under_way_stay() {
    let folder = tempfile::tempdir().unwrap();
    let files = files();
    let under_way = Store::open(folder.path(), &files).unwrap();
    let (part, ()) = under_way.scratch("first", |path| fs::write(path, b"part")).unwrap();
    fetch(folder.path(), &[mirror(upstream)]).0.unwrap();
    assert!(part.0.exists());
    // A fetch that is killed drops nothing.
    std::mem::forget(part);
    drop(under_way);
    fetch(folder.path(), &[]).0.unwrap();
    assert_eq!(names(&folder), ["first.gz", "second.gz"]);
}

/// Containers that share a cache have processes of the same number.
#[test]
fn scratch_files_of_a_process_of_the_same_number_stay() {
    let folder = tempfile::tempdir().unwrap();
    let files = files();
    let under_way = Store::open(folder.path(), &files).unwrap();
    let (own, ()) = under_way.scratch("first", |path| fs::write(path, b"own")).unwrap();
    let (stem, count) = own.0.to_str().unwrap().rsplit_once('-').unwrap();
    let count: u32 = count.parse().unwrap();
    let theirs: Vec<String> = (1..100).map(|more| format!("{stem}-{}", count + more)).collect();
    theirs.iter().for_each(|path| fs::write(path, b"theirs").unwrap());
    fetch(folder.path(), &[mirror(upstream)]).0.unwrap();
    assert!(theirs.iter().all(|path| fs::read(path).is_ok_and(|content| content == b"theirs")));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = fetch(folder.path(), &[Supplier::Mirror(Mirror::new(address.as_str()))]).0.unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(&address) && message.contains("$MLPCONV_DATA") && message.starts_with("Words was not found"),
        "{message}"
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let (result, events) = fetch(&file.join("folder"), &[mirror(upstream)]);
    assert!(matches!(result, Err(Error::Io { .. })));
    assert_eq!(events, []);
}

#[test]
fn a_file_without_a_content_hash_must_be_the_compressed_one() {
    let folder = tempfile::tempdir().unwrap();
    let files = compressed_files();
    fetch_these(&files, folder.path(), &[mirror(upstream)]).0.unwrap();
    assert_eq!(names(&folder), ["first.gz", "second.gz"]);

    // Three mirrors: one sends the file uncompressed, one compresses it anew, one answers with a login page.
    let folder = tempfile::tempdir().unwrap();
    let plain = mirror(|path| ok(CONTENTS[usize::from(path == "/second.gz")].1));
    let anew = mirror(|_| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(b"one").unwrap();
        ok(&encoder.finish().unwrap())
    });
    let page = mirror(|_| ok(b"<html>please log in</html>"));
    let (result, _) = fetch_these(&files, folder.path(), &[plain, anew, page]);
    let Err(Error::DataNotFound { data, tried, remedy }) = result else { panic!("accepted") };
    assert_eq!((data.as_str(), tried.len()), ("Words", 3));
    assert!(tried[..2].iter().all(|line| line.contains("first: the file")), "{tried:?}");
    assert!(tried[2].contains("first: the answer is a web page"), "{tried:?}");
    assert!(remedy.contains("words.tar.gz"), "{remedy}");
    assert_eq!(names(&folder), [""; 0]);
}
