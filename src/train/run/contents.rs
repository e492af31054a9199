//! The data set that a run belongs to, by its contents.

use serde::{Deserialize, Serialize};

use crate::data::Splits;

/// SHA-256 of a data set's contents, in hexadecimal, before any limit on the number of images. Where the files lie, and
/// how they are compressed, makes no difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataHashes {
    pub train_images: String,
    pub train_labels: String,
    pub test_images: String,
    pub test_labels: String,
}

impl DataHashes {
    pub fn of(data: &Splits) -> Self {
        let (train, test) = (data.train.hashes(), data.test.hashes());
        DataHashes {
            train_images: train.images,
            train_labels: train.labels,
            test_images: test.images,
            test_labels: test.labels,
        }
    }

    /// The parts in which `present` differs, as a person names them; `None` if it is the same data set.
    pub(super) fn difference(&self, present: &DataHashes) -> Option<String> {
        let parts = [
            ("training images", &self.train_images, &present.train_images),
            ("training labels", &self.train_labels, &present.train_labels),
            ("test images", &self.test_images, &present.test_images),
            ("test labels", &self.test_labels, &present.test_labels),
        ];
        let differing: Vec<_> = parts.into_iter().filter(|(_, a, b)| a != b).map(|(part, ..)| part).collect();
        (!differing.is_empty()).then(|| differing.join(", "))
    }
}
