//! A server on this machine, for tests.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Starts a server that answers each request by its path and then hangs up, until the tests end. Returns its address.
pub fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    serve_slowly(move |path| (answer(path), true))
}

/// As [`serve`]; where the second value of an answer is false, the server says no more and does not hang up.
pub fn serve_slowly(answer: impl Fn(&str) -> (Vec<u8>, bool) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let reply = move |stream: &TcpStream| -> std::io::Result<bool> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let (bytes, ends) = answer(request.split(' ').nth(1).unwrap_or_default());
        let mut stream = stream;
        stream.write_all(&bytes)?;
        Ok(ends)
    };
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            // The client may hang up before the end: some tests make it do so.
            if !reply(&stream).unwrap_or(true) {
                kept.push(stream);
            }
        }
    });
    address
}

/// A response whose header promises `length` bytes.
pub fn response(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
    [head.as_bytes(), b"Connection: close\r\n\r\n", body].concat()
}

/// The response with this body.
pub fn ok(body: &[u8]) -> Vec<u8> {
    response("200 OK", body.len(), body)
}
