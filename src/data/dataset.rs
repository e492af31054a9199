//! Labelled images in memory.

use std::cmp::Reverse;

use sha2::{Digest, Sha256};

use super::content::hex;
use crate::error::{Error, Result};
use crate::system::allocation::reserve;

/// The most classes: a label is a byte.
const MAX_CLASSES: usize = 256;

/// Images of one size, each with the class it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    images: Vec<u8>,
    labels: Vec<u8>,
    height: usize,
    width: usize,
    channels: usize,
    class_names: Vec<String>,
}

/// What a data set holds, as two SHA-256 in hexadecimal. Files of another name, place or compression with the same content
/// have the same hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// Of the images: their count, height, width and channels, and every byte of every pixel.
    pub images: String,
    /// Of the labels: the names of the classes, and the class of every image.
    pub labels: String,
}

impl Dataset {
    /// Grey images whose classes are named by their numbers.
    ///
    /// `images` holds `labels.len()` images of `height` x `width` grey levels (0 is black), row by row and one after
    /// the other; `labels` holds the class of each, from 0 to `classes - 1`.
    ///
    /// # Errors
    ///
    /// As [`with_channels`](Self::with_channels).
    pub fn new(images: Vec<u8>, labels: Vec<u8>, height: usize, width: usize, classes: usize) -> Result<Self> {
        // `with_channels` refuses more than MAX_CLASSES; one name more is enough for that.
        let names = (0..classes.min(MAX_CLASSES + 1)).map(|class| class.to_string()).collect();
        Dataset::with_channels(images, labels, [height, width, 1], names)
    }

    /// Images of the extents `[height, width, channels]`, one after the other (NHWC), a byte for each channel, 0 being
    /// black. `labels` holds the class of each image, an index into `class_names`.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] where the counts do not agree, an image has no pixels or no channels, there are more than 256
    /// classes, or a label is not a class.
    pub fn with_channels(
        images: Vec<u8>,
        labels: Vec<u8>,
        [height, width, channels]: [usize; 3],
        class_names: Vec<String>,
    ) -> Result<Self> {
        let refuse = |problem: String| Err(Error::data("data set", problem));
        if height == 0 || width == 0 {
            return refuse(format!("images of {height}x{width} have no pixels"));
        }
        if channels == 0 {
            return refuse("images have no channels".into());
        }
        let classes = class_names.len();
        if classes > MAX_CLASSES {
            return refuse(format!("more than {MAX_CLASSES} classes; a label is a byte"));
        }
        let image = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
        if image.and_then(|image| image.checked_mul(labels.len())) != Some(images.len()) {
            let size = match channels {
                1 => format!("{height}x{width}"),
                _ => format!("{height}x{width} with {channels} channels"),
            };
            return refuse(match image {
                Some(image) if images.len().is_multiple_of(image) => {
                    let (images, labels) = (count(images.len() / image, "image"), count(labels.len(), "label"));
                    format!("{images} of {size}, but {labels}")
                }
                Some(_) => format!("{} bytes are not a whole number of images of {size}", images.len()),
                None => format!("images of {size} cannot be addressed"),
            });
        }
        if let Some(position) = labels.iter().position(|&label| usize::from(label) >= classes) {
            return refuse(format!(
                "label {} at position {position}, but there are {classes} classes (labels go from 0)",
                labels[position]
            ));
        }
        Ok(Dataset { images, labels, height, width, channels, class_names })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Rows of an image.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of an image.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Channels of an image: 1 if grey, 3 if RGB.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// The names of the classes, indexed by label.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Image `index`: `[height, width, channels]`.
    ///
    /// # Panics
    ///
    /// Where `index` is not below [`len`](Self::len), as indexing a slice does.
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_len();
        &self.images[index * size..][..size]
    }

    /// All images, one after the other (NHWC).
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// The class of every image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The hashes of all images and labels, in one pass over them. Those of a part ([`take`](Self::take)) differ.
    pub fn hashes(&self) -> Hashes {
        // Lengths come before what they count, so that no two data sets are the same bytes.
        let mut images = Sha256::new();
        for length in [self.len(), self.height, self.width, self.channels] {
            images.update((length as u64).to_le_bytes());
        }
        images.update(&self.images);
        let mut labels = Sha256::new();
        labels.update((self.classes() as u64).to_le_bytes());
        for name in &self.class_names {
            labels.update((name.len() as u64).to_le_bytes());
            labels.update(name);
        }
        labels.update(&self.labels);
        Hashes { images: hex(&images.finalize()), labels: hex(&labels.finalize()) }
    }

