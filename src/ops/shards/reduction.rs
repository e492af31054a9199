//! How the gradients of ranks are added.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::one_of;
use crate::{Error, Result};

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
