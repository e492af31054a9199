//! Download from a server.

#[cfg(feature = "fetch")]
use std::io::{self, Read};
use std::time::Duration;

use super::progress::{Failure, Progress};
use super::store::Store;

/// A server that has the files below an address, which ends with a slash.
pub(in crate::data) struct Mirror {
    pub(super) address: String,
    pub(super) patience: Patience,
}

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To be found, and again to be connected to.
    pub(super) connect: Duration,
    /// To begin its response.
    pub(super) response: Duration,
    /// Between two parts of a file.
    pub(super) stall: Duration,
    /// For a whole file.
    pub(super) file: Duration,
}

impl Mirror {
    /// The server at this address, which is given up within seconds if it is dead or stops, and within minutes if it is
    /// slow.
    pub(in crate::data) fn new(address: impl Into<String>) -> Self {
        let patience = Patience {
            connect: Duration::from_secs(4),
            response: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            file: Duration::from_secs(600),
        };
        Mirror { address: address.into(), patience }
    }

    /// Downloads the files that `store` lacks.
    #[cfg(feature = "fetch")]
    pub(super) fn deliver(&self, store: &Store, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
        let client = self.client();
        for file in store.missing()? {
            let name = format!("{}.gz", file.name);
            let response = client
                .get(format!("{}{name}", self.address))
                .call()
                .map_err(|error| Failure::Source(format!("{name}: {error}")))?;
            let body = response.into_body();
            let total = body.content_length();
            store.keep(file, Body(body.into_reader()), total, progress)?;
        }
        Ok(())
    }

    #[cfg(feature = "fetch")]
    fn client(&self) -> ureq::Agent {
        ureq::Agent::config_builder()
            .timeout_resolve(Some(self.patience.connect))
            .timeout_connect(Some(self.patience.connect))
            .timeout_recv_response(Some(self.patience.response))
            .timeout_per_read(Some(self.patience.stall))
            .timeout_recv_body(Some(self.patience.file))
            // The files are compressed already; a second compression would hide their size.
            .accept_encoding("identity")
            .build()
            .new_agent()
    }

    #[cfg(not(feature = "fetch"))]
    pub(super) fn deliver(&self, _: &Store, _: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
        Err(Failure::Source("this program was built without the feature `fetch`".into()))
    }
}

/// The body of a response, whose time-outs are told in plain words.
#[cfg(feature = "fetch")]
struct Body<R>(R);

#[cfg(feature = "fetch")]
impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.get_ref().and_then(|source| source.downcast_ref()) {
            Some(ureq::Error::Timeout(timeout)) => {
                let problem = format!("the server is too slow, or has stopped sending (timeout: {timeout})");
                io::Error::new(io::ErrorKind::TimedOut, problem)
            }
            _ => error,
        })
    }
}