    /// The first `count` images, or all of them if there are fewer.
    pub fn take(mut self, count: usize) -> Self {
        let count = count.min(self.len());
        self.labels.truncate(count);
        self.images.truncate(count * self.image_len());
        self
    }

    /// Divides the images into those to train on and `count` to choose by, or all of them if there are fewer: the last ones
    /// of each class, in proportion to the classes, so that either part is like the whole whatever the order of the images
    /// is. Each part keeps that order.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is no memory for a second copy of the images.
    pub fn hold_out(&self, count: usize) -> Result<[Self; 2]> {
        let (all, count) = (self.len().max(1), count.min(self.len()));
        let mut of_class = vec![0; self.classes()];
        self.labels.iter().for_each(|&label| of_class[usize::from(label)] += 1);
        let mut held: Vec<usize> = of_class.iter().map(|images| images * count / all).collect();
        // What rounding left goes to the classes that it cost most.
        let mut by_loss: Vec<usize> = (0..held.len()).collect();
        by_loss.sort_by_key(|&class| Reverse(of_class[class] * count % all));
        let left = count - held.iter().sum::<usize>();
        by_loss.into_iter().take(left).for_each(|class| held[class] += 1);
        let part = |count: usize| -> Result<Dataset> {
            let (mut images, mut labels) = (Vec::new(), Vec::new());
            let bytes = count * self.image_len();
            let reserved = reserve(&mut images, bytes).and_then(|()| reserve(&mut labels, count));
            reserved.map_err(|_| Error::memory(bytes + count))?;
            Ok(Dataset { images, labels, class_names: self.class_names.clone(), ..*self })
        };
        let mut parts = [part(self.len() - count)?, part(count)?];
        for (index, &label) in self.labels.iter().enumerate() {
            let class = usize::from(label);
            let is_held = of_class[class] <= held[class];
            of_class[class] -= 1;
            let part = &mut parts[usize::from(is_held)];
            part.images.extend_from_slice(self.image(index));
            part.labels.push(label);
        }
        Ok(parts)
    }

    /// Bytes of an image.
    fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }
}

