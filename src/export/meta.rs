//! What a file tells of a network besides its layers and weights.

use crate::data::Normalization;
use crate::{Error, Result, Shape};

/// What a network's user needs to know besides its layers and weights: how images become its input, and what its
/// outputs stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// The name of the preset, if the network is one's.
    pub preset: Option<String>,
    /// The names of the classes, indexed by label. With none, each class is named by its number.
    pub classes: Vec<String>,
    /// How the grey levels of the images that the network was trained on were normalised.
    pub normalization: Normalization,
}

/// [`Meta`] for one network.
pub(super) struct Facts {
    /// One for each output.
    pub(super) classes: Vec<String>,
    /// One for each channel.
    pub(super) mean: Vec<f32>,
    pub(super) deviation: Vec<f32>,
}

impl Meta {
    /// What holds for a network of this input and output.
    ///
    /// # Errors
    /// [`Error::Config`] for names of another number of classes, and normalisation of another number of channels.
    pub(super) fn facts(&self, input: Shape, output: Shape) -> Result<Facts> {
        let (named, outputs) = (self.classes.len(), output.c());
        let classes = match named {
            0 => (0..outputs).map(|class| class.to_string()).collect(),
            _ if named == outputs => self.classes.clone(),
            _ => {
                let problem = format!("{named} names for a network of {outputs} outputs; give one for each, or none");
                return Err(Error::config("classes", problem));
            }
        };
        let normalization = self.normalization.for_channels(input.c())?;
        let [mean, deviation] = [normalization.mean(), normalization.deviation()].map(<[f32]>::to_vec);
        Ok(Facts { classes, mean, deviation })
    }
}
