//! The presets' names and networks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Backend;
use crate::nn::Nin;
use crate::text::one_of;
use crate::{Error, Result};

/// A preset: a network and its recipe, the settings that train it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// d2l's NiN at 224×224 with d2l's recipe: SGD at 0.1, batch 128, 10 epochs.
    D2l,
    /// The same network and recipe as in the book's first edition, on MXNet's Gluon: biases begin at zero, and there are 3
    /// epochs.
    D2lGluon,
    /// d2l's network and budget with what keeps every run alive: He weights, no ReLU before the average, and AdamW with a rate
    /// that rises and falls.
    Stable,
    /// A NiN for 28×28 images that trains in minutes on a CPU.
    Small,
    /// A NiN for 28×28 images that keeps more pixels, with augmentation and averaged weights: 45 minutes on two cores.
    Tuned,
    /// The paper's network for CIFAR-10's 32×32 colour images.
    Cifar,
}

impl Preset {
    pub const ALL: [Preset; 6] =
        [Preset::D2l, Preset::D2lGluon, Preset::Stable, Preset::Small, Preset::Tuned, Preset::Cifar];

    /// The preset's network for its own data set, with initial values drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has too little free memory.
    pub fn net<B: Backend>(self, backend: &B, seed: u64) -> Result<Nin<B>> {
        match self {
            Preset::D2l => Nin::d2l(backend, seed),
            Preset::D2lGluon => Nin::d2l_gluon(backend, seed),
            Preset::Stable => Nin::stable(backend, seed),
            Preset::Small => Nin::small(backend, seed),
            Preset::Tuned => Nin::tuned(backend, seed),
            Preset::Cifar => Nin::cifar(backend, seed),
        }
    }

    /// The preset's network for images of `channels` channels and for `classes` classes.
    ///
    /// # Errors
    /// As [`Preset::net`]; [`Error::Shape`] for no channels or no classes.
    pub fn net_for<B: Backend>(self, backend: &B, seed: u64, channels: usize, classes: usize) -> Result<Nin<B>> {
        match self {
            Preset::D2l => Nin::d2l_for(backend, seed, channels, classes),
            Preset::D2lGluon => Nin::d2l_gluon_for(backend, seed, channels, classes),
            Preset::Stable => Nin::stable_for(backend, seed, channels, classes),
            Preset::Small => Nin::small_for(backend, seed, channels, classes),
            Preset::Tuned => Nin::tuned_for(backend, seed, channels, classes),
            Preset::Cifar => Nin::cifar_for(backend, seed, channels, classes),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Preset::D2l => "d2l",
            Preset::D2lGluon => "d2l-gluon",
            Preset::Stable => "stable",
            Preset::Small => "small",
            Preset::Tuned => "tuned",
            Preset::Cifar => "cifar",
        })
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        one_of(Preset::ALL, "preset", text)
    }
}
