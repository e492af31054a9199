//! Augmentation: training images mirrored, shifted and partly erased.
//!
//! What becomes of an image is a pure function of *(seed, epoch, index of the image in the data set)*. Neither the batch
//! size, the order, the number of threads, a resumption nor the device changes a pixel.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use crate::text::one_of;

/// How training images are changed, each in its own way in every epoch: mirrored first, then shifted, then erased in part.
/// Images are changed as the data set has them, before they are resized and normalised, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    pub seed: u64,
    /// Which images are mirrored, left for right.
    pub flip: Flip,
    /// The most pixels by which an image is shifted along each axis: each shift from -N to N is as likely. Pixels that come
    /// in from outside are black (0).
    pub translate: usize,
    /// Parts that are erased, if any.
    pub erasing: Option<Erasing>,
}

/// Which images are mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    #[default]
    None,
    /// Each image with a probability of a half, drawn anew in each epoch.
    Random,
    /// Each image in every second epoch; a draw decides whether in the even or the odd ones. Two epochs show both sides of
    /// every image, where random flips repeat a side half of the time.
    ///
    /// Source: Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, <https://arxiv.org/abs/2404.00498>.
    Alternate,
    /// Every image: the other side of all, for measuring on both.
    Always,
}

/// Random erasing: a rectangle of an image becomes black (0).
///
/// Source: Zhong, Zheng, Kang, Li, Yang, "Random erasing data augmentation", AAAI 2020, <https://arxiv.org/abs/1708.04896>.
/// Two differences: the ratio of the sides is uniform where torchvision's logarithm is, so that all draws are exact on
/// every machine, and a side that is longer than the image's is cut to it, where the paper draws again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Erasing {
    /// The probability that a part of an image is erased, in [0, 1].
    pub probability: f64,
    /// The least and the largest share of the image's area, in [0, 1].
    pub area: [f64; 2],
    /// The least and the largest ratio of the rectangle's shorter side to its longer one, in (0, 1]. Either is the height as
    /// often as the other.
    pub aspect: [f64; 2],
    /// The epochs with erasing; later ones have none.
    pub epochs: u32,
}

impl Erasing {
    /// Erasing with this probability in all epochs, of torchvision's areas and of aspects that nearly are its: 0.02 to a
    /// third, and 0.3 to 1.
    pub fn new(probability: f64) -> Self {
        Erasing { probability, area: [0.02, 1.0 / 3.0], aspect: [0.3, 1.0], epochs: u32::MAX }
    }
}

impl Augmentation {
    /// An augmentation that changes nothing yet, with draws from `seed`.
    pub fn none(seed: u64) -> Self {
        Augmentation { seed, flip: Flip::None, translate: 0, erasing: None }
    }

    /// Whether it leaves every image as it is.
    pub fn is_none(&self) -> bool {
        self.flip == Flip::None && self.translate == 0 && self.erasing.is_none_or(|erasing| erasing.probability == 0.0)
    }

