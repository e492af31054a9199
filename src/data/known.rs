//! The data sets that are known by name.

use super::recipe::{Recipe, Trimming};
use super::spec::{DataFile, DataSpec, Format, Published};

/// All data sets that are known by name.
pub static ALL: [&DataSpec; 4] = [&FASHION_MNIST, &MNIST, &KMNIST, &CIFAR10];

/// The data set of this name.
pub fn by_name(name: &str) -> Option<&'static DataSpec> {
    ALL.into_iter().find(|spec| spec.name == name)
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// Bytes of the IDX files of 60,000 and of 10,000 images of 28x28.
const IMAGES: [u64; 2] = [16 + 60_000 * 28 * 28, 16 + 10_000 * 28 * 28];
/// Bytes of the IDX files of 60,000 and of 10,000 labels.
const LABELS: [u64; 2] = [8 + 60_000, 8 + 10_000];

const fn content(name: &'static str, bytes: u64, sha256: &'static str) -> DataFile {
    DataFile { name, published: Published::Content { bytes, sha256 } }
}

const fn compressed(name: &'static str, bytes: u64, sha256: &'static str) -> DataFile {
    DataFile { name, published: Published::Compressed { bytes, sha256 } }
}

/// Fashion-MNIST: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
/// algorithms", 2017.
///
/// Mirrors: upstream's repository, the copy that Keras uses, and the address that upstream first published. Folders:
/// torchvision's, Keras' below its cache, and that of upstream's repository.
pub static FASHION_MNIST: DataSpec = DataSpec {
    name: "fashion-mnist",
    title: "Fashion-MNIST",
    channels: 1,
    extents: [28, 28],
    class_names: &[
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ],
    recipe: Recipe::Trimmed(Trimming { side: 28, sharpened: true, by_mass: false }),
    format: Format::Idx,
    train: &[
        content(TRAIN_IMAGES, IMAGES[0], "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        content(TRAIN_LABELS, LABELS[0], "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    ],
    test: &[
        content(TEST_IMAGES, IMAGES[1], "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        content(TEST_LABELS, LABELS[1], "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ],
    archive: None,
    below: &["fashion-mnist", "FashionMNIST/raw", "raw", "datasets/fashion-mnist", "data/fashion"],
    mirrors: &[
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ],
    package: Some("dataset-fashion-mnist"),
    first_labels: Some([&[9, 0, 0, 3, 0, 2, 7, 2, 5, 5], &[9, 2, 1, 1, 6, 1, 4, 6, 5, 7]]),
};

/// MNIST: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".
///
/// Mirrors: those of torchvision and of TensorFlow Datasets.
pub static MNIST: DataSpec = DataSpec {
    name: "mnist",
    title: "MNIST",
    channels: 1,
    extents: [28, 28],
    class_names: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    recipe: Recipe::Trimmed(Trimming { side: 20, sharpened: false, by_mass: true }),
    format: Format::Idx,
    train: &[
        content(TRAIN_IMAGES, IMAGES[0], "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        content(TRAIN_LABELS, LABELS[0], "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ],
    test: &[
        content(TEST_IMAGES, IMAGES[1], "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        content(TEST_LABELS, LABELS[1], "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ],
    archive: None,
    below: &["mnist", "MNIST/raw", "raw"],
    mirrors: &["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    package: None,
    first_labels: Some([&[5, 0, 4, 1, 9, 2, 1, 3, 1, 4], &[7, 2, 1, 0, 4, 1, 4, 9, 5, 9]]),
};

/// Kuzushiji-MNIST, ten characters of cursive Japanese: Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto, Ha, "Deep
/// learning for classical Japanese literature", 2018.
///
/// The hashes are of upstream's compressed files, as TensorFlow Datasets lists them.
pub static KMNIST: DataSpec = DataSpec {
    name: "kmnist",
    title: "Kuzushiji-MNIST",
    channels: 1,
    extents: [28, 28],
    class_names: &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
    recipe: Recipe::Trimmed(Trimming { side: 28, sharpened: false, by_mass: false }),
    format: Format::Idx,
    train: &[
        compressed(TRAIN_IMAGES, 18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
        compressed(TRAIN_LABELS, 29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
    ],
    test: &[
        compressed(TEST_IMAGES, 3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
        compressed(TEST_LABELS, 5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
    ],
    archive: None,
    below: &["kmnist", "KMNIST/raw", "raw"],
    mirrors: &["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
    package: None,
    first_labels: None,
};

/// Bytes of a file of 10,000 records: a label and three channels of 32x32.
const BATCH: Published = Published::Size { bytes: 10_000 * (1 + 3 * 32 * 32) };

const fn batch(name: &'static str) -> DataFile {
    DataFile { name, published: BATCH }
}

/// CIFAR-10, its binary version: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
///
/// The hash is that of upstream's archive, as TensorFlow Datasets lists it. No hashes of the files inside are known, so
/// unpacked files are checked by their sizes.
pub static CIFAR10: DataSpec = DataSpec {
    name: "cifar10",
    title: "CIFAR-10",
    channels: 3,
    extents: [32, 32],
    class_names: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    recipe: Recipe::Cropped,
    format: Format::CifarBinary,
    train: &[
        batch("data_batch_1.bin"),
        batch("data_batch_2.bin"),
        batch("data_batch_3.bin"),
        batch("data_batch_4.bin"),
        batch("data_batch_5.bin"),
    ],
    test: &[batch("test_batch.bin")],
    archive: Some(compressed(
        "cifar-10-binary.tar",
        170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    )),
    below: &["cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"],
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    package: None,
    first_labels: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_complete() {
        for spec in ALL {
            assert_eq!(by_name(spec.name), Some(spec));
            assert!(!spec.class_names.is_empty() && spec.class_names.len() <= 256, "{}", spec.name);
            assert!(!spec.train.is_empty() && !spec.test.is_empty(), "{}", spec.name);
            assert_eq!(spec.below[0], spec.name);
            assert!(spec.mirrors.iter().all(|address| address.ends_with('/')), "{}", spec.name);
            for file in spec.files().chain(spec.downloads()) {
                if let Published::Content { sha256, .. } | Published::Compressed { sha256, .. } = file.published {
                    assert_eq!(sha256.len(), 64, "{}", file.name);
                    assert!(sha256.bytes().all(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_uppercase()));
                }
            }
            // Without a hash, a proxy's message could not be told from the file.
            let hashed = |file: &&DataFile| !matches!(file.published, Published::Size { .. });
            assert!(spec.downloads().iter().all(hashed), "{}", spec.name);
        }
        assert_eq!(by_name("cifar"), None);
    }
}
