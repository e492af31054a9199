//! Gather on the CPU.

use rayon::prelude::*;

use super::{DeviceResizer, Gather, Selection};
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
        let Selection { images, labels, order, first } = *selection;
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
        self.run(|| {
            let words = words[first..].par_iter();
            x.par_chunks_mut(to).zip(words).try_for_each_init(
                || (vec![0; to], Vec::new()),
                |(resized, scratch), (x, &word)| {
                    let index = u32::from_le_bytes(word) as usize;
                    resizer.resizer.resize(&images[index * from..][..from], resized, scratch)?;
                    for (x, &value) in x.iter_mut().zip(resized.iter()) {
                        // Divided in f32, as the loader divides.
                        *x = T::from_f64(f64::from(f32::from(value) / 255.0));
                    }
                    Ok(())
                },
            )
        })
    }
}
