//! Download from a server.

use std::time::Duration;

use ureq::Agent;

use super::progress::{Failure, Progress};
use super::store::Store;

/// Downloads the files that `store` lacks.
pub(super) fn deliver(address: &str, store: &Store, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
    let client = client();
    for file in store.missing() {
        let name = format!("{}.gz", file.name);
        let response = client
            .get(format!("{address}{name}"))
            .call()
            .map_err(|error| Failure::Source(format!("{name}: {error}")))?;
        let body = response.into_body();
        let total = body.content_length();
        store.keep(file, body.into_reader(), total, progress)?;
    }
    Ok(())
}

/// A client that gives up on a dead server within seconds, and on a slow one within minutes.
fn client() -> Agent {
    Agent::config_builder()
        .timeout_resolve(Some(Duration::from_secs(4)))
        .timeout_connect(Some(Duration::from_secs(4)))
        .timeout_recv_response(Some(Duration::from_secs(10)))
        .timeout_recv_body(Some(Duration::from_secs(600)))
        // The files are compressed already; a second compression would hide their size.
        .accept_encoding("identity")
        .build()
        .new_agent()
}
