//! A rank's connection to the hub: it is made by a thread of the communicator, which then reads what the hub tells.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use crate::comm::Comm;
use crate::error::{Code, Outcome};
use crate::lock;
use crate::wire::{Asked, Token, Told};

/// The bytes of `ncclUniqueId`.
pub const ID_BYTES: usize = 128;

/// What every unique id begins with, so that another library's, or a forgotten one, is refused.
const MAGIC: [u8; 8] = *b"virtnccl";

/// Where a hub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    pub port: u16,
    pub token: Token,
}

impl Id {
    pub fn to_bytes(self) -> [u8; ID_BYTES] {
        let mut bytes = [0; ID_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.port.to_le_bytes());
        bytes[10..26].copy_from_slice(&self.token);
        bytes
    }

    pub fn of(bytes: &[u8; ID_BYTES]) -> Outcome<Id> {
        let mut id = Id { port: u16::from_le_bytes([bytes[8], bytes[9]]), token: [0; 16] };
        id.token.copy_from_slice(&bytes[10..26]);
        match id.to_bytes() == *bytes && id.port != 0 {
            true => Ok(id),
            false => Err(Code::InvalidArgument.because("the unique id was not made by virtual-nccl's ncclGetUniqueId")),
        }
    }
}

/// The connection, once there is one.
#[derive(Default)]
pub struct Line {
    stream: OnceLock<TcpStream>,
    /// Held by who writes.
    writing: Mutex<()>,
}

impl Line {
    pub fn send(&self, asked: &Asked) -> io::Result<()> {
        let mut stream = self.stream.get().ok_or(io::ErrorKind::NotConnected)?;
        let _writing = lock(&self.writing);
        asked.write(&mut stream)
    }

    /// Ends the connection, and with it the thread that reads. Who is writing gets an error.
    pub fn close(&self) {
        if let Some(stream) = self.stream.get() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Begins to join the other ranks.
pub fn join(comm: Arc<Comm>, id: Id) -> Outcome {
    let thread = thread::Builder::new().name("virtual-nccl rank".into());
    let spawned = thread.spawn(move || {
        if let Err(error) = connect(&comm, id) {
            comm.fail(
                Code::SystemError.because(format!("the rank that made the unique id cannot be reached: {error}")),
            );
            return;
        }
        listen(&comm);
    });
    spawned.map(drop).map_err(|error| Code::SystemError.because(error.to_string()))
}

fn connect(comm: &Comm, id: Id) -> io::Result<()> {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, id.port)))?;
    stream.set_nodelay(true)?;
    let line = comm.line();
    let _ = line.stream.set(stream);
    let (ranks, rank) = (comm.ranks as u32, comm.rank as u32);
    line.send(&Asked::Hello { token: id.token, ranks, rank, order: comm.settings.order })?;
    // An abort before the connection was stored has not closed it.
    if comm.is_over() {
        line.close();
    }
    Ok(())
}

/// Reads what the hub tells, until the connection ends. The hub ends it once all ranks were told that all is quiet: before that, the
/// process of the hub must not end.
fn listen(comm: &Comm) {
    let Some(mut stream) = comm.line().stream.get() else { return };
    let mut quiet = false;
    let why = loop {
        match Told::read(&mut stream) {
            Ok(Some(Told::Welcome)) => comm.joined(),
            Ok(Some(Told::Piece { number, offset, bytes })) => {
                if let Err(fault) = comm.arrived(number, offset, &bytes) {
                    comm.fail(fault);
                }
            }
            Ok(Some(Told::Failed { code, why })) => comm.fail(code.because(why)),
            Ok(Some(Told::Quiet)) => quiet = true,
            Ok(None) => break "it was closed".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    if quiet {
        return comm.quiet();
    }
    comm.fail(
        Code::RemoteError.because(format!("the connection to the process that made the unique id has ended: {why}")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_others_are_refused() {
        let id = Id { port: 4711, token: [3; 16] };
        let bytes = id.to_bytes();
        assert_eq!(Id::of(&bytes).unwrap(), id);
        assert!(Id::of(&[0; ID_BYTES]).is_err());
        for at in [0, 7, 26, 127] {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert!(Id::of(&damaged).is_err(), "{at}");
        }
    }
}
