//! Values that are not finite, and the place where they arose.

use std::fmt;

/// Values that are not finite: where, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    pub place: Place,
    /// The number of NaNs among `len` values; `nan` and `infinite` are both 0 where nobody has counted.
    pub nan: usize,
    pub infinite: usize,
    pub len: usize,
}

impl std::error::Error for NotFinite {}

/// The place where values that are not finite were found. Everything before it was finite.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A value that the tape was given, as the images of a batch.
    Input { shape: String },
    /// A parameter, and the layer that uses it.
    Parameter { shape: String, layer: Option<String> },
    /// The output of an op.
    Forward { op: &'static str, layer: Option<String> },
    /// A gradient that the backward half of an op writes: that of a parameter or of its input.
    Backward { op: &'static str, layer: Option<String>, of: String },
    /// The loss, of logits that are finite.
    Loss,
    /// The loss of the test images.
    TestLoss,
    /// The new value of a parameter or of one of the optimiser's tensors, from gradients that are finite.
    Update,
    /// A value of the step, nobody has looked which.
    Step,
    /// The logits or the loss of every step of an epoch.
    EveryStep,
    /// What another rank has found, in its words.
    Rank { rank: usize, found: String },
}

impl Place {
    /// What to do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Place::Input { .. } => "the numbers that came in are at fault; look at the data",
            Place::Parameter { .. } => "begin from other weights",
            _ => "training diverged; lower the learning rate or the momentum, or warm up",
        }
    }
}

impl NotFinite {
    /// A place where nobody has counted.
    pub(crate) fn uncounted(place: Place) -> Self {
        NotFinite { place, nan: 0, infinite: 0, len: 0 }
    }

    /// A loss that is not finite.
    pub(crate) fn loss(loss: f64, place: Place) -> Self {
        NotFinite { place, nan: usize::from(loss.is_nan()), infinite: usize::from(loss.is_infinite()), len: 1 }
    }
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotFinite { place, nan, infinite, len } = self;
        if let Place::Rank { .. } = place {
            return write!(f, "{place}");
        }
        match (nan, infinite, len) {
            (0, 0, _) => write!(f, "{place} is not finite"),
            (1, 0, 1) => write!(f, "{place} is NaN"),
            (0, 1, 1) => write!(f, "{place} is infinite"),
            (_, 0, _) => write!(f, "{place}: {nan} of {len} values are NaN"),
            (0, ..) => write!(f, "{place}: {infinite} of {len} values are infinite"),
            _ => write!(f, "{place}: of {len} values {nan} are NaN and {infinite} infinite"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |layer: &Option<String>| layer.as_ref().map_or_else(String::new, |layer| format!(" of layer {layer}"));
        match self {
            Place::Input { shape } => write!(f, "the input {shape}"),
            Place::Parameter { shape, layer } => write!(f, "the parameter {shape}{}", of(layer)),
            Place::Forward { op, layer } => write!(f, "{op}{}, forward", of(layer)),
            Place::Backward { op, layer, of: whose } => {
                write!(f, "{op}{}, backward, the gradient of its {whose}", of(layer))
            }
            Place::Loss => f.write_str("the loss"),
            Place::TestLoss => f.write_str("the loss of the test images"),
            Place::Update => f.write_str("the new value of a parameter or of the optimiser's state"),
            Place::Step => f.write_str("a logit, the loss, a gradient or a new value"),
            Place::Rank { rank, found } => write!(f, "rank {rank}: {found}"),
            Place::EveryStep => f.write_str("the loss of every step of the epoch"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_and_how_many() {
        let layer = || Some("1.0".to_owned());
        let said = |place, nan, infinite, len| NotFinite { place, nan, infinite, len }.to_string();
        let forward = Place::Forward { op: "conv2d", layer: layer() };
        assert_eq!(said(forward, 3, 0, 12345), "conv2d of layer 1.0, forward: 3 of 12345 values are NaN");
        let backward = Place::Backward { op: "relu", layer: None, of: "input [2, 3]".into() };
        assert_eq!(
            said(backward, 1, 2, 6),
            "relu, backward, the gradient of its input [2, 3]: of 6 values 1 are NaN and 2 infinite"
        );
        assert_eq!(NotFinite::loss(f64::INFINITY, Place::Loss).to_string(), "the loss is infinite");
        assert_eq!(
            NotFinite::uncounted(Place::Update).to_string(),
            "the new value of a parameter or of the optimiser's state is not finite"
        );
    }
}
