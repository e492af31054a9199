//! Epochs of batches: their order and sizes, what becomes of images, and the buffers.

use std::panic;

use super::*;
use crate::data::{Erasing, Flip};

/// Images of 2x2. The first pixel is the image's index, modulo 256, and the label is the index's last digit.
fn dataset(len: usize) -> Arc<Dataset> {
    let images = (0..len).flat_map(|index| [index as u8, 0, 255, 51]).collect();
    let labels = (0..len).map(|index| (index % 10) as u8).collect();
    Arc::new(Dataset::new(images, labels, 2, 2, 10).unwrap())
}

fn loader(len: usize, batch_size: usize, order: Order) -> Loader {
    let config = LoaderConfig { batch_size, height: 2, width: 2, order };
    Loader::new(dataset(len), config).unwrap()
}

fn indices(batches: Batches) -> Vec<u32> {
    batches.flat_map(|batch| batch.indices.clone()).collect()
}

const SHUFFLED: Order = Order::Shuffled { seed: 1 };

#[test]
fn a_sequential_epoch_is_the_data_set() {
    let loader = loader(7, 3, Order::Sequential);
    let batches: Vec<Batch> = loader.epoch(0).unwrap().collect();
    assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(batches.iter().map(|batch| batch.step).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(batches[1].labels, [3, 4, 5]);
    assert_eq!(batches[2].images, [6.0f32 / 255.0, 0.0, 1.0, 51.0f32 / 255.0]);
    assert_eq!(loader.steps(), 3);
}

#[test]
fn a_shuffled_epoch_has_every_image_once() {
    let loader = loader(100, 7, SHUFFLED);
    let order = indices(loader.epoch(3).unwrap());
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    assert_ne!(order, sorted);
    for batch in loader.epoch(3).unwrap() {
        for ((image, &label), &index) in batch.images.chunks_exact(4).zip(&batch.labels).zip(&batch.indices) {
            assert_eq!(image[0], index as f32 / 255.0);
            assert_eq!(u32::from(label), index % 10);
        }
    }
}

#[test]
fn the_order_depends_on_seed_and_epoch_alone() {
    let order =
        |seed, epoch, batch_size| indices(loader(100, batch_size, Order::Shuffled { seed }).epoch(epoch).unwrap());
    assert_eq!(order(1, 2, 7), order(1, 2, 100));
    assert_ne!(order(1, 2, 7), order(1, 3, 7));
    assert_ne!(order(1, 2, 7), order(2, 2, 7));
}

/// A checkpoint may resume in the middle of an epoch, so an update of the `rand` crate must not change the order.
#[test]
fn the_order_is_stable() {
    let order = indices(loader(12, 12, SHUFFLED).epoch(5).unwrap());
    assert_eq!(order, [2, 6, 9, 11, 10, 8, 0, 5, 4, 7, 3, 1]);
}

#[test]
fn an_epoch_can_begin_anywhere() {
    let loader = loader(23, 5, SHUFFLED);
    let whole: Vec<_> = loader.epoch(4).unwrap().map(|b| (b.step, b.images.clone())).collect();
    for first in 0..=whole.len() {
        let batches = loader.epoch_from(4, first).unwrap();
        assert_eq!(batches.len(), whole.len() - first);
        let tail: Vec<_> = batches.map(|b| (b.step, b.images.clone())).collect();
        assert_eq!(tail, whole[first..]);
    }
    let error = loader.epoch_from(4, 6).unwrap_err();
    assert_eq!(error.to_string(), "first step: 6, but an epoch has 5");
}

#[test]
fn images_come_in_any_size() {
    let config = LoaderConfig { batch_size: 2, height: 5, width: 3, order: Order::Sequential };
    let dataset = dataset(3);
    let loader = Loader::new(dataset.clone(), config).unwrap();
    let resizer = Resizer::new(2, 2, 5, 3).unwrap();
    for batch in loader.epoch(0).unwrap() {
        for (image, &index) in batch.images.chunks_exact(15).zip(&batch.indices) {
            let mut expected = [0; 15];
            let source = dataset.image(index as usize);
            resizer.resize(source, &mut expected, &mut Vec::new()).unwrap();
            assert_eq!(image, expected.map(|grey| f32::from(grey) / 255.0));
        }
    }
}

#[test]
fn channels_stay_side_by_side() {
    let pixels = (0..2 * 2 * 2 * 3).map(|i| i * 10).collect();
    let dataset = Dataset::with_channels(pixels, vec![1, 0], [2, 2, 3], vec!["a".into(), "b".into()]).unwrap();
    let config = LoaderConfig { batch_size: 2, height: 2, width: 2, order: Order::Sequential };
    let loader = Loader::new(Arc::new(dataset.clone()), config).unwrap();
    let batch = loader.epoch(0).unwrap().next().unwrap();
    assert_eq!(batch.images, dataset.images().iter().map(|&v| f32::from(v) / 255.0).collect::<Vec<_>>());

    let loader = Loader::new(Arc::new(dataset.clone()), LoaderConfig { height: 3, width: 5, ..config }).unwrap();
    let resizer = Resizer::new(2, 2, 3, 5).unwrap().with_channels(3).unwrap();
    let batch = loader.epoch(0).unwrap().next().unwrap();
    assert_eq!(batch.images.len(), 2 * 3 * 5 * 3);
    for (image, &index) in batch.images.chunks_exact(45).zip(&batch.indices) {
        let mut expected = [0; 45];
        resizer.resize(dataset.image(index as usize), &mut expected, &mut Vec::new()).unwrap();
        assert_eq!(image, expected.map(|value| f32::from(value) / 255.0));
    }
}

/// Whatever the batch size and wherever an epoch begins, an image of an epoch is the same one: changed, resized and
/// normalised, in this order.
#[test]
fn changes_depend_on_seed_epoch_and_image_alone() {
    let images: Vec<u8> = (0..20 * 6 * 6).map(|i| (i * 7 % 251) as u8).collect();
    let dataset = Arc::new(Dataset::new(images, vec![0; 20], 6, 6, 10).unwrap());
    let changes = Augmentation { translate: 2, erasing: Some(Erasing::new(0.5)), flip: Flip::Random, seed: 5 };
    let normalization: Normalization = "0.25:0.5".parse().unwrap();
    let resizer = Resizer::new(6, 6, 8, 8).unwrap();
    let wanted = |epoch: u32, index: u32| {
        let (mut changed, mut resized) = ([0; 36], [0; 64]);
        let transform = changes.transform(epoch, index, [6, 6]);
        transform.apply(dataset.image(index as usize), [6, 6, 1], &mut changed);
        resizer.resize(&changed, &mut resized, &mut Vec::new()).unwrap();
        resized.map(|grey| (f32::from(grey) / 255.0 - 0.25) / 0.5)
    };
    let mut seen = 0;
    for (batch_size, epoch, first) in [(3, 0, 0), (7, 0, 1), (20, 0, 0), (4, 3, 0), (5, 3, 2)] {
        let config = LoaderConfig { batch_size, height: 8, width: 8, order: SHUFFLED };
        let loader = Loader::new(dataset.clone(), config).unwrap().with_augmentation(changes).unwrap();
        let loader = loader.with_normalization(normalization.clone()).unwrap();
        for batch in loader.epoch_from(epoch, first).unwrap() {
            for (image, &index) in batch.images.chunks_exact(64).zip(&batch.indices) {
                assert_eq!(image, wanted(epoch, index), "image {index} of epoch {epoch}, {batch_size} a batch");
                assert_eq!(loader.transform(epoch, index), Some(changes.transform(epoch, index, [6, 6])));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 20 + 13 + 20 + 20 + 10);
    let none = Augmentation::none(5);
    let same = loader(3, 1, SHUFFLED).with_augmentation(none).unwrap();
    assert!(same.augmentation().is_none() && same.transform(0, 0).is_none());
    let error = loader(3, 1, SHUFFLED).with_augmentation(Augmentation { translate: 2, ..none }).unwrap_err();
    assert!(error.to_string().starts_with("translate: 2 pixels"), "{error}");
}

#[test]
fn dropping_an_epoch_early_ends_its_thread() {
    let loader = loader(200, 1, SHUFFLED);
    for taken in [0, 1, 5] {
        let mut batches = loader.epoch(0).unwrap();
        assert_eq!(batches.by_ref().take(taken).count(), taken);
        drop(batches);
        // The thread held a clone of the data set. Once it has ended, the loader's own is the only one left.
        assert_eq!(Arc::strong_count(loader.dataset()), 1);
    }
}

#[test]
fn buffers_are_reused() {
    let loader = loader(200, 1, SHUFFLED);
    let mut addresses: Vec<_> =
        (0..3).flat_map(|epoch| loader.epoch(epoch).unwrap()).map(|batch| batch.images.as_ptr() as usize).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert!(addresses.len() <= Loader::BATCHES, "{} buffers for 600 batches", addresses.len());
}

#[test]
fn a_panic_of_the_thread_reaches_the_consumer() {
    let mut batches = Batches::spawn(2, |_| panic::resume_unwind(Box::new("lost"))).unwrap();
    let next = panic::catch_unwind(panic::AssertUnwindSafe(|| batches.next()));
    assert_eq!(next.unwrap_err().downcast_ref(), Some(&"lost"));
    assert!(batches.next().is_none());
}

#[test]
fn bad_options_are_refused() {
    let error = |batch_size, height, width| {
        let config = LoaderConfig { batch_size, height, width, order: SHUFFLED };
        Loader::new(dataset(3), config).unwrap_err().to_string()
    };
    assert!(error(0, 2, 2).starts_with("batch size: 0"));
    assert!(error(1, 0, 2).starts_with("image size: 0x2"));
    assert!(error(usize::MAX, 2, 2).contains("cannot be addressed"));
    // An epoch without a batch would look like one that is done.
    let config = LoaderConfig { batch_size: 1, height: 2, width: 2, order: SHUFFLED };
    let error = Loader::new(dataset(0), config).unwrap_err().to_string();
    assert!(error.contains("there are no images"), "{error}");
}
