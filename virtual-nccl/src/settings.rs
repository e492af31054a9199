//! The environment: the order of sums, and the faults that a test plants. It is read when a communicator is made.
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `VIRTUAL_NCCL_ORDER` | `ring`, `tree`, `shuffled[:SEED]`: see [`Order`]. That of rank 0 counts | `ring` |
//! | `VIRTUAL_NCCL_DELAY` | `MILLISECONDS[:RANK]`: a random time up to this before each collective sends, on all ranks or on one | none |
//! | `VIRTUAL_NCCL_DIE` | `RANK:N`: the rank's process exits with the status [`DEAD`] at the start of its N-th collective, from 0 | none |
//! | `VIRTUAL_NCCL_ERROR` | `RANK:N`: `ncclInternalError` on that rank instead of its N-th collective | none |
//! | `VIRTUAL_NCCL_MISMATCH` | `RANK:N`: that rank announces one value more than it has been called with | none |
//!
//! A malformed value fails the communicator's init: a silent default would test something else.

use std::env::{self, VarError};
use std::time::Duration;

use crate::error::{Code, Fault, Outcome};
use crate::random::Random;
use crate::reduce::Order;

/// The exit status of a process that `VIRTUAL_NCCL_DIE` ends.
pub const DEAD: i32 = 70;

/// A rank's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub order: Order,
    /// The longest delay of this rank.
    pub delay: Duration,
    /// The numbers of this rank's collectives at which it dies, fails or announces another count.
    pub die: Option<u64>,
    pub error: Option<u64>,
    pub mismatch: Option<u64>,
}

impl Settings {
    pub fn read(rank: usize, ranks: usize) -> Outcome<Settings> {
        Settings::of(rank, ranks, |name| match env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(value)) => Err(malformed(name, &value.to_string_lossy(), "valid UTF-8")),
        })
    }

    fn of(rank: usize, ranks: usize, value: impl Fn(&str) -> Outcome<Option<String>>) -> Outcome<Settings> {
        let rank_of = |text: &str| text.parse().ok().filter(|named: &usize| *named < ranks);
        let at = |name: &str| {
            let Some(text) = value(name)? else { return Ok(None) };
            let parsed = text.split_once(':').and_then(|(named, n)| Some((rank_of(named)?, n.parse().ok()?)));
            let (named, n) =
                parsed.ok_or_else(|| malformed(name, &text, &format!("RANK:N with a rank below {ranks}")))?;
            Ok((named == rank).then_some(n))
        };
        let order = match value("VIRTUAL_NCCL_ORDER")? {
            None => Order::Ring,
            Some(text) => order(&text)
                .ok_or_else(|| malformed("VIRTUAL_NCCL_ORDER", &text, "ring, tree, shuffled or shuffled:SEED"))?,
        };
        let delay = match value("VIRTUAL_NCCL_DELAY")? {
            None => Duration::ZERO,
            Some(text) => {
                let (time, named) = text.split_once(':').map_or((&*text, None), |(time, named)| (time, Some(named)));
                let time = time.parse::<u32>().ok().map(|time| Duration::from_millis(time.into()));
                // `Some(None)`: all ranks.
                let named = named.map_or(Some(None), |named| rank_of(named).map(Some));
                let (time, named) = time.zip(named).ok_or_else(|| {
                    let expected = format!("MILLISECONDS or MILLISECONDS:RANK with a rank below {ranks}");
                    malformed("VIRTUAL_NCCL_DELAY", &text, &expected)
                })?;
                if named.is_none_or(|named| named == rank) { time } else { Duration::ZERO }
            }
        };
        let (die, error, mismatch) = (at("VIRTUAL_NCCL_DIE")?, at("VIRTUAL_NCCL_ERROR")?, at("VIRTUAL_NCCL_MISMATCH")?);
        Ok(Settings { order, delay, die, error, mismatch })
    }
}

fn order(text: &str) -> Option<Order> {
    match text.split_once(':') {
        None if text == "ring" => Some(Order::Ring),
        None if text == "tree" => Some(Order::Tree),
        None if text == "shuffled" => Some(Order::Shuffled(Random::seed())),
        Some(("shuffled", seed)) => seed.parse().ok().map(Order::Shuffled),
        _ => None,
    }
}

fn malformed(name: &str, value: &str, expected: &str) -> Fault {
    Code::InvalidUsage.because(format!("{name}={value}: it must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, rank: usize) -> Outcome<Settings> {
        Settings::of(rank, 3, |asked| Ok((asked == name).then(|| text.to_owned())))
    }

    #[test]
    fn values_are_of_the_rank_that_they_name() {
        assert_eq!(read("VIRTUAL_NCCL_ORDER", "shuffled:9", 0).unwrap().order, Order::Shuffled(9));
        assert_eq!(read("VIRTUAL_NCCL_ORDER", "tree", 0).unwrap().order, Order::Tree);
        for (rank, found) in [(0, None), (1, Some(5))] {
            assert_eq!(read("VIRTUAL_NCCL_DIE", "1:5", rank).unwrap().die, found);
            assert_eq!(read("VIRTUAL_NCCL_ERROR", "1:5", rank).unwrap().error, found);
            assert_eq!(read("VIRTUAL_NCCL_MISMATCH", "1:5", rank).unwrap().mismatch, found);
        }
        for (text, found) in [("20", [20, 20]), ("20:0", [20, 0])] {
            let delays = [0, 1].map(|rank| read("VIRTUAL_NCCL_DELAY", text, rank).unwrap().delay.as_millis());
            assert_eq!(delays, found);
        }
    }

    #[test]
    fn a_malformed_value_is_named() {
        for (name, values) in [
            ("VIRTUAL_NCCL_ORDER", ["", "rings", "tree:1", "shuffled:x"]),
            ("VIRTUAL_NCCL_DELAY", ["", "5ms", "5:3", "-1"]),
            ("VIRTUAL_NCCL_DIE", ["1", "3:0", "1:", "1:-1"]),
            ("VIRTUAL_NCCL_ERROR", ["1", "3:0", "a:0", "1:0:0"]),
            ("VIRTUAL_NCCL_MISMATCH", ["", ":", "1:x", " 1:0"]),
        ] {
            for value in values {
                let fault = read(name, value, 0).unwrap_err();
                assert!(fault.why.starts_with(&format!("{name}={value}: ")), "{}", fault.why);
                assert_eq!(fault.code, Code::InvalidUsage);
            }
        }
    }
}
