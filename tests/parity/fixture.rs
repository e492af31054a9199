//! The fixture: tensors that PyTorch computed.

use super::*;

const BYTES: &[u8] = include_bytes!("../fixtures/parity/nin-12-20-28.safetensors");
pub const CHANNELS: [usize; 3] = [12, 20, 28];

/// A tensor in PyTorch's layout, in f32.
pub struct Tensor {
    pub dims: Vec<usize>,
    pub values: Vec<f32>,
}

impl Tensor {
    /// The values in this crate's memory order: weights KRSC where PyTorch has OIHW.
    pub fn in_memory_order<T: Real>(&self) -> Vec<T> {
        let real = |&value: &f32| T::from_f64(f64::from(value));
        let &[o, i, h, w] = &self.dims[..] else { return self.values.iter().map(real).collect() };
        let mut out = Vec::with_capacity(self.values.len());
        for k in 0..o {
            for r in 0..h {
                for s in 0..w {
                    for c in 0..i {
                        out.push(real(&self.values[((k * i + c) * h + r) * w + s]));
                    }
                }
            }
        }
        out
    }
}

pub fn file() -> SafeTensors<'static> {
    SafeTensors::deserialize(BYTES).unwrap()
}

pub fn tensor(name: &str) -> Tensor {
    let file = file();
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::F32, "{name}");
    Tensor { dims: view.shape().to_vec(), values: bytemuck::pod_collect_to_vec(view.data()) }
}

/// The content of `adamw.json`: PyTorch's settings, and the loss before each of ten steps, computed in f64.
#[derive(serde::Deserialize)]
pub struct AdamWRun {
    pub rate: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
    pub losses: Vec<f64>,
}

pub fn adamw_run() -> AdamWRun {
    serde_json::from_str(include_str!("../fixtures/parity/adamw.json")).unwrap()
}

/// The labels `y`.
pub fn labels() -> Vec<u8> {
    let file = file();
    let classes: Vec<i64> = bytemuck::pod_collect_to_vec(file.tensor("y").unwrap().data());
    classes.into_iter().map(|class| u8::try_from(class).unwrap()).collect()
}

/// The fixture's network, with freshly drawn weights.
pub fn blank<B: Backend>(backend: &B, seed: u64) -> Nin<B> {
    Nin::d2l_with_channels(backend, seed, CHANNELS, 0.0).unwrap()
}
