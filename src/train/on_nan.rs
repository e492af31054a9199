//! What a run does about a number that is not finite.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::device::guard::Policy;
use crate::text::one_of;
use crate::{Error, Result};

/// What a run does about a step of which something is not finite (NaN or infinite). In no case does it reach a weight or the
/// optimiser's tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    /// The run ends. The step and all that were queued behind it are left out.
    #[default]
    Stop,
    /// The run goes on. If a logit or the loss is not finite, the step is left out: weights and optimiser's tensors stay as
    /// they are, and its images do not count. If only gradients are not, or new values would not be, the update leaves out
    /// those elements. The step passes all the same: schedule, dropout and AdamW's bias corrections go on.
    Skip,
}

impl OnNan {
    pub const ALL: [OnNan; 2] = [OnNan::Stop, OnNan::Skip];

    pub(super) fn policy(self) -> Policy {
        match self {
            OnNan::Stop => Policy::Stop,
            OnNan::Skip => Policy::Skip,
        }
    }
}

impl fmt::Display for OnNan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            OnNan::Stop => "stop",
            OnNan::Skip => "skip",
        })
    }
}

impl FromStr for OnNan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        one_of(OnNan::ALL, "on-nan", text)
    }
}
