//! The output of ranks, line by line.

use std::io::{self, BufRead, BufReader, Read, Write};

/// The longest line that is kept together.
const LONGEST: u64 = 1 << 20;

/// Copies lines, each with a prefix and in one piece. What cannot be written is dropped, so that the rank does not wait for it.
pub fn copy(from: impl Read, prefix: &str, mut to: impl Write) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend(prefix.as_bytes());
        match (&mut from).take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        let _ = to.write_all(&line).and_then(|()| to.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_prefix() {
        let mut copied = Vec::new();
        copy(&b"one\n\ntwo \xff\nno end"[..], "[rank 2] ", &mut copied);
        assert_eq!(copied, b"[rank 2] one\n[rank 2] \n[rank 2] two \xff\n[rank 2] no end\n");
    }
}
