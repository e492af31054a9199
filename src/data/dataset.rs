//! Labelled grey images in memory.

use crate::error::{Error, Result};

/// Grey images of one size, each with the class it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    images: Vec<u8>,
    labels: Vec<u8>,
    height: usize,
    width: usize,
    classes: usize,
}

impl Dataset {
    /// `images` holds `labels.len()` images of `height` x `width` grey levels (0 is black), row by row and one after
    /// the other; `labels` holds the class of each, from 0 to `classes - 1`.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] where the counts do not agree, an image has no pixels, or a label is not a class.
    pub fn new(images: Vec<u8>, labels: Vec<u8>, height: usize, width: usize, classes: usize) -> Result<Self> {
        if height == 0 || width == 0 {
            let problem = format!("images of {height}x{width} have no pixels");
            return Err(Error::data("data set", problem));
        }
        let pixels = height.checked_mul(width).and_then(|size| size.checked_mul(labels.len()));
        if pixels != Some(images.len()) {
            let problem = format!(
                "{} labels call for as many images of {height}x{width}, but there are {} grey levels",
                labels.len(),
                images.len()
            );
            return Err(Error::data("data set", problem));
        }
        if let Some(position) = labels.iter().position(|&label| usize::from(label) >= classes) {
            let problem = format!(
                "label {} at position {position}, but there are {classes} classes (labels go from 0)",
                labels[position]
            );
            return Err(Error::data("data set", problem));
        }
        Ok(Dataset { images, labels, height, width, classes })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images at all.
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

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The `height * width` grey levels of image `index`, row by row.
    ///
    /// # Panics
    ///
    /// Where `index` is not below [`len`](Self::len), as indexing a slice does.
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.height * self.width;
        &self.images[index * size..][..size]
    }

    /// The grey levels of all images, one after the other.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// The class of every image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The first `count` images; all of them where there are no more.
    pub fn take(mut self, count: usize) -> Self {
        let count = count.min(self.len());
        self.labels.truncate(count);
        self.images.truncate(count * self.height * self.width);
        self
    }
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
        assert!(problem(vec![0; 11], vec![0, 2], 3, 2).contains("11 grey levels"));
        assert!(problem(vec![0; 12], vec![0, 3], 3, 2).contains("label 3 at position 1"));
        assert!(problem(vec![], vec![0], 0, 2).contains("no pixels"));
        assert!(problem(vec![], vec![0, 0], usize::MAX, 2).contains("0 grey levels"));
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
