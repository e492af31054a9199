//! Normalisation: what number stands for each grey level of each channel.

use std::fmt;
use std::str::FromStr;

use super::Dataset;
use crate::error::{Error, Result};
use crate::text::as_text;

/// The number of grey levels of a channel.
pub(crate) const LEVELS: usize = 256;

/// The mean and the deviation by which images are normalised: `(value / 255 - mean) / deviation`, in `f32`, as torchvision's
/// `ToTensor` and `Normalize` compute it.
///
/// As text: `MEAN:DEVIATION`, each a number for all channels or one for each, separated by commas.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Default for Normalization {
    /// Mean 0 and deviation 1: values from 0 (black) to 1.
    fn default() -> Self {
        Normalization { mean: vec![0.0], deviation: vec![1.0] }
    }
}

impl Normalization {
    /// Normalisation by a mean and a deviation for all channels, or by one for each.
    ///
    /// # Errors
    /// [`Error::Config`] unless both have as many numbers, one at least, all finite, and deviations above 0.
    pub fn new(mean: Vec<f32>, deviation: Vec<f32>) -> Result<Self> {
        let normalization = Normalization { mean, deviation };
        let Normalization { mean, deviation } = &normalization;
        let refuse = |problem: String| Err(Error::config("normalize", problem));
        if mean.is_empty() || mean.len() != deviation.len() {
            return refuse(format!("{} means and {} deviations; give one for each", mean.len(), deviation.len()));
        }
        let usable = |&deviation: &f32| deviation.is_normal() && deviation > 0.0 && (1.0 / deviation).is_finite();
        let levels =
            mean.iter().zip(deviation).flat_map(|(mean, deviation)| [0.0, 1.0].map(|level| (level - mean) / deviation));
        if !levels.into_iter().all(f32::is_finite)
            || !mean.iter().all(|mean| mean.is_finite())
            || !deviation.iter().all(usable)
        {
            return refuse(format!("{normalization} must have finite means, and deviations above 0"));
        }
        Ok(normalization)
    }

    /// Normalisation by a mean and a deviation that are known to be usable.
    pub(crate) fn grey(mean: f32, deviation: f32) -> Self {
        Normalization { mean: vec![mean], deviation: vec![deviation] }
    }

    /// The mean and the deviation of all pixels of each channel.
    ///
    /// # Errors
    /// [`Error::Config`] for a data set without images, or with a channel that has one value alone.
    pub fn of(dataset: &Dataset) -> Result<Self> {
        let channels = dataset.channels();
        // A sum of bytes, and of their squares, is exact.
        let mut sums = vec![[0u64; 2]; channels];
        for pixel in dataset.images().chunks_exact(channels) {
            for ([sum, squares], &value) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(value);
                *squares += u64::from(value) * u64::from(value);
            }
        }
        let count = (dataset.images().len() / channels).max(1) as f64;
        let moments = sums.into_iter().map(|[sum, squares]| {
            let mean = sum as f64 / count;
            (mean / 255.0, (squares as f64 / count - mean * mean).max(0.0).sqrt() / 255.0)
        });
        let (mean, deviation) = moments.map(|(mean, deviation)| (mean as f32, deviation as f32)).unzip();
        Self::new(mean, deviation)
    }

    /// The means: one, or one for each channel.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The deviations, as many as means.
    pub fn deviation(&self) -> &[f32] {
        &self.deviation
    }

    /// Checks that images of so many channels can be normalised: that there is one mean, or one for each channel.
    ///
    /// # Errors
    /// [`Error::Config`] with both numbers, if there is another number of means.
    pub fn require(&self, channels: usize) -> Result<()> {
        let own = self.mean.len();
        if own != 1 && own != channels {
            let problem = format!("{own} means for images of {channels} channels; give one, or one for each channel");
            return Err(Error::config("normalize", problem));
        }
        Ok(())
    }

    /// The same normalisation, with a mean and a deviation for each of `channels` channels.
    ///
    /// # Errors
    /// As [`Normalization::require`].
    pub fn for_channels(&self, channels: usize) -> Result<Self> {
        self.require(channels)?;
        let each = |numbers: &[f32]| numbers.iter().copied().cycle().take(channels).collect();
        Ok(Normalization { mean: each(&self.mean), deviation: each(&self.deviation) })
    }

    /// `[channels, 256]`: the number of each grey level of each channel.
    ///
    /// # Errors
    /// As [`Normalization::for_channels`].
    pub(crate) fn levels(&self, channels: usize) -> Result<Vec<f32>> {
        let Normalization { mean, deviation } = self.for_channels(channels)?;
        // A division, not a product with 1/255, which would round differently.
        let level = |channel: usize, value: usize| (value as f32 / 255.0 - mean[channel]) / deviation[channel];
        Ok((0..channels).flat_map(|channel| (0..LEVELS).map(move |value| level(channel, value))).collect())
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        write!(f, "{}:{}", text(&self.mean), text(&self.deviation))
    }
}