    /// Checks the settings for images of this height and width.
    ///
    /// # Errors
    /// [`Error::Config`] for a number out of its range, or a shift that could move a whole image away.
    pub fn validate(&self, [height, width]: [usize; 2]) -> Result<()> {
        if self.translate >= height.min(width) {
            let problem = format!("{} pixels must be fewer than the {height}x{width} image has", self.translate);
            return Err(Error::config("translate", problem));
        }
        let Some(Erasing { probability, area, aspect, .. }) = self.erasing else { return Ok(()) };
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::config("erasing", format!("{probability} must be a probability, from 0 to 1")));
        }
        let ordered = |[least, largest]: [f64; 2]| least <= largest && largest <= 1.0;
        if !(ordered(area) && area[0] >= 0.0 && ordered(aspect) && aspect[0] > 0.0) {
            let problem =
                format!("area {area:?} and aspect {aspect:?} must each go up, within 0 to 1, and aspects be above 0");
            return Err(Error::config("erasing", problem));
        }
        Ok(())
    }

    /// What becomes of image `index`, of this height and width, in epoch `epoch` (from 0).
    pub fn transform(&self, epoch: u32, index: u32, [height, width]: [usize; 2]) -> Transform {
        let draws = |epoch: u32, set: u32| Stream::new(self.seed, Purpose::Augment, epoch, set).block(index);
        let [side, down, right, erased] = draws(epoch, 0);
        let mirrored = match self.flip {
            Flip::None => false,
            Flip::Always => true,
            Flip::Random => is_odd(side),
            Flip::Alternate => is_odd(draws(0, 0)[0]) != (epoch % 2 == 1),
        };
        // Shifts by more than any image has pixels are as good as one by that.
        let most = self.translate.min(1 << 30);
        let shift = |word: u32| (below(2 * most + 1, word) as i64 - most as i64) as i32;
        let mut transform = Transform { mirrored, down: shift(down), right: shift(right), ..Transform::default() };
        if let Some(erasing) = self.erasing
            && epoch < erasing.epochs
            && share(erased) < erasing.probability
        {
            let [area, aspect, top, left] = draws(epoch, 1);
            let pick = |[least, largest]: [f64; 2], word: u32| least + (largest - least) * share(word);
            // The words' lower bits are as random as the upper ones, which the shares have.
            let pixels = pick(erasing.area, area) * height as f64 * width as f64;
            let ratio = pick(erasing.aspect, aspect);
            let (shorter, longer) = ((pixels * ratio).sqrt().round(), (pixels / ratio).sqrt().round());
            let (rows, columns) = if is_odd(aspect) { (shorter, longer) } else { (longer, shorter) };
            let span = |extent: usize, all: usize, word: u32| {
                let all = all.min(u32::MAX as usize);
                let extent = extent.min(all);
                let first = below(all - extent + 1, word);
                first as u32..(first + extent) as u32
            };
            transform.erased = [span(rows as usize, height, top), span(columns as usize, width, left)];
        }
        transform
    }
}

/// A word as a number in [0, 1).
fn share(word: u32) -> f64 {
    f64::from(word) / 4_294_967_296.0
}

/// A word as a number below `count`, by its upper bits.
fn below(count: usize, word: u32) -> usize {
    ((u64::from(word) * count as u64) >> 32) as usize
}

fn is_odd(word: u32) -> bool {
    word & 1 == 1
}

/// What becomes of one image: of the image mirrored, pixel `(row - down, column - right)` goes to `(row, column)`; black (0)
/// is what comes from outside, and what lies in the rows `erased[0]` and the columns `erased[1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    pub mirrored: bool,
    pub down: i32,
    pub right: i32,
    pub erased: [Range<u32>; 2],
}

impl Default for Transform {
    /// The image as it is.
    fn default() -> Self {
        Transform { mirrored: false, down: 0, right: 0, erased: [0..0, 0..0] }
    }
}

impl Transform {
    /// The words of a transform in a table for a device.
    pub(crate) const WORDS: usize = 7;

    pub(crate) fn words(&self) -> [i32; Self::WORDS] {
        let [rows, columns] = &self.erased;
        let erased = [rows.start, rows.end, columns.start, columns.end].map(|place| place as i32);
        let [top, bottom, left, right] = erased;
        [i32::from(self.mirrored), self.down, self.right, top, bottom, left, right]
    }

    pub(crate) fn of_words([mirrored, down, right, top, bottom, left, end]: [i32; Self::WORDS]) -> Self {
        let erased = [top as u32..bottom as u32, left as u32..end as u32];
        Transform { mirrored: mirrored != 0, down, right, erased }
    }

