//! How fast data goes round.

use std::time::Instant;

use super::*;

/// `cargo test --release --lib ranks::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement for people")]
fn all_gather_over_the_loopback_interface() {
    for (count, len) in [(2, 1 << 10), (2, 8 << 20), (2, 256 << 20), (4, 64 << 20)] {
        let rounds = if len < 1 << 20 { 1000 } else { 5 };
        let seconds = ranks(count, Timeouts::default(), move |group| {
            let own = vec![group.rank() as u8; len];
            let mut all = vec![0; count * len];
            group.all_gather(&own, &mut all).unwrap();
            group.barrier().unwrap();
            let began = Instant::now();
            for _ in 0..rounds {
                group.all_gather(&own, &mut all).unwrap();
            }
            let seconds = began.elapsed().as_secs_f64() / f64::from(rounds);
            group.leave(None);
            seconds
        });
        let slowest = seconds.into_iter().fold(0.0, f64::max);
        // Each rank receives the blocks of the others.
        let received = (count - 1) * len;
        eprintln!(
            "{count} ranks, {len} bytes each: {:.3} ms, {:.2} GB/s a rank",
            slowest * 1e3,
            received as f64 / slowest / 1e9
        );
    }
}
