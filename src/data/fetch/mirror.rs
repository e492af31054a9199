//! Upstream's servers. What they deliver is checked against its SHA-256, so they need not be trusted, and the last
//! one, which speaks no TLS, is as good as the others.

use std::time::Duration;

use ureq::Agent;

use super::store::Store;
use super::{Failure, Progress};

/// Addresses below which the compressed files lie: upstream's repository, the copy that Keras uses, and the address
/// that upstream first published.
pub(super) const MIRRORS: [&str; 3] = [
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
];

/// Downloads the files that `store` lacks.
pub(super) fn deliver(
    address: &str,
    store: &Store,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Failure> {
    let agent = agent();
    for file in store.missing() {
        let name = format!("{}.gz", file.name);
        let response = agent
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
fn agent() -> Agent {
    Agent::config_builder()
        .timeout_resolve(Some(Duration::from_secs(4)))
        .timeout_connect(Some(Duration::from_secs(4)))
        .timeout_recv_response(Some(Duration::from_secs(10)))
        .timeout_recv_body(Some(Duration::from_secs(600)))
        // The files are compressed already; to do it twice would only hide their size.
        .accept_encoding("identity")
        .build()
        .new_agent()
}
