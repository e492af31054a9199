//! Frames: the messages of the control connections. A frame is 16 bytes of header (kind, call, two zeros, length, number; little
//! endian) and its payload.

use std::io::{ErrorKind, Read, Write};

/// What both sides of a new connection send first. A stranger does not.
pub(super) const MAGIC: [u8; 8] = *b"mlpconv\n";
/// The version of the protocol. It changes with the meaning of frames.
pub(super) const PROTOCOL: u32 = 1;
/// The longest payload of a hello: whoever sends it is not known yet.
pub(super) const HELLO_LIMIT: usize = 4 << 10;
/// The longest payload of all other frames.
pub(super) const LIMIT: usize = 1 << 30;
/// Payloads take memory in pieces of so many bytes, as these arrive.
const PIECE: usize = 1 << 20;
/// A frame up to this length is sent in one piece.
pub(super) const SMALL: usize = 32 << 10;
const HEADER: usize = 16;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The sender is alive.
    Beat,
    /// To rank 0: the sender has come to a call, with its part.
    Call,
    /// From rank 0: the call's result.
    Answer,
    /// The group has failed: a `RanksError`.
    Failed,
    /// The sender leaves: why, or nothing.
    Bye,
    /// A hello or a bye has been read.
    Heard,
    /// To rank 0: the sender has waited too long for the answer to a call.
    Overdue,
    /// Who the sender is.
    Hello,
    /// From rank 0: all have come; where the receiver's successor in the ring listens.
    Welcome,
    /// From rank 0: the ranks do not meet: a `RanksError`.
    Rejected,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Beat,
        Kind::Call,
        Kind::Answer,
        Kind::Failed,
        Kind::Bye,
        Kind::Heard,
        Kind::Overdue,
        Kind::Hello,
        Kind::Welcome,
        Kind::Rejected,
    ];

    fn code(self) -> u8 {
        // There are ten.
        Kind::ALL.iter().position(|&kind| kind == self).map_or(0, |at| at as u8 + 1)
    }

    fn of(code: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: Kind,
    /// Which call it belongs to, for [`Kind::Call`] and [`Kind::Answer`]; else 0.
    pub call: u8,
    /// That call's number, from 1; else 0.
    pub number: u64,
    pub payload: Vec<u8>,
}

/// Why nothing more can be read from a connection, or written to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The other side has closed the connection.
    Ended,
    /// The connection does not move, and the waiting side gives up.
    Stalled,
    /// The system reports an error.
    Broken(String),
    /// The bytes are no frame.
    Garbage(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Ended => write!(f, "the connection was closed"),
            Trouble::Stalled => write!(f, "no answer in time"),
            Trouble::Broken(problem) => write!(f, "{problem}"),
            Trouble::Garbage(problem) => write!(f, "{problem}"),
        }
    }
}

/// Fills `into`. `go_on` is asked after each read: with `true` if bytes came, with `false` if the stream's timeout was over; its
/// answer is whether to read on.
pub(super) fn fill(
    stream: &mut impl Read,
    into: &mut [u8],
    go_on: &mut dyn FnMut(bool) -> bool,
) -> Result<(), Trouble> {
    let mut done = 0;
    while done < into.len() {
        let came = match stream.read(&mut into[done..]) {
            Ok(0) => return Err(Trouble::Ended),
            Ok(read) => {
                done += read;
                true
            }
            Err(error) => waited(&error)?,
        };
        if !go_on(came) && done < into.len() {
            return Err(Trouble::Stalled);
        }
    }
    Ok(())
}

/// Writes all of `from`. `go_on` as for [`fill`].
pub(super) fn drain(stream: &mut impl Write, from: &[u8], go_on: &mut dyn FnMut(bool) -> bool) -> Result<(), Trouble> {
    let mut done = 0;
    while done < from.len() {
        let went = match stream.write(&from[done..]) {
            Ok(0) => return Err(Trouble::Ended),
            Ok(written) => {
                done += written;
                true
            }
            Err(error) => waited(&error)?,
        };
        if !go_on(went) && done < from.len() {
            return Err(Trouble::Stalled);
        }
    }
    Ok(())
}

/// Whether an error of a stream is a timeout (`false`), a signal (`true`: no time has passed), or its end.
fn waited(error: &std::io::Error) -> Result<bool, Trouble> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(false),
        ErrorKind::Interrupted => Ok(true),
        _ => Err(Trouble::Broken(error.to_string())),
    }
}

/// Reads a frame, whose payload has at most `limit` bytes.
pub(super) fn read(
    stream: &mut impl Read,
    limit: usize,
    go_on: &mut dyn FnMut(bool) -> bool,
) -> Result<Frame, Trouble> {
    let mut header = [0; HEADER];
    fill(stream, &mut header, go_on)?;
    let [code, call, 0, 0, l0, l1, l2, l3, number @ ..] = header else {
        return Err(Trouble::Garbage("a header that is none".into()));
    };
    let kind = Kind::of(code).ok_or_else(|| Trouble::Garbage(format!("a frame of the unknown kind {code}")))?;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if len > limit {
        return Err(Trouble::Garbage(format!("a frame of {len} bytes, where {limit} are allowed")));
    }
    let mut payload = Vec::new();
    while payload.len() < len {
        let (have, more) = (payload.len(), PIECE.min(len - payload.len()));
        if payload.try_reserve(more).is_err() {
            return Err(Trouble::Broken(format!("no memory for a frame of {len} bytes")));
        }
        payload.resize(have + more, 0);
        fill(stream, &mut payload[have..], go_on)?;
    }
    Ok(Frame { kind, call, number: u64::from_le_bytes(number), payload })
}

/// Writes a frame. The payload has at most [`LIMIT`] bytes.
pub(super) fn write(
    stream: &mut impl Write,
    (kind, call, number): (Kind, u8, u64),
    payload: &[u8],
    go_on: &mut dyn FnMut(bool) -> bool,
) -> Result<(), Trouble> {
    if payload.len() > LIMIT {
        return Err(Trouble::Garbage(format!("a frame of {} bytes, where {LIMIT} are allowed", payload.len())));
    }
    let mut header = Vec::with_capacity(HEADER + if payload.len() <= SMALL { payload.len() } else { 0 });
    header.extend([kind.code(), call, 0, 0]);
    header.extend((payload.len() as u32).to_le_bytes());
    header.extend(number.to_le_bytes());
    if payload.len() <= SMALL {
        header.extend(payload);
        return drain(stream, &header, go_on);
    }
    drain(stream, &header, go_on)?;
    drain(stream, payload, go_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for len in [0, 1, SMALL, SMALL + 1, 3 * PIECE + 7] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut bytes = Vec::new();
            write(&mut bytes, (Kind::Call, 3, 77), &payload, &mut |_| true).unwrap();
            let frame = read(&mut &bytes[..], LIMIT, &mut |_| true).unwrap();
            assert_eq!(frame, Frame { kind: Kind::Call, call: 3, number: 77, payload });
            let cut = read(&mut &bytes[..bytes.len() - 1], LIMIT, &mut |_| true);
            assert_eq!(cut.unwrap_err(), Trouble::Ended);
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.code()), Some(kind));
        }
    }

    #[test]
    fn a_length_beyond_the_limit_takes_no_memory() {
        let header = [Kind::Hello.code(), 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(matches!(read(&mut &header[..], LIMIT, &mut |_| true), Err(Trouble::Garbage(_))));
        let unknown = [99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(matches!(read(&mut &unknown[..], LIMIT, &mut |_| true), Err(Trouble::Garbage(_))));
    }
}