    /// Writes the changed `image` to `out`. Both are `[height, width, channels]`, row-major.
    ///
    /// # Panics
    /// Where a slice has not that many values.
    pub fn apply(&self, image: &[u8], [height, width, channels]: [usize; 3], out: &mut [u8]) {
        let row_len = width * channels;
        assert!(image.len() == height * row_len && out.len() == image.len(), "an image of {height}x{width}x{channels}");
        out.fill(0);
        let (down, right) = (i64::from(self.down), i64::from(self.right));
        // The columns that come from inside, and the first of them in the image.
        let inside = right.clamp(0, width as i64) as usize..(width as i64 + right).clamp(0, width as i64) as usize;
        let from = (-right).max(0) as usize;
        let [rows, columns] = &self.erased;
        for (row, out) in out.chunks_exact_mut(row_len).enumerate() {
            let source = row as i64 - down;
            if !(0..height as i64).contains(&source) || inside.is_empty() {
                continue;
            }
            let source = &image[source as usize * row_len..][..row_len];
            let to = &mut out[inside.start * channels..inside.end * channels];
            if self.mirrored {
                for (at, pixel) in to.chunks_exact_mut(channels).enumerate() {
                    let column = width - 1 - (from + at);
                    pixel.copy_from_slice(&source[column * channels..][..channels]);
                }
            } else {
                to.copy_from_slice(&source[from * channels..][..to.len()]);
            }
            if rows.contains(&(row as u32)) {
                let end = |column: u32| (column as usize).min(width) * channels;
                let (first, end) = (end(columns.start), end(columns.end));
                out[first.min(end)..end].fill(0);
            }
        }
    }
}

impl Flip {
    pub const ALL: [Flip; 4] = [Flip::None, Flip::Random, Flip::Alternate, Flip::Always];
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Flip::None => "none",
            Flip::Random => "random",
            Flip::Alternate => "alternate",
            Flip::Always => "always",
        })
    }
}

