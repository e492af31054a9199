//! How a step is divided: into how many shards, and how ranks exchange and add their gradients.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::one_of;
use crate::{Error, Result};

/// How a training step is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// The parts of a batch, each with a gradient of its own. The bits of the weights depend on their number.
    pub shards: usize,
    pub all_reduce: AllReduce,
    /// The least elements of a [bucket](super::Layout::buckets): ranks exchange that many gradients at once, as soon as the backward pass
    /// has them. It changes no bits of [`AllReduce::Tree`].
    pub bucket: usize,
}

impl Default for Division {
    /// One shard, the tree, and buckets of [`BUCKET`].
    fn default() -> Self {
        Division { shards: 1, all_reduce: AllReduce::default(), bucket: BUCKET }
    }
}

/// The least elements of a bucket by default, 2 MB. By the figures of `docs/scaling.md` two to four fifths of the time of so small an
/// exchange on eight GPUs are latency, so smaller ones do not pay; and `d2l` has three, of which the last, a fiftieth, is all that is
/// not hidden.
pub const BUCKET: usize = 1 << 19;

/// How the gradients of ranks are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllReduce {
    /// Ranks gather the nodes of the tree, and each adds them in its order: the same bits for any number of ranks.
    #[default]
    Tree,
    /// NCCL adds them, in the order that it finds fastest: less traffic, and the same bits only for the same ranks on the same
    /// machines.
    Nccl,
}

impl AllReduce {
    pub const ALL: [AllReduce; 2] = [AllReduce::Tree, AllReduce::Nccl];

    pub(crate) fn is_tree(&self) -> bool {
        *self == AllReduce::Tree
    }
}

impl fmt::Display for AllReduce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            AllReduce::Tree => "tree",
            AllReduce::Nccl => "nccl",
        })
    }
}

impl FromStr for AllReduce {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        one_of(AllReduce::ALL, "allreduce", text)
    }
}
