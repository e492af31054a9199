//! The messages between a rank and the hub: a byte for the kind, eight for the body's length, the body. Numbers are little-endian.
//!
//! Whatever arrives is checked. A message that is too long, too short or unknown ends the connection.

use std::io::{self, Read, Write};

use crate::call::{Call, Kind, MOST, Type};
use crate::error::Code;
use crate::reduce::Order;

/// Proves that a connection is meant for this hub: a port of a hub that is gone may be another's by now.
pub type Token = [u8; 16];

/// From a rank to the hub.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// The first message.
    Hello { token: Token, ranks: u32, rank: u32, order: Order },
    /// A rank's collective number `number`, from 0, and its input.
    Collective { number: u64, call: Call, input: Vec<u8> },
    /// The rank has finalized its communicator: it will ask for nothing more.
    Bye,
}

/// From the hub to a rank.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// All ranks have come.
    Welcome,
    /// A part of the output of a collective.
    Piece { number: u64, offset: u64, bytes: Vec<u8> },
    /// The communicator has failed.
    Failed { code: Code, why: String },
    /// All ranks have finalized their communicators.
    Quiet,
}

/// The longest body: an input or output, and the numbers before it.
const LONGEST: u64 = MOST as u64 + 64;

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A message's body, read from its front.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(|| invalid("a message ends too early"))?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> io::Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }

    fn end(&self) -> io::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(invalid("a message has bytes too many")) }
    }
}

/// Writes a message whose body is these parts, in one write.
fn write(to: &mut impl Write, kind: u8, body: &[&[u8]]) -> io::Result<()> {
    let length: usize = body.iter().map(|part| part.len()).sum();
    let mut message = Vec::with_capacity(9 + length);
    message.push(kind);
    message.extend((length as u64).to_le_bytes());
    body.iter().for_each(|part| message.extend_from_slice(part));
    to.write_all(&message)
}

/// Reads a message's kind and body; `None`: the connection was closed before it.
fn read(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST {
        return Err(invalid("a message is too long"));
    }
    // Memory is taken as the bytes arrive, and not for a length that was only claimed.
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body)?;
    if (body.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((kind[0], body)))
}

impl Asked {
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Asked::Hello { token, ranks, rank, order } => {
                let (order, seed) = match order {
                    Order::Ring => (0, 0),
                    Order::Tree => (1, 0),
                    Order::Shuffled(seed) => (2, *seed),
                };
                write(to, 0, &[token, &ranks.to_le_bytes(), &rank.to_le_bytes(), &[order], &seed.to_le_bytes()])
            }
            Asked::Collective { number, call: Call { kind, count, of }, input } => {
                write(to, 1, &[&number.to_le_bytes(), &[*kind as u8, *of as u8], &count.to_le_bytes(), input])
            }
            Asked::Bye => write(to, 2, &[]),
        }
    }

    pub fn read(from: &mut impl Read) -> io::Result<Option<Asked>> {
        let Some((kind, body)) = read(from)? else { return Ok(None) };
        let mut body = Body(&body);
        let message = match kind {
            0 => {
                let (token, ranks, rank) = (body.array()?, body.u32()?, body.u32()?);
                let order = match (body.u8()?, body.u64()?) {
                    (0, _) => Order::Ring,
                    (1, _) => Order::Tree,
                    (2, seed) => Order::Shuffled(seed),
                    _ => return Err(invalid("an unknown order")),
                };
                Asked::Hello { token, ranks, rank, order }
            }
            1 => {
                let number = body.u64()?;
                let kind = match body.u8()? {
                    0 => Kind::AllGather,
                    1 => Kind::AllReduce,
                    _ => return Err(invalid("an unknown collective")),
                };
                let of = Type::of(body.u8()?.into()).ok_or_else(|| invalid("an unknown type"))?;
                Asked::Collective { number, call: Call { kind, count: body.u64()?, of }, input: body.rest() }
            }
            2 => Asked::Bye,
            _ => return Err(invalid("an unknown message")),
        };
        body.end().map(|()| Some(message))
    }
}

impl Told {
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Told::Welcome => write(to, 0, &[]),
            Told::Piece { number, offset, bytes } => {
                write(to, 1, &[&number.to_le_bytes(), &offset.to_le_bytes(), bytes])
            }
            Told::Failed { code, why } => write(to, 2, &[&(*code as u32).to_le_bytes(), why.as_bytes()]),
            Told::Quiet => write(to, 3, &[]),
        }
    }

    pub fn read(from: &mut impl Read) -> io::Result<Option<Told>> {
        let Some((kind, body)) = read(from)? else { return Ok(None) };
        let mut body = Body(&body);
        let message = match kind {
            0 => Told::Welcome,
            1 => Told::Piece { number: body.u64()?, offset: body.u64()?, bytes: body.rest() },
            2 => Told::Failed {
                code: Code::of(body.u32()?),
                why: String::from_utf8_lossy(&body.rest()).replace('\0', " "),
            },
            3 => Told::Quiet,
            _ => return Err(invalid("an unknown message")),
        };
        body.end().map(|()| Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Vec<Asked> {
        let call = Call { kind: Kind::AllReduce, count: 2, of: Type::Float32 };
        vec![
            Asked::Hello { token: [7; 16], ranks: 4, rank: 3, order: Order::Shuffled(99) },
            Asked::Collective { number: 5, call, input: vec![1, 2, 3, 4, 5, 6, 7, 8] },
            Asked::Bye,
        ]
    }

    fn told() -> Vec<Told> {
        vec![
            Told::Welcome,
            Told::Piece { number: 1, offset: 8, bytes: vec![9; 3] },
            Told::Failed { code: Code::InvalidUsage, why: "a reason".into() },
            Told::Quiet,
        ]
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        for message in asked() {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            assert_eq!(Asked::read(&mut &bytes[..]).unwrap(), Some(message));
        }
        for message in told() {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            assert_eq!(Told::read(&mut &bytes[..]).unwrap(), Some(message));
        }
    }

    #[test]
    fn damaged_messages_are_errors_or_other_messages_and_never_panics() {
        let mut whole = Vec::new();
        asked().iter().for_each(|message| message.write(&mut whole).unwrap());
        told().iter().for_each(|message| message.write(&mut whole).unwrap());
        for at in 0..whole.len() {
            let _ = Asked::read(&mut &whole[at..]);
            let _ = Told::read(&mut &whole[at..]);
            for value in [0, 1, 2, 3, 9, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let mut rest = &damaged[..];
                while let Ok(Some(_)) = Asked::read(&mut rest) {}
                let _ = Told::read(&mut rest);
            }
        }
        assert!(Asked::read(&mut &b""[..]).unwrap().is_none());
        assert!(Asked::read(&mut &[1, 255, 255, 255, 255, 255, 255, 255, 255, 0][..]).is_err());
        assert!(Told::read(&mut &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..]).is_err(), "bytes too many");
        assert!(Told::read(&mut &[1, 200, 0, 0, 0, 0, 0, 0, 0, 0][..]).is_err(), "cut short");
    }
}
