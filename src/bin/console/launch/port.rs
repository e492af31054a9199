//! A free port for rank 0.

use std::io;

/// A port of the loopback interface. On Linux it is held until the end, by a socket that is bound and does not listen: the system
/// gives it to nobody else, and a socket that asks for this very number, as rank 0 does, may listen there.
pub struct Port {
    number: u16,
    #[cfg(target_os = "linux")]
    _held: std::os::fd::OwnedFd,
}

impl Port {
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Elsewhere the port is free at this moment.
    #[cfg(not(target_os = "linux"))]
    pub fn free() -> io::Result<Port> {
        let number = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Port { number })
    }

    #[cfg(target_os = "linux")]
    pub fn free() -> io::Result<Port> {
        use std::mem::{size_of, zeroed};
        use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

        let checked = |code: libc::c_int| if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) };
        // SAFETY: the structures are plain data with their true lengths, and the descriptor is this function's own.
        unsafe {
            let fd = checked(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
            let held = OwnedFd::from_raw_fd(fd);
            let on: libc::c_int = 1;
            let len = size_of::<libc::c_int>() as libc::socklen_t;
            checked(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, (&raw const on).cast(), len))?;
            let mut address: libc::sockaddr_in = zeroed();
            address.sin_family = libc::AF_INET as libc::sa_family_t;
            address.sin_addr.s_addr = libc::INADDR_LOOPBACK.to_be();
            let mut len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            checked(libc::bind(fd, (&raw const address).cast(), len))?;
            checked(libc::getsockname(held.as_raw_fd(), (&raw mut address).cast(), &raw mut len))?;
            Ok(Port { number: u16::from_be(address.sin_port), _held: held })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn whoever_asks_for_the_held_port_may_listen_there() {
        let port = Port::free().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
        assert_eq!(listener.local_addr().unwrap().port(), port.number());
    }
}
