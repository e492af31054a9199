//! Networks as files for other programs: ONNX (`onnx`), a [PyTorch module](torch_py()) as Python source, and
//! [`.npy`](npy()) arrays. The weights as safetensors are [`weights::save`](crate::weights::save)'s: PyTorch's names
//! and layouts are theirs already. [`together`](together()) makes several files, all of them or none.
//!
//! A file is made from a network's flat list of layers, so a network of one's own goes out as a preset does. A custom
//! layer ([`Op::Custom`](crate::nn::Op::Custom)) is code of this program's, which no file can hold.
//!
//! ```
//! # #[cfg(feature = "onnx")] {
//! use mlpconv::export::{self, Meta};
//! use mlpconv::{Cpu, Shape, nn::Nin};
//!
//! # fn main() -> mlpconv::Result<()> {
//! let backend = Cpu::<f32>::new();
//! let net = Nin::small(&backend, 1)?;
//! let meta = Meta { preset: Some("small".into()), ..Meta::default() };
//! let bytes = export::onnx(&backend, &net, Shape::image(1, 1, 28, 28), &meta)?;
//! mlpconv::weights::write_whole(&std::env::temp_dir().join("mlpconv-small.onnx"), &bytes)?;
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```

mod described;
mod meta;
mod npy;
#[cfg(feature = "onnx")]
mod onnx;
mod together;
mod torch_py;
mod tree;

pub use meta::Meta;
pub use npy::npy;
#[cfg(feature = "onnx")]
pub use onnx::{OPSET, onnx};
pub use together::{Output, together};
pub use torch_py::torch_py;
