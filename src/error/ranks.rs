//! Errors of a group of ranks.

use serde::{Deserialize, Serialize};

/// The reason why ranks do not meet, or why a group of ranks cannot go on. An error that one rank finds is told to the
/// others, so all ranks fail with the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum RanksError {
    /// A launcher's variable that is missing or malformed. `problem` has the remedy.
    #[error("{variable}: {problem}")]
    Environment { variable: String, problem: String },

    /// Rank 0 cannot listen at its address, or cannot be reached there.
    #[error("the ranks do not meet at {address}: {problem}")]
    Meeting { address: String, problem: String },

    /// Ranks that did not come before the time to join was over.
    #[error(
        "{} of {of} did not come within {seconds} s; look at their output, and whether they reach {address}",
        listed(ranks)
    )]
    Missing { ranks: Vec<usize>, of: usize, seconds: u64, address: String },

    /// Two processes of one job that take themselves for the same rank.
    #[error("two processes are rank {rank}: {first} and {second}; start each rank once")]
    Twice { rank: usize, first: String, second: String },

    /// A rank that counts other ranks than rank 0.
    #[error(
        "rank {rank} ({who}) counts {ranks} ranks, but rank 0 counts {expected}; start all ranks with the same count"
    )]
    OtherCount { rank: usize, who: String, ranks: usize, expected: usize },

    /// A rank that runs another version of the program than rank 0.
    #[error("rank {rank} ({who}) runs {version}, but rank 0 runs {expected}; start the same program on all hosts")]
    OtherVersion { rank: usize, who: String, version: String, expected: String },

    /// A rank whose process has ended, hangs, or cannot be reached any more.
    #[error("rank {rank} is lost: {why}")]
    Lost { rank: usize, why: String },

    /// A rank on which something has failed that all depend on, such as its device.
    #[error("rank {rank} has failed: {why}")]
    Failed { rank: usize, why: String },

    /// A rank that has left the group, with its own reason.
    #[error("rank {rank} has left: {why}")]
    Left { rank: usize, why: String },

    /// A call of the group that took too long. `missing` are the ranks that did not come to it.
    #[error("{call} was not done within {seconds} s: {} did not come", listed(missing))]
    TimedOut { call: String, seconds: u64, missing: Vec<usize> },

    /// Ranks that are to agree, and do not. Each of `values` is a value with the ranks that have it; `None` is for ranks
    /// without the entry.
    #[error("the ranks differ in {what}: {entry} is {}", differing(values))]
    Disagreement { what: String, entry: String, values: Vec<(Option<String>, Vec<usize>)> },

    /// Calls of the group that do not come in the same order, or with the same lengths, on all ranks. This is an error of the
    /// program, not of its user.
    #[error("the ranks do not make the same calls: {problem}")]
    Mismatch { problem: String },

    /// Bytes from a rank that are not of the protocol.
    #[error("rank {rank} sends what is not of the protocol: {problem}")]
    Protocol { rank: usize, problem: String },

    /// The operating system refused a thread or a socket.
    #[error("cannot {action}: {problem}")]
    System { action: String, problem: String },
}

/// `rank 2`, `ranks 2 and 5`, `ranks 1, 2 and 5`.
fn listed(ranks: &[usize]) -> String {
    let words: Vec<String> = ranks.iter().map(usize::to_string).collect();
    match &words[..] {
        [] => "no rank".into(),
        [one] => format!("rank {one}"),
        [first @ .., last] => format!("ranks {} and {last}", first.join(", ")),
    }
}

/// `3 on ranks 0 and 1, 4 on rank 2`.
fn differing(values: &[(Option<String>, Vec<usize>)]) -> String {
    let each = values.iter().map(|(value, ranks)| match value {
        Some(value) => format!("{value} on {}", listed(ranks)),
        None => format!("absent on {}", listed(ranks)),
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_ranks_and_the_values() {
        let missing = RanksError::Missing { ranks: vec![2, 5], of: 8, seconds: 60, address: "gpu007:29500".into() };
        let text = missing.to_string();
        assert!(text.starts_with("ranks 2 and 5 of 8 did not come within 60 s"), "{text}");
        let values = vec![(Some("3".into()), vec![0, 1, 3]), (None, vec![2])];
        let differ = RanksError::Disagreement { what: "settings".into(), entry: "epochs".into(), values };
        let text = "the ranks differ in settings: epochs is 3 on ranks 0, 1 and 3, absent on rank 2";
        assert_eq!(differ.to_string(), text);
    }
}
