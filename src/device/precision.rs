//! Precision: the types in which numbers are stored and multiplied.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::one_of;
use crate::{Error, Result};

/// A GPU backend's arithmetic. Parameters, their gradients and all sums are fp32 at every precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// fp32 throughout: every multiply-add is an fp32 one, and no operand is rounded.
    Fp32,
    /// Activations, their gradients, and the weights that the tensor cores read are TF32 (10 bits of fraction, in four
    /// bytes): each is rounded once, where it is stored. The optimiser updates fp32 masters.
    Tf32,
    /// Activations, their gradients, and the weights that the tensor cores read are bf16 (7 bits of fraction). The
    /// optimiser updates fp32 masters.
    Bf16,
}

impl Precision {
    pub const ALL: [Precision; 3] = [Precision::Fp32, Precision::Tf32, Precision::Bf16];

    /// The name, as in `--precision`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }

    /// Bytes of a stored activation.
    pub fn activation_width(self) -> usize {
        match self {
            Precision::Fp32 | Precision::Tf32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        one_of(Precision::ALL, "precision", name)
    }
}
