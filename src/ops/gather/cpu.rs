//! Gather on the CPU.

use rayon::prelude::*;

use super::{DeviceResizer, Gather, Selection};
use crate::data::{LEVELS, Transform};
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::{Error, Result};

impl<T: Real> Gather for Cpu<T> {
    fn gather(
        &self,
        resizer: &DeviceResizer<Self>,
        selection: &Selection<'_, Self>,
        x: &mut Buf<T>,
        y: &mut Buf<u8>,
    ) -> Result<()> {
        let Selection { images, labels, order, transforms, first, skipped } = *selection;
        let first = first + skipped;
        let ([h, w], [p, q], channels) = (resizer.from, resizer.to, resizer.resizer.channels());
        let (from, to) = (h * w * channels, p * q * channels);
        let (words, _) = order.as_chunks::<4>();
        let order = || words[first..].iter().map(|&word| u32::from_le_bytes(word) as usize);
        if let Some(index) = order().take(y.len()).find(|&index| index >= labels.len()) {
            return Err(Error::shape("gather", format!("index {index} into a data set of {} images", labels.len())));
        }
        for (y, index) in y.iter_mut().zip(order()) {
            *y = labels[index];
        }
        let transform = |b: usize| {
            let (words, _) = transforms?.as_chunks::<4>();
            let words = words[(first + b) * Transform::WORDS..].first_chunk::<{ Transform::WORDS }>()?;
            Some(Transform::of_words(words.map(i32::from_le_bytes)))
        };
        self.run(|| {
            let words = words[first..].par_iter();
            x.par_chunks_mut(to).zip(words).enumerate().try_for_each_init(
                || (vec![0; from], vec![0; to], Vec::new()),
                |(changed, resized, scratch), (b, (x, &word))| {
                    let index = u32::from_le_bytes(word) as usize;
                    let mut image = &images[index * from..][..from];
                    if let Some(transform) = transform(b) {
                        transform.apply(image, [h, w, channels], changed);
                        image = changed;
                    }
                    resizer.resizer.resize(image, resized, scratch)?;
                    for (x, resized) in x.chunks_exact_mut(channels).zip(resized.chunks_exact(channels)) {
                        for ((x, &value), levels) in x.iter_mut().zip(resized).zip(resizer.levels.chunks_exact(LEVELS))
                        {
                            *x = T::from_f64(f64::from(levels[usize::from(value)]));
                        }
                    }
                    Ok(())
                },
            )
        })
    }
}
