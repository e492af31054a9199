//! Parameters as safetensors files, under PyTorch's names and in PyTorch's layouts (OIHW for weights), so that
//! `torch.nn.Sequential.load_state_dict` takes what `safetensors.torch.load_file` reads. Numbers are f32, whatever the
//! backend's.

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

/// Tensors by name, on the host, in PyTorch's layouts, with one text about them all: a safetensors file.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    note: Option<String>,
}

/// The metadata entry that holds [`Tensors::note`]. There is only one, so that equal contents give equal files.
const NOTE: &str = "mlpconv";

impl Tensors {
    /// Adds a tensor of shape `shape` that lies in `values` in memory order.
    fn push<T: Real>(&mut self, name: String, shape: Shape, values: &[T]) {
        let values = reorder(shape, values, |krsc, oihw| (oihw, krsc), |v| v.to_f64() as f32);
        self.tensors.push((name, shape.dims().to_vec(), values));
    }

    /// The values of tensor `name`, in memory order.
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

    /// A text stored beside the tensors.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    pub fn set_note(&mut self, note: String) {
        self.note = Some(note);
    }

    /// The parameters of a network.
    pub fn of<B: Backend>(backend: &B, net: &impl Module<B>) -> Result<Self> {
        let mut tensors = Tensors::default();
        for (name, param) in net.params() {
            tensors.push(name, param.shape(), &backend.download(param.data())?);
        }
        Ok(tensors)
    }

    /// Adds a buffer for each of a network's parameters that `buffer` has one for, under `prefix` and the parameter's name.
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

    /// What [`Tensors::push_beside`] stored, by the parameters' names, in memory order; nothing if it stored nothing.
    ///
    /// # Errors
    /// [`Error::Weights`] if one does not fit its parameter, or some parameters have one and others have none.
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

    /// Gives a network the parameters in this file, read from `path`. Either all of them change or none.
    ///
    /// # Errors
    /// [`Error::Weights`] if a parameter is missing, one has another shape, or there is a tensor (other than those
    /// under one of the prefixes `beside`) that the network does not have; [`Error::ParameterInUse`] while a variable of
    /// some tape shares a parameter's data.
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

    /// Writes the file whole or not at all: to a temporary file beside it, then by renaming.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses; [`Error::Weights`] where the format cannot hold the tensors.
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
    /// [`Error::Io`] where it cannot be read; [`Error::Weights`] where it is not safetensors or holds something other
    /// than f32.
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

/// Loads what [`save`] wrote, or PyTorch for the same network. Either all parameters change or none.
///
/// # Errors
/// As [`Tensors::load`] and [`Tensors::give_to`].
pub fn load<B: Backend>(backend: &B, net: &mut impl Module<B>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    Tensors::load(path)?.give_to(backend, net, &[], path)
}

/// Writes `bytes` to a temporary file beside `path`, then renames it, so that no one ever sees half a file.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let written = write().and_then(|()| fs::rename(&part, path));
    written.map_err(|source| {
        // The error is what counts; what is left of the attempt goes if it can.
        let _ = fs::remove_file(&part);
        Error::io("write", path)(source)
    })
}

/// `values` in another order: element `pair(krsc, oihw).0` of the result is element `pair(krsc, oihw).1` of `values`. A
/// tensor below rank 4 has only one order.
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
