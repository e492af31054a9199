//! Parameters as safetensors files, under PyTorch's names and in PyTorch's layouts (OIHW for weights).
//! `torch.nn.Sequential` loads them by `load_state_dict(safetensors.torch.load_file(path))`. Elements are f32 for every
//! backend.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::Backend;
use crate::device::Real;
use crate::nn::Module;
use crate::tape::Param;
use crate::{Error, Result, Shape};

/// The contents of a safetensors file on the host: tensors by name, in PyTorch's layouts, and an optional note.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    note: Option<String>,
}

/// The key of the metadata entry that holds [`Tensors::note`]. It is the only entry, because the order of several would
/// not be fixed, and equal contents have to give equal files.
const NOTE: &str = "mlpconv";

impl Tensors {
    /// Adds a tensor of shape `shape`; `values` are in memory order.
    fn push<T: Real>(&mut self, name: String, shape: Shape, values: &[T]) {
        let values = reorder(shape, values, |krsc, oihw| (oihw, krsc), |v| v.to_f64() as f32);
        self.tensors.push((name, shape.dims().to_vec(), values));
    }

    /// The values of tensor `name`, in memory order; the error says that it is missing or has another shape.
    fn get<T: Real>(&self, name: &str, shape: Shape) -> std::result::Result<Vec<T>, String> {
        let found = self.tensors.iter().find(|(n, ..)| n == name);
        let (_, dims, values) = found.ok_or_else(|| format!("tensor {name} is missing"))?;
        if dims != shape.dims() {
            return Err(format!("tensor {name} has shape {dims:?}, the network's is {shape}"));
        }
        Ok(reorder(shape, values, |krsc, oihw| (krsc, oihw), |v| T::from_f64(f64::from(v))))
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.iter().any(|(n, ..)| n == name)
    }

