//! Batches that the device puts together are what the host would have uploaded, to the bit.

use mlpconv::Backend;
use mlpconv::data::Resizer;
use mlpconv::device::Role;
use mlpconv::ops::gather::Plan;

use crate::arithmetic::Arithmetic;
use crate::{case, table};

/// `n` images out of so many, from position `first` of an order that has some twice and others not at all.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub images: usize,
    pub n: usize,
    pub first: usize,
    pub from: [usize; 2],
    pub to: [usize; 2],
}

on_every_backend!(a_batch_is_what_the_host_would_make_of_it);

fn a_batch_is_what_the_host_would_make_of_it<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for batch in table::batches() {
        let Batch { images, n, first, from: [h, w], to: [p, q] } = batch;
        let noise = |i: usize| ((i as u32 ^ 0x5bd1).wrapping_mul(2_654_435_761) >> 24) as u8;
        let pixels: Vec<u8> = (0..images * h * w).map(noise).collect();
        let labels: Vec<u8> = (0..images).map(|i| (i % 10) as u8).collect();
        let order: Vec<u32> = (0..images.max(first + n)).map(|i| (i * i + 3) as u32 % images as u32).collect();
        let words: Vec<u8> = order.iter().flat_map(|index| index.to_le_bytes()).collect();

        let plan = Plan::new(backend, [h, w], [p, q]).unwrap();
        let [on_device, its_labels, its_order] =
            [&pixels, &labels, &words].map(|bytes| backend.upload_bytes(bytes).unwrap());
        let mut x = backend.alloc(Role::Activation, n * p * q).unwrap();
        let mut y = backend.alloc_bytes(n).unwrap();
        plan.gather(backend, &on_device, &its_labels, &its_order, first, &mut x, &mut y).unwrap();

        let resizer = Resizer::new(h, w, p, q).unwrap();
        let (mut want, mut scratch) = (Vec::new(), Vec::new());
        for &index in &order[first..first + n] {
            let mut resized = vec![0; p * q];
            resizer.resize(&pixels[index as usize * h * w..][..h * w], &mut resized, &mut scratch).unwrap();
            want.extend(resized.into_iter().map(|grey| arithmetic.stored(f64::from(f32::from(grey) / 255.0))));
        }
        assert!(backend.download(&x).unwrap() == case::scalars::<B::Scalar>(&want), "{batch:?}");
        let chosen: Vec<u8> = order[first..first + n].iter().map(|&index| labels[index as usize]).collect();
        assert_eq!(backend.download_bytes(&y).unwrap(), chosen, "{batch:?}");
    }
}
