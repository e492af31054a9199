//! Images classified by a network: the probabilities of the classes, the mistakes, and the confusion matrix.

use std::ops::ControlFlow;

use crate::data::{Augmentation, Flip, Loader, Share};
use crate::nn::{Module, predict};
use crate::system::allocation::reserve;
use crate::{Backend, Error, Result, Shape};

/// A loader's images, classified by a network.
#[derive(Clone, Debug)]
pub struct Classified {
    labels: Vec<u8>,
    /// `[images, classes]`.
    probabilities: Vec<f32>,
    classes: usize,
    loss: f64,
}

impl Classified {
    /// Classifies all images of `loader`, without dropout. Image `i` is the data set's, whatever the loader's order.
    ///
    /// `on_batch` is called after each batch with the number of images done. If it breaks off, the result is `None`.
    ///
    /// # Errors
    /// [`Error::Shape`] for images that do not fit the network, or a network that has not as many outputs as the data set has
    /// classes; [`Error::Config`] for a loader with a share of the images; [`Error::Memory`] where the system refuses memory;
    /// the errors of `on_batch` and of the device.
    pub fn of<B: Backend<Scalar = f32>, M: Module<B> + ?Sized>(
        backend: &B,
        net: &M,
        loader: &Loader,
        on_batch: &mut dyn FnMut(usize) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Self>> {
        let (dataset, config) = (loader.dataset(), loader.config());
        if *loader.share() != Share::WHOLE {
            return Err(Error::config("share", "all images are classified, and the loader has a share of them"));
        }
        let classes = dataset.classes();
        let mut probabilities = Vec::new();
        let values = dataset.len() * classes;
        reserve(&mut probabilities, values).map_err(|_| Error::memory(values * size_of::<f32>()))?;
        probabilities.resize(values, 0.0);
        let (mut loss, mut done) = (0.0, 0);
        for batch in loader.epoch(0)? {
            let shape = Shape::image(batch.len(), dataset.channels(), config.height, config.width);
            let logits = predict(backend, net, &batch.images, shape)?;
            if logits.len() != batch.len() * classes {
                let outputs = logits.len() / batch.len();
                let problem = format!("{outputs} outputs of the network for {classes} classes of the data set");
                return Err(Error::shape("classified", problem));
            }
            for ((logits, &label), &index) in logits.chunks_exact(classes).zip(&batch.labels).zip(&batch.indices) {
                let row = &mut probabilities[index as usize * classes..][..classes];
                loss += softmax(logits, row, usize::from(label));
            }
            done += batch.len();
            if on_batch(done)?.is_break() {
                return Ok(None);
            }
        }
        let labels = dataset.labels().to_vec();
        Ok(Some(Classified { loss: loss / labels.len() as f64, labels, probabilities, classes }))
    }

    /// [`Classified::of`] by the means of the probabilities of each image and of its mirror image; `on_batch` is called for the
    /// batches of both.
    ///
    /// # Errors
    /// As [`Classified::of`].
    pub fn of_both_sides<B: Backend<Scalar = f32>, M: Module<B> + ?Sized>(
        backend: &B,
        net: &M,
        loader: &Loader,
        on_batch: &mut dyn FnMut(usize) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Self>> {
        let Some(own) = Self::of(backend, net, loader, on_batch)? else { return Ok(None) };
        let mirrored = Augmentation { flip: Flip::Always, ..Augmentation::none(0) };
        let mirrored = Self::of(backend, net, &loader.clone().with_augmentation(mirrored)?, on_batch)?;
        mirrored.map(|mirrored| own.mean_with(&mirrored)).transpose()
    }

    /// The same images by the means of both probabilities, such as those of images and of their mirror images.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are of other images or classes.
    pub fn mean_with(mut self, other: &Self) -> Result<Self> {
        if self.labels != other.labels || self.classes != other.classes {
            return Err(Error::shape("classified", "both must be of the same images and classes"));
        }
        for (own, other) in self.probabilities.iter_mut().zip(&other.probabilities) {
            *own = (*own + *other) / 2.0;
        }
        let rows = self.probabilities.chunks_exact(self.classes).zip(&self.labels);
        let losses = rows.map(|(row, &label)| -f64::from(row[usize::from(label)].max(f32::MIN_POSITIVE)).ln());
        self.loss = losses.sum::<f64>() / self.labels.len() as f64;
        Ok(self)
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never true: a loader has an image at least.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Mean cross-entropy, in nats.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// The class of image `i` by its label.
    ///
    /// # Panics
    /// Where `i` is not below [`len`](Self::len), as indexing a slice does.
    pub fn label(&self, i: usize) -> usize {
        usize::from(self.labels[i])
    }

    /// `[classes]`: the probability of each class for image `i`. As [`probabilities`].
    ///
    /// # Panics
    /// As [`label`](Self::label).
    pub fn probabilities(&self, i: usize) -> &[f32] {
        &self.probabilities[i * self.classes..][..self.classes]
    }

    /// The class with the first largest probability for image `i`.
    ///
    /// # Panics
    /// As [`label`](Self::label).
    pub fn predicted(&self, i: usize) -> usize {
        first_largest(self.probabilities(i))
    }

    /// The images that are classified wrongly, those with the largest probability of the wrong class first; of equals the
    /// earlier image first.
    pub fn mistakes(&self) -> Vec<usize> {
        let mut mistakes: Vec<usize> = (0..self.len()).filter(|&i| self.predicted(i) != self.label(i)).collect();
        let sure = |i: &usize| self.probabilities(*i)[self.predicted(*i)];
        mistakes.sort_by(|a, b| sure(b).total_cmp(&sure(a)));
        mistakes
    }

    /// The confusion matrix.
    pub fn confusion(&self) -> Confusion {
        Confusion::of(self.classes, (0..self.len()).map(|i| (self.label(i), self.predicted(i))))
    }
}

/// The probabilities of the classes by their logits: the softmax, computed in f64. Of logits that are not finite they may be NaN.
pub fn probabilities(logits: &[f32]) -> Vec<f32> {
    let mut row = vec![0.0; logits.len()];
    softmax(logits, &mut row, 0);
    row
}

/// The first largest of the values; NaN is none.
fn first_largest(values: &[f32]) -> usize {
    let larger = |best: usize, i: usize| if values[i] > values[best] { i } else { best };
    (1..values.len()).fold(0, larger)
}

/// Writes the softmax of `logits` to `out`, and returns the cross-entropy of class `label`.
fn softmax(logits: &[f32], out: &mut [f32], label: usize) -> f64 {
    let Some(&largest) = logits.get(first_largest(logits)) else { return 0.0 };
    // Shifted by the largest logit, no exponential overflows and their sum is at least 1.
    let shifted = |logit: f32| f64::from(logit - largest);
    let sum: f64 = logits.iter().map(|&logit| shifted(logit).exp()).sum();
    for (out, &logit) in out.iter_mut().zip(logits) {
        *out = (shifted(logit).exp() / sum) as f32;
    }
    sum.ln() - shifted(logits[label])
}

/// How many images of each class were taken for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[classes, classes]`: a row for each class by label, a column for each class by prediction.
    counts: Vec<usize>,
}

impl Confusion {
    /// The counts of pairs of label and prediction.
    ///
    /// # Panics
    /// For a class that is not below `classes`, as indexing a slice does.
    pub fn of(classes: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![0; classes * classes];
        for (label, predicted) in pairs {
            counts[label * classes..][..classes][predicted] += 1;
        }
        Confusion { classes, counts }
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// `[classes]`: how many images of class `label` were taken for each class.
    ///
    /// # Panics
    /// For a class that is not below [`classes`](Self::classes), as indexing a slice does.
    pub fn row(&self, label: usize) -> &[usize] {
        &self.counts[label * self.classes..][..self.classes]
    }

    /// The images of class `label`.
    ///
    /// # Panics
    /// As [`row`](Self::row).
    pub fn labelled(&self, label: usize) -> usize {
        self.row(label).iter().sum()
    }

    /// The images that were taken for class `predicted`.
    ///
    /// # Panics
    /// As [`row`](Self::row).
    pub fn predicted(&self, predicted: usize) -> usize {
        (0..self.classes).map(|label| self.row(label)[predicted]).sum()
    }

    /// The number of images.
    pub fn images(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Share of the images that were taken for their class; `None` without images.
    pub fn accuracy(&self) -> Option<f64> {
        share((0..self.classes).map(|class| self.row(class)[class]).sum(), self.images())
    }

    /// Of the images taken for `class`, the share that is of it; `None` if none was taken for it.
    ///
    /// # Panics
    /// As [`row`](Self::row).
    pub fn precision(&self, class: usize) -> Option<f64> {
        share(self.row(class)[class], self.predicted(class))
    }

    /// Of the images of `class`, the share that was taken for it; `None` if there are none.
    ///
    /// # Panics
    /// As [`row`](Self::row).
    pub fn recall(&self, class: usize) -> Option<f64> {
        share(self.row(class)[class], self.labelled(class))
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Cpu;
    use crate::data::{Dataset, LoaderConfig, Order};
    use crate::nn::{Flatten, GlobalAvgPool, MaxPool, Sequential};

    /// Images of one pixel and two channels: a network without parameters takes the channels' means as its logits.
    fn loader(pixels: &[[u8; 2]], labels: &[u8], order: Order) -> Loader {
        let names = vec!["left".into(), "right".into()];
        let dataset = Dataset::with_channels(pixels.concat(), labels.to_vec(), [1, 1, 2], names).unwrap();
        Loader::new(Arc::new(dataset), LoaderConfig { batch_size: 2, height: 1, width: 1, order }).unwrap()
    }

    fn means() -> Sequential<Cpu<f32>> {
        Sequential::new().push(GlobalAvgPool).push(Flatten)
    }

    const PIXELS: [[u8; 2]; 5] = [[255, 0], [0, 255], [0, 51], [102, 0], [9, 9]];
    const LABELS: [u8; 5] = [1, 1, 0, 0, 1];

    #[test]
    fn images_keep_their_places_in_any_order() {
        for order in [Order::Sequential, Order::Shuffled { seed: 3 }] {
            let mut done = Vec::new();
            let loader = loader(&PIXELS, &LABELS, order);
            let classified = Classified::of(&Cpu::new(), &means(), &loader, &mut |images| {
                done.push(images);
                Ok(ControlFlow::Continue(()))
            });
            let classified = classified.unwrap().unwrap();
            assert_eq!(done, [2, 4, 5]);
            let predicted: Vec<usize> = (0..5).map(|i| classified.predicted(i)).collect();
            assert_eq!(predicted, [0, 1, 1, 0, 0], "of equals the first");
            // Surest first: by differences of 1, 0.2 and 0.
            assert_eq!(classified.mistakes(), [0, 2, 4]);
            let sure = 1.0 / (1.0 + (-1f64).exp());
            assert_eq!(classified.probabilities(0), [sure as f32, (1.0 - sure) as f32]);
            let losses = [1.0, -1.0, 0.2, -0.4, 0.0].map(|difference: f64| difference.exp().ln_1p());
            assert!((classified.loss() - losses.iter().sum::<f64>() / 5.0).abs() < 1e-7);
            assert_eq!(classified.confusion(), Confusion { classes: 2, counts: vec![1, 1, 2, 1] });
        }
    }

    #[test]
    fn two_views_of_the_same_images_have_a_mean() {
        let classified = |pixels: &[[u8; 2]]| {
            let loader = loader(pixels, &LABELS, Order::Sequential);
            Classified::of(&Cpu::new(), &means(), &loader, &mut |_| Ok(ControlFlow::Continue(()))).unwrap().unwrap()
        };
        let (one, other) = (classified(&PIXELS), classified(&[[0, 255]; 5]));
        let mean = one.clone().mean_with(&other).unwrap();
        for i in 0..5 {
            for class in 0..2 {
                let wanted = (one.probabilities(i)[class] + other.probabilities(i)[class]) / 2.0;
                assert_eq!(mean.probabilities(i)[class], wanted);
            }
        }
        let losses = (0..5).map(|i| -f64::from(mean.probabilities(i)[mean.label(i)]).ln());
        assert!((mean.loss() - losses.sum::<f64>() / 5.0).abs() < 1e-12);
        assert!((one.clone().mean_with(&one).unwrap().loss() - one.loss()).abs() < 1e-6);
        let fewer = loader(&PIXELS[..4], &LABELS[..4], Order::Sequential);
        let fewer =
            Classified::of(&Cpu::new(), &means(), &fewer, &mut |_| Ok(ControlFlow::Continue(()))).unwrap().unwrap();
        assert!(one.mean_with(&fewer).is_err());
    }

    /// A network that sees the left pixel alone sees the right one in the mirror image.
    #[test]
    fn both_sides_are_an_image_and_its_mirror_image() {
        let left = Sequential::<Cpu<f32>>::new().push(MaxPool { window: 1, stride: 2 }).push(Flatten);
        let names = vec!["left".into(), "right".into()];
        let pixels = vec![255, 0, 0, 51, 9, 9, 102, 0];
        let dataset = Arc::new(Dataset::with_channels(pixels, vec![0, 1], [1, 2, 2], names).unwrap());
        let config = LoaderConfig { batch_size: 1, height: 1, width: 2, order: Order::Sequential };
        let loader = Loader::new(dataset, config).unwrap();
        let mut batches = 0;
        let both = Classified::of_both_sides(&Cpu::new(), &left, &loader, &mut |_| {
            batches += 1;
            Ok(ControlFlow::Continue(()))
        });
        let both = both.unwrap().unwrap();
        for (image, [own, mirrored]) in [[1.0f32, -0.2], [0.0, 0.4]].into_iter().enumerate() {
            let share = |difference: f32| 1.0 / (1.0 + (-difference).exp());
            let wanted = (share(own) + share(mirrored)) / 2.0;
            assert!((both.probabilities(image)[0] - wanted).abs() < 1e-6, "{image}: {both:?}");
        }
        assert_eq!(batches, 4);
    }

    #[test]
    fn a_caller_may_break_off() {
        let loader = loader(&PIXELS, &LABELS, Order::Sequential);
        let classified = Classified::of(&Cpu::new(), &means(), &loader, &mut |_| Ok(ControlFlow::Break(())));
        assert!(classified.unwrap().is_none());
    }

    #[test]
    fn a_network_with_other_outputs_is_refused() {
        let dataset = Dataset::new(vec![0, 0], vec![0, 1], 1, 1, 2).unwrap();
        let config = LoaderConfig { batch_size: 2, height: 1, width: 1, order: Order::Sequential };
        let loader = Loader::new(Arc::new(dataset), config).unwrap();
        let refused = Classified::of(&Cpu::new(), &means(), &loader, &mut |_| Ok(ControlFlow::Continue(())));
        let error = refused.unwrap_err().to_string();
        assert_eq!(error, "classified: 1 outputs of the network for 2 classes of the data set");
    }

    #[test]
    fn a_class_without_images_has_no_share() {
        let confusion = Confusion::of(3, [(0, 0), (0, 1), (1, 1), (1, 1)].into_iter());
        assert_eq!(confusion.accuracy(), Some(0.75));
        assert_eq!([0, 1, 2].map(|class| confusion.precision(class)), [Some(1.0), Some(2.0 / 3.0), None]);
        assert_eq!([0, 1, 2].map(|class| confusion.recall(class)), [Some(0.5), Some(1.0), None]);
        assert_eq!(Confusion::of(2, [].into_iter()).accuracy(), None);
    }

    #[test]
    fn large_logits_overflow_nothing() {
        assert_eq!(probabilities(&[1e30, -1e30, 1e30]), [0.5, 0.0, 0.5]);
        assert!(probabilities(&[]).is_empty());
    }
}