impl FromStr for Normalization {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = |text: &str| text.split(',').map(|number| number.parse().ok()).collect::<Option<Vec<f32>>>();
        let parsed = text.split_once(':').and_then(|(mean, deviation)| Some((numbers(mean)?, numbers(deviation)?)));
        let problem =
            || format!("{text:?} is not MEAN:DEVIATION, such as 0.286:0.353, or 0.49,0.48,0.45:0.25,0.24,0.26");
        let (mean, deviation) = parsed.ok_or_else(|| Error::config("normalize", problem()))?;
        Self::new(mean, deviation)
    }
}

as_text!(Normalization);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_normalisation_levels_go_from_0_to_1() {
        let levels = Normalization::default().levels(2).unwrap();
        assert_eq!(levels.len(), 512);
        for (value, &level) in levels.iter().enumerate() {
            assert_eq!(level.to_bits(), ((value % 256) as f32 / 255.0).to_bits());
        }
    }

    #[test]
    fn each_channel_has_its_own_numbers_or_all_have_one() {
        let normalization: Normalization = "0.5,0.25:0.5,2".parse().unwrap();
        assert_eq!((normalization.mean(), normalization.deviation()), (&[0.5, 0.25][..], &[0.5, 2.0][..]));
        let levels = normalization.levels(2).unwrap();
        assert_eq!([levels[0], levels[255], levels[256], levels[511]], [-1.0, 1.0, -0.125, 0.375]);
        assert!(normalization.levels(3).is_err() && normalization.levels(1).is_err());
        let one: Normalization = "0.5:0.5".parse().unwrap();
        assert_eq!(one.levels(3).unwrap()[2 * 256], -1.0);
    }

    #[test]
    fn a_data_set_has_its_own_mean_and_deviation() {
        let images = vec![0, 10, 255, 30, 0, 50, 255, 30];
        let names = vec!["one".into()];
        let dataset = Dataset::with_channels(images, vec![0, 0], [1, 2, 2], names).unwrap();
        let of = Normalization::of(&dataset).unwrap();
        assert_eq!((of.mean()[0], of.deviation()[0]), (0.5, 0.5));
        assert_eq!(of.mean()[1], (30.0 / 255.0) as f32);
        assert_eq!(of.deviation()[1], (200f64.sqrt() / 255.0) as f32);
        let flat = Dataset::new(vec![9; 8], vec![0, 0], 2, 2, 1).unwrap();
        assert!(Normalization::of(&flat).is_err());
    }

    #[test]
    fn text_goes_both_ways_and_nonsense_is_refused() {
        for text in ["0.286:0.353", "0.49,0.48:0.25,0.24", "0:1"] {
            assert_eq!(text.parse::<Normalization>().unwrap().to_string(), text);
        }
        for text in ["", "0.5", "0.5:", "0.5:0", "0.5:-1", "0.5,1:1", "nan:1", "0:inf", "0:1:2", "a:b", "0:1e-44"] {
            let error = text.parse::<Normalization>().unwrap_err().to_string();
            assert!(error.starts_with("normalize: "), "{text}: {error}");
        }
    }
}
