//! Gather, which prepares batches on the device, against the loader, which prepares them on the host, bit for bit.

use std::sync::Arc;

use mlpconv::data::{self, Augmentation, Dataset, Erasing, Flip, Loader, LoaderConfig, Normalization, Order};
use mlpconv::device::Role;
use mlpconv::ops::gather::{DeviceResizer, Selection};
use mlpconv::{Backend, Cpu, Device, Error};

use crate::arithmetic::Arithmetic;
use crate::{case, table};

on_every_backend!(batches_are_the_loaders);

fn batches_are_the_loaders<B: Backend>(backend: &B, _: Arithmetic) {
    table::batches().iter().for_each(|batches| check(backend, batches));
}

/// A data set of `images` images of `channels` channels with extents `from` (height and width), in batches of images
/// with extents `to`.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    pub images: usize,
    pub from: [usize; 2],
    pub to: [usize; 2],
    pub channels: usize,
    pub batch: usize,
    /// Whether images are mirrored, shifted, erased in part, and normalised.
    pub changed: bool,
}

/// The epoch that is compared.
const EPOCH: u32 = 1;

impl Batches {
    /// Images of pseudo-random grey levels, and their labels.
    fn dataset(&self) -> (Vec<u8>, Vec<u8>) {
        let mut word = 0x9e37_79b9u32;
        let grey = |_| {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match word >> 30 {
                0 => 0,
                1 => 255,
                _ => (word >> 20) as u8,
            }
        };
        let images = (0..self.images * self.from[0] * self.from[1] * self.channels).map(grey).collect();
        (images, (0..self.images).map(|i| (7 * i % 10) as u8).collect())
    }

    /// A mean and a deviation for each channel.
    fn normalization(&self) -> Normalization {
        let numbers = |first: f32| (0..self.channels).map(|channel| first + 0.125 * channel as f32).collect();
        Normalization::new(numbers(0.25), numbers(0.375)).unwrap()
    }

    /// The loader whose batches are compared.
    fn loader(&self) -> Loader {
        let (images, labels) = self.dataset();
        let extents = [self.from[0], self.from[1], self.channels];
        let names = (0..10).map(|class| class.to_string()).collect();
        let dataset = Dataset::with_channels(images, labels, extents, names).unwrap();
        let order = Order::Shuffled { seed: 4 };
        let config = LoaderConfig { batch_size: self.batch, height: self.to[0], width: self.to[1], order };
        let loader = Loader::new(Arc::new(dataset), config).unwrap();
        if !self.changed {
            return loader;
        }
        let translate = (self.from[0].min(self.from[1]) - 1).min(3);
        let changes = Augmentation { seed: 9, flip: Flip::Random, translate, erasing: Some(Erasing::new(0.7)) };
        loader.with_augmentation(changes).unwrap().with_normalization(self.normalization()).unwrap()
    }
}

/// Compares every batch of an epoch. The loader's are compared as `backend` stores them.
pub fn check<B: Backend>(backend: &B, batches: &Batches) {
    let loader = batches.loader();
    let epoch: Vec<data::Batch> = loader.epoch(EPOCH).unwrap().collect();
    let order: Vec<u8> = epoch.iter().flat_map(|batch| &batch.indices).flat_map(|index| index.to_le_bytes()).collect();
    let (images, labels) = batches.dataset();
    let words = |index: u32| {
        let transform = loader.transform(EPOCH, index).unwrap();
        let [rows, columns] = transform.erased.map(|erased| [erased.start, erased.end].map(|place| place as i32));
        [[i32::from(transform.mirrored), transform.down, transform.right, rows[0], rows[1]].to_vec(), columns.to_vec()]
            .concat()
    };
    let transforms = batches.changed.then(|| {
        let words = epoch.iter().flat_map(|batch| &batch.indices).flat_map(|&index| words(index));
        backend.upload_bytes(&words.flat_map(i32::to_le_bytes).collect::<Vec<u8>>()).unwrap()
    });
    let [images, labels, order] = [images, labels, order].map(|bytes| backend.upload_bytes(&bytes).unwrap());
    let mut resizer = DeviceResizer::new(backend, batches.from, batches.to, batches.channels).unwrap();
    if batches.changed {
        resizer = resizer.with_normalization(backend, &batches.normalization()).unwrap();
    }
    for batch in epoch {
        let mut x = backend.alloc(Role::Activation, batch.images.len()).unwrap();
        let mut y = backend.alloc_bytes(batch.len()).unwrap();
        let first = batch.step * batches.batch;
        let transforms = transforms.as_ref();
        let selection = Selection { images: &images, labels: &labels, order: &order, transforms, first, skipped: 0 };
        resizer.gather(backend, &selection, &mut x, &mut y).unwrap();
        let wanted: Vec<f64> = batch.images.iter().map(|&pixel| f64::from(pixel)).collect();
        let wanted = backend.upload(Role::Activation, &case::scalars(&wanted)).unwrap();
        let (found, wanted) = (backend.download(&x).unwrap(), backend.download(&wanted).unwrap());
        assert!(found == wanted, "{batches:?}: images of batch {}", batch.step);
        assert_eq!(backend.download_bytes(&y).unwrap(), batch.labels, "{batches:?}: labels of batch {}", batch.step);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let backend = Cpu::<f32>::new();
    let gather = |channels: usize, images: usize, labels: usize, order: &[u32], first: usize, x: usize, y: usize| {
        let resizer = DeviceResizer::new(&backend, [2, 3], [4, 5], channels).unwrap();
        let order: Vec<u8> = order.iter().flat_map(|index| index.to_le_bytes()).collect();
        let bytes = |len: usize| backend.upload_bytes(&vec![1; len]).unwrap();
        let mut x = backend.alloc(Role::Activation, x).unwrap();
        let order = backend.upload_bytes(&order).unwrap();
        let transforms = None;
        let selection =
            Selection { images: &bytes(images), labels: &bytes(labels), order: &order, transforms, first, skipped: 0 };
        resizer.gather(&backend, &selection, &mut x, &mut bytes(y))
    };
    gather(1, 18, 3, &[2, 0, 1], 1, 40, 2).unwrap();
    gather(3, 54, 3, &[2, 0, 1], 1, 120, 2).unwrap();
    let wrong = [
        gather(1, 17, 3, &[2, 0, 1], 1, 40, 2),
        gather(1, 18, 2, &[2, 0, 1], 1, 40, 2),
        gather(1, 0, 0, &[2, 0, 1], 1, 40, 2),
        gather(1, 18, 3, &[2, 0, 1], 2, 40, 2),
        gather(1, 18, 3, &[2, 0, 1], usize::MAX, 40, 2),
        gather(1, 18, 3, &[2, 0, 1], 1, 41, 2),
        gather(1, 18, 3, &[2, 0, 1], 1, 0, 0),
        gather(1, 18, 3, &[2, 0, 3], 1, 40, 2),
        gather(3, 18, 3, &[2, 0, 1], 1, 120, 2),
        gather(3, 54, 3, &[2, 0, 1], 1, 40, 2),
    ];
    for (i, result) in wrong.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Shape { op: "gather", .. })), "{i}: {result:?}");
    }
    assert!(DeviceResizer::new(&backend, [2, 3], [0, 5], 1).is_err());
    assert!(DeviceResizer::new(&backend, [2, 3], [4, 5], 0).is_err());
}