    /// The note: a text stored in the file's metadata.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    pub fn is_sealed(&self) -> bool {
        true
    }

    /// Replaces the note.
    pub fn set_note(&mut self, note: String) {
        self.note = Some(note);
    }

    /// The parameters of a network, downloaded from the device.
    ///
    /// # Errors
    /// As the device ([`Device`](crate::device::Device)).
    pub fn of<B: Backend>(backend: &B, net: &impl Module<B>) -> Result<Self> {
        let mut tensors = Tensors::default();
        for (name, param) in net.params() {
            tensors.push(name, param.shape(), &backend.download(param.data())?);
        }
        Ok(tensors)
    }

    /// Adds tensors beside a network's parameters, such as an optimiser's state. For each parameter that `buffer` gives
    /// a buffer for, of the parameter's shape and in memory order, it adds a tensor named `prefix` and the parameter's
    /// name.
    pub fn push_beside<'a, B: Backend>(
        &mut self,
        backend: &B,
        net: &impl Module<B>,
        prefix: &str,
        buffer: impl Fn(&Param<B>) -> Option<&'a B::Buf>,
    ) -> Result<()> {
        for (name, param) in net.params() {
            if let Some(buffer) = buffer(param) {
                self.push(format!("{prefix}{name}"), param.shape(), &backend.download(buffer)?);
            }
        }
        Ok(())
    }

    /// The tensors that [`Tensors::push_beside`] stored under `prefix`: the parameters' names, and values in memory
    /// order. Empty if no parameter has one.
    ///
    /// # Errors
    /// [`Error::Weights`] for `path` if a tensor's shape is not its parameter's, or only some parameters have a tensor.
    pub fn beside<B: Backend>(
        &self,
        net: &impl Module<B>,
        prefix: &str,
        path: &Path,
    ) -> Result<Vec<(String, Vec<B::Scalar>)>> {
        let (mut found, mut absent) = (Vec::new(), None);
        for (name, param) in net.params() {
            let full = format!("{prefix}{name}");
            if self.has(&full) {
                found.push((name, self.get(&full, param.shape()).map_err(Error::weights(path))?));
            } else {
                absent.get_or_insert(full);
            }
        }
        match absent {
            Some(absent) if !found.is_empty() => Err(Error::weights(path)(format!("tensor {absent} is missing"))),
            _ => Ok(found),
        }
    }

    /// Sets a network's parameters to these tensors, read from `path`. Nothing changes if a tensor does not fit.
    ///
    /// # Errors
    /// [`Error::Weights`] if a parameter's tensor is missing or has another shape, or if a tensor has no parameter and
    /// none of the prefixes `beside`; [`Error::ParameterInUse`] while a variable of some tape shares a parameter's
    /// data.
    pub fn give_to<B: Backend>(
        &self,
        backend: &B,
        net: &mut impl Module<B>,
        beside: &[String],
        path: &Path,
    ) -> Result<()> {
        let read = |(name, param): &(String, &Param<B>)| self.get(name, param.shape());
        let params = net.params();
        let values: std::result::Result<Vec<Vec<B::Scalar>>, _> = params.iter().map(read).collect();
        let values = values.map_err(Error::weights(path))?;
        let known = |name: &str| {
            params.iter().any(|(param, _)| param == name) || beside.iter().any(|prefix| name.starts_with(prefix))
        };
        if let Some((name, ..)) = self.tensors.iter().find(|(name, ..)| !known(name)) {
            return Err(Error::weights(path)(format!("the network has no parameter {name}")));
        }
        drop(params);
        for (name, param) in net.params_mut() {
            if param.data_mut().is_none() {
                return Err(Error::ParameterInUse { op: "weights", name });
            }
        }
        for ((_, param), values) in net.params_mut().into_iter().zip(&values) {
            param.set(backend, values)?;
        }
        Ok(())
    }

    /// Writes the file atomically: to a temporary file in the same folder, which is then renamed.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::Weights`] if the format cannot hold the tensors.
    pub fn save(&self, path: &Path) -> Result<()> {
        let problem = |e: safetensors::SafeTensorError| Error::weights(path)(e.to_string());
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let bytes: Vec<Vec<u8>> = self.tensors.iter().map(|(.., values)| bytes(values)).collect();
        let mut views = Vec::with_capacity(bytes.len());
        for ((name, dims, _), bytes) in self.tensors.iter().zip(&bytes) {
            views.push((name, TensorView::new(Dtype::F32, dims.clone(), bytes).map_err(problem)?));
        }
        let metadata = self.note.clone().map(|note| HashMap::from([(NOTE.to_owned(), note)]));
        write_whole(path, &safetensors::serialize(views, metadata).map_err(problem)?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Weights`] if it is not safetensors, or has a tensor of
    /// another type than f32.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let problem = |e: safetensors::SafeTensorError| Error::weights(path)(format!("not a safetensors file: {e}"));
        let file = SafeTensors::deserialize(&bytes).map_err(problem)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(problem)?;
        let note = metadata.metadata().as_ref().and_then(|entries| entries.get(NOTE).cloned());
        let mut tensors = Vec::with_capacity(file.len());
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(Error::weights(path)(format!("tensor {name} is {:?}, not F32", view.dtype())));
            }
            let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            tensors.push((name.to_owned(), view.shape().to_vec(), view.data().chunks_exact(4).map(number).collect()));
        }
        Ok(Tensors { tensors, note })
    }
}

/// Saves a network's parameters as a safetensors file.
///
/// # Errors
/// As [`Tensors::save`].
pub fn save<B: Backend>(backend: &B, net: &impl Module<B>, path: impl AsRef<Path>) -> Result<()> {
    Tensors::of(backend, net)?.save(path.as_ref())
}

/// Loads a network's parameters from a safetensors file that [`save`] or PyTorch wrote for the same network. Nothing
/// changes if a tensor does not fit.
///
/// # Errors
/// As [`Tensors::load`] and [`Tensors::give_to`].
pub fn load<B: Backend>(backend: &B, net: &mut impl Module<B>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    Tensors::load(path)?.give_to(backend, net, &[], path)
}

/// The end of the name of a file that is being written.
pub(crate) const PART: &str = ".part";

/// Writes a file atomically: to a temporary file in the same folder, which is then renamed to `path`.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{PART}", std::process::id()));
    let part = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let written = write().and_then(|()| fs::rename(&part, path));
    written.map_err(|source| {
        // Removes the temporary file if possible. The first error is the one to report.
        let _ = fs::remove_file(&part);
        Error::io("write", path)(source)
    })
}

/// Permutes and converts a tensor between memory order (KRSC) and PyTorch's (OIHW): element `pair(krsc, oihw).0` of the
/// result is element `pair(krsc, oihw).1` of `values`, where `krsc` and `oihw` are the indices of one element in the
/// two orders. Below rank 4 the orders are the same.
fn reorder<A: Copy, B: Copy + Default>(
    shape: Shape,
    values: &[A],
    pair: impl Fn(usize, usize) -> (usize, usize),
    convert: impl Fn(A) -> B,
) -> Vec<B> {
    let &[k, c, r, s] = shape.dims() else {
        return values.iter().map(|&v| convert(v)).collect();
    };
    let mut out = vec![B::default(); values.len()];
    for krsc in 0..k * r * s * c {
        let (k, r, s, channel) = (krsc / (r * s * c), krsc / (s * c) % r, krsc / c % s, krsc % c);
        let oihw = ((k * c + channel) * shape.h() + r) * shape.w() + s;
        let (to, from) = pair(krsc, oihw);
        out[to] = convert(values[from]);
    }
    out
}
