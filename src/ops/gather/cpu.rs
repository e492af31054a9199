//! Gather on the CPU.

use rayon::prelude::*;

use super::{Gather, Plan};
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::{Error, Result};

impl<T: Real> Gather for Cpu<T> {
    fn gather(
        &self,
        plan: &Plan<Self>,
        images: &Buf<u8>,
        labels: &Buf<u8>,
        order: &Buf<u8>,
        first: usize,
        x: &mut Buf<T>,
        y: &mut Buf<u8>,
    ) -> Result<()> {
        let ([h, w], [p, q]) = (plan.from, plan.to);
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
            x.par_chunks_mut(p * q).zip(words).try_for_each_init(
                || (vec![0; p * q], Vec::new()),
                |(resized, scratch), (x, &word)| {
                    let index = u32::from_le_bytes(word) as usize;
                    plan.resizer.resize(&images[index * h * w..][..h * w], resized, scratch)?;
                    for (x, &grey) in x.iter_mut().zip(resized.iter()) {
                        // As the loader divides: in f32.
                        *x = T::from_f64(f64::from(f32::from(grey) / 255.0));
                    }
                    Ok(())
                },
            )
        })
    }
}