impl FromStr for Flip {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        one_of(Flip::ALL, "fliplr", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDES: [usize; 2] = [28, 28];

    fn all(flip: Flip) -> Augmentation {
        Augmentation { seed: 3, flip, translate: 2, erasing: Some(Erasing { epochs: 9, ..Erasing::new(0.5) }) }
    }

    /// The share of ten thousand images, by their indices, of which `is` holds.
    fn share_of(is: impl Fn(u32) -> bool) -> f64 {
        (0..10_000).filter(|&i| is(i)).count() as f64 / 10_000.0
    }

    #[test]
    fn a_transform_moves_each_pixel_as_it_says() {
        let (height, width, channels) = (5, 4, 3);
        let image: Vec<u8> = (1..=(height * width * channels) as u8).collect();
        let shifts = || (-6..=6).flat_map(|down| (-6..=6).map(move |right| (down, right)));
        for (mirrored, (down, right)) in [false, true].into_iter().flat_map(|side| shifts().map(move |by| (side, by))) {
            for erased in [[0..0, 0..0], [1..3, 2..4], [0..5, 0..4], [4..9, 1..99]] {
                let transform = Transform { mirrored, down, right, erased };
                let mut found = vec![7; image.len()];
                transform.apply(&image, [height, width, channels], &mut found);
                for row in 0..height {
                    for column in 0..width {
                        for channel in 0..channels {
                            let (y, x) = (row as i32 - down, column as i32 - right);
                            let x = if mirrored { width as i32 - 1 - x } else { x };
                            let inside = (0..height as i32).contains(&y) && (0..width as i32).contains(&x);
                            let [rows, columns] = &transform.erased;
                            let kept = inside && !(rows.contains(&(row as u32)) && columns.contains(&(column as u32)));
                            let at = |y: usize, x: usize| (y * width + x) * channels + channel;
                            let wanted = if kept { image[at(y as usize, x as usize)] } else { 0 };
                            assert_eq!(found[at(row, column)], wanted, "{transform:?} at {row}, {column}, {channel}");
                        }
                    }
                }
                assert_eq!(Transform::of_words(transform.words()), transform);
            }
        }
    }

    #[test]
    fn draws_have_the_frequencies_that_are_asked_for() {
        let random = all(Flip::Random);
        let of = |epoch: u32, i: u32| random.transform(epoch, i, SIDES);
        assert!((share_of(|i| of(1, i).mirrored) - 0.5).abs() < 0.02);
        for shift in -2..=2 {
            assert!((share_of(|i| of(1, i).down == shift) - 0.2).abs() < 0.02, "down {shift}");
            assert!((share_of(|i| of(1, i).right == shift) - 0.2).abs() < 0.02, "right {shift}");
        }
        let area = |epoch: u32, i: u32| {
            let [rows, columns] = of(epoch, i).erased;
            rows.len() * columns.len()
        };
        assert!((share_of(|i| area(8, i) > 0) - 0.5).abs() < 0.02);
        assert_eq!(share_of(|i| area(9, i) > 0), 0.0, "the last epochs have none");
        let mean = (0..10_000).map(|i| area(8, i)).sum::<usize>() as f64 / 5_000.0;
        let (least, largest) = (0.02 * 784.0, 784.0 / 3.0);
        assert!((mean - (least + largest) / 2.0).abs() < 5.0, "{mean}");
        assert!((0..10_000).map(|i| area(8, i)).filter(|&area| area > 0).all(|area| (9..=290).contains(&area)));
        let tall = |i: u32| {
            let [rows, columns] = of(8, i).erased;
            rows.len() > columns.len()
        };
        assert!((share_of(tall) - 0.25).abs() < 0.03, "as often as wide ones");
    }

    #[test]
    fn alternating_flips_show_both_sides_in_two_epochs() {
        let alternate = all(Flip::Alternate);
        let mirrored = |epoch: u32, i: u32| alternate.transform(epoch, i, SIDES).mirrored;
        assert!((0..1000).all(|i| (0..6).all(|epoch| mirrored(epoch, i) != mirrored(epoch + 1, i))));
        assert!((share_of(|i| mirrored(0, i)) - 0.5).abs() < 0.02);
        let always = Augmentation { flip: Flip::Always, ..Augmentation::none(3) };
        let transform = Transform { mirrored: true, ..Transform::default() };
        assert!(!always.is_none() && (0..100).all(|i| always.transform(i % 7, i, SIDES) == transform));
    }

    #[test]
    fn seeds_epochs_and_images_have_draws_of_their_own() {
        let one = all(Flip::Random);
        let two = Augmentation { seed: 4, ..one };
        let transforms =
            |of: &Augmentation, epoch: u32| (0..100).map(|i| of.transform(epoch, i, SIDES)).collect::<Vec<_>>();
        assert_eq!(transforms(&one, 0), transforms(&one, 0));
        assert_ne!(transforms(&one, 0), transforms(&one, 1));
        assert_ne!(transforms(&one, 0), transforms(&two, 0));
        let nothing = Augmentation::none(3);
        assert!(
            nothing.is_none() && transforms(&nothing, 5).iter().all(|transform| *transform == Transform::default())
        );
        assert!(!one.is_none());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let erased = |change: fn(&mut Erasing)| {
            let mut erasing = Erasing::new(0.5);
            change(&mut erasing);
            Augmentation { erasing: Some(erasing), ..Augmentation::none(0) }
        };
        let wrong = [
            Augmentation { translate: 28, ..Augmentation::none(0) },
            erased(|erasing| erasing.probability = 1.5),
            erased(|erasing| erasing.probability = f64::NAN),
            erased(|erasing| erasing.area = [0.5, 0.2]),
            erased(|erasing| erasing.area = [-0.1, 0.2]),
            erased(|erasing| erasing.aspect = [0.0, 1.0]),
            erased(|erasing| erasing.aspect = [0.5, 2.0]),
        ];
        for augmentation in wrong {
            assert!(matches!(augmentation.validate(SIDES), Err(Error::Config { .. })), "{augmentation:?}");
        }
        all(Flip::Alternate).validate(SIDES).unwrap();
        assert!("left".parse::<Flip>().is_err());
        assert!(Flip::ALL.into_iter().all(|flip| flip.to_string().parse::<Flip>().unwrap() == flip));
    }
}