/// A number of things: `1 image`, `2 images`.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_labels_must_agree() {
        let dataset = Dataset::new((0..12).collect(), vec![0, 2], 3, 2, 3).unwrap();
        assert_eq!((dataset.len(), dataset.height(), dataset.width()), (2, 3, 2));
        assert_eq!(dataset.image(1), [6, 7, 8, 9, 10, 11]);

        let problem =
            |images, labels, height, width| Dataset::new(images, labels, height, width, 3).unwrap_err().to_string();
        assert!(problem(vec![0; 11], vec![0, 2], 3, 2).contains("11 bytes are not a whole number of images of 3x2"));
        assert!(problem(vec![0; 24], vec![0, 2], 3, 2).contains("4 images of 3x2, but 2 labels"));
        assert!(problem(vec![0; 12], vec![0, 3], 3, 2).contains("label 3 at position 1"));
        assert!(problem(vec![], vec![0], 0, 2).contains("no pixels"));
        assert!(problem(vec![], vec![0, 0], usize::MAX, 2).contains("cannot be addressed"));
    }

    #[test]
    fn channels_and_class_names_must_agree_with_images_and_labels() {
        let names = || vec!["cat".to_owned(), "dog".to_owned()];
        let rgb = Dataset::with_channels((0..12).collect(), vec![1, 0], [1, 2, 3], names()).unwrap();
        assert_eq!((rgb.channels(), rgb.classes(), rgb.class_names()), (3, 2, &names()[..]));
        assert_eq!(rgb.image(1), [6, 7, 8, 9, 10, 11]);
        assert_eq!(rgb.take(1).images(), [0, 1, 2, 3, 4, 5]);

        let problem = |len, labels, extents| {
            Dataset::with_channels(vec![0; len], labels, extents, names()).unwrap_err().to_string()
        };
        assert!(
            problem(11, vec![0, 1], [1, 2, 3])
                .contains("11 bytes are not a whole number of images of 1x2 with 3 channels")
        );
        assert!(problem(6, vec![0, 1], [1, 2, 3]).contains("1 image of 1x2 with 3 channels, but 2 labels"));
        assert!(problem(6, vec![2], [1, 2, 3]).contains("label 2 at position 0, but there are 2 classes"));
        assert!(problem(0, vec![0], [1, 2, 0]).contains("no channels"));
        let error = Dataset::new(vec![0], vec![0], 1, 1, 257).unwrap_err().to_string();
        assert!(error.contains("more than 256 classes"), "{error}");
        assert_eq!(Dataset::new(vec![0], vec![255], 1, 1, 256).unwrap().class_names()[255], "255");
    }

    /// State files store these hashes: a change of what is hashed would refuse them all.
    #[test]
    fn hashes_tell_contents_apart_and_are_stable() {
        let made = |images: Vec<u8>, labels: Vec<u8>, extents, names: [&str; 3]| {
            Dataset::with_channels(images, labels, extents, names.map(String::from).into()).unwrap()
        };
        let pixels = || (0..12).collect::<Vec<u8>>();
        let names = ["a", "b", "c"];
        let whole = made(pixels(), vec![0, 2], [3, 2, 1], names);
        let hashes = whole.hashes();
        assert_eq!(hashes.images, "7e5817e83d9007acb88d4b7706abf6a335a6363ecfe5d977efd38025957ff900");
        assert_eq!(hashes.labels, "d26de5ba798d422957d61e9866310f0f2a11700f7d160d77984edc2cdcb1fcbb");

        let mut flipped = pixels();
        flipped[11] ^= 1;
        for (other, same_images, same_labels) in [
            (made(flipped, vec![0, 2], [3, 2, 1], names), false, true),
            (made(pixels(), vec![0, 2], [2, 3, 1], names), false, true),
            (made(pixels(), vec![0, 2], [1, 2, 3], names), false, true),
            (made(pixels(), vec![0, 1], [3, 2, 1], names), true, false),
            (made(pixels(), vec![0, 2], [3, 2, 1], ["a", "bc", ""]), true, false),
            (made(pixels(), vec![0, 2], [3, 2, 1], ["ab", "", "c"]), true, false),
            (whole.clone().take(1), false, false),
            (whole.clone().take(2), true, true),
        ] {
            let found = other.hashes();
            assert_eq!((found.images == hashes.images, found.labels == hashes.labels), (same_images, same_labels));
        }
    }

    #[test]
    fn what_is_held_out_has_the_last_of_each_class_in_its_share() {
        // Class 0 has six images, class 1 three, class 2 one; the largest class alone is at the end.
        let labels = vec![0, 1, 2, 0, 1, 0, 1, 0, 0, 0];
        let dataset = Dataset::new((0..10).collect(), labels, 1, 1, 4).unwrap();
        let held = |count: usize| {
            let [rest, held] = dataset.hold_out(count).unwrap();
            assert_eq!((rest.len() + held.len(), held.len()), (10, count.min(10)), "{count}");
            assert_eq!(rest.class_names(), dataset.class_names());
            let mut together = [rest.images(), held.images()].concat();
            assert!(rest.images().is_sorted() && held.images().is_sorted());
            together.sort();
            assert_eq!(together, dataset.images());
            for part in [&rest, &held] {
                let labels = part.images().iter().map(|&at| dataset.labels()[usize::from(at)]);
                assert!(labels.eq(part.labels().iter().copied()));
            }
            held.images().to_vec()
        };
        assert_eq!(held(0), [0; 0]);
        assert_eq!(held(1), [9]);
        // 1.8, 0.9 and 0.3 images.
        assert_eq!(held(3), [6, 8, 9]);
        assert_eq!(held(5), [4, 6, 7, 8, 9]);
        assert_eq!(held(10).len(), 10);
        assert_eq!(held(99).len(), 10);
        assert!(dataset.take(0).hold_out(3).unwrap().iter().all(Dataset::is_empty));
    }

    #[test]
    fn take_keeps_the_beginning() {
        let dataset = Dataset::new((0..12).collect(), vec![0, 2], 3, 2, 3).unwrap();
        assert_eq!(dataset.clone().take(9), dataset);
        let first = dataset.clone().take(1);
        assert_eq!((first.len(), first.image(0)), (1, dataset.image(0)));
        assert!(dataset.take(0).is_empty());
    }
}
