//! Parameters as safetensors files, under PyTorch's names and in PyTorch's layouts (OIHW for weights).
//! `torch.nn.Sequential` loads them by `load_state_dict(safetensors.torch.load_file(path))`. Elements are f32 for every
//! backend.
//!
//! A file that this crate writes is sealed: its metadata has a SHA-256 of the contents, and a damaged file is refused.
//!
//! What `torch.save` wrote of a state dict (`.pt`, `.pth`) is read too. Its pickle is never executed: a reader of its
//! own knows dictionaries and tensors, and refuses everything else by name.

mod compare;
mod element;
mod file;
mod fit;
mod origin;
mod pytorch;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Backend;
use crate::device::Real;
use crate::nn::{Module, params_mut};
use crate::tape::Param;
use crate::{Error, Result, Shape};
pub use compare::Comparison;
pub use origin::{Format, Origin};

/// The contents of a weights file on the host: tensors by name, in PyTorch's layouts, and an optional note.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    tensors: BTreeMap<String, Tensor>,
    note: Option<String>,
    sealed: bool,
    origin: Origin,
}

/// A tensor in PyTorch's layout.
#[derive(Clone, Debug)]
struct Tensor {
    dims: Vec<usize>,
    values: Vec<f32>,
}

impl Tensors {
    /// Adds a tensor of shape `shape`; `values` are in memory order.
    ///
    /// # Errors
    /// [`Error::Config`] if there is a tensor of this name.
    fn push<T: Real>(&mut self, name: String, shape: Shape, values: &[T]) -> Result<()> {
        if self.tensors.contains_key(&name) {
            return Err(Error::config(
                "weights",
                format!("two tensors are named {name}; name one of them differently"),
            ));
        }
        let values = reorder(shape, values, |krsc, oihw| (oihw, krsc), |v| v.to_f64() as f32);
        self.tensors.insert(name, Tensor { dims: shape.dims().to_vec(), values });
        self.sealed = false;
        Ok(())
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensors by name: name, shape, and values in PyTorch's layout.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.tensors.iter().map(|(name, Tensor { dims, values })| (&**name, &dims[..], &values[..]))
    }

    /// The note: a text stored in the file's metadata.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Replaces the note.
    pub fn set_note(&mut self, note: String) {
        self.note = Some(note);
        self.sealed = false;
    }

    /// Whether these are the contents of a file that was sealed: it had a SHA-256 of its tensors and its note, and they
    /// match it. `false` for a file without one, as other programs write it, and after a change.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The file that these tensors were read from: its format, and the types that it has.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// The number of their values, in all.
    pub fn elements(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.values.len()).sum()
    }

    /// The parameters of a network, downloaded from the device.
    ///
    /// # Errors
    /// As the device ([`Device`](crate::device::Device)); [`Error::Config`] if two parameters have the same name.
    pub fn of<B: Backend>(backend: &B, net: &(impl Module<B> + ?Sized)) -> Result<Self> {
        let mut tensors = Tensors::default();
        for (name, param) in net.params() {
            tensors.push(name, param.shape(), &backend.download(param.data())?)?;
        }
        Ok(tensors)
    }

    /// Adds tensors beside a network's parameters, such as an optimiser's state. For each parameter that `buffer` gives
    /// a buffer for, of the parameter's shape and in memory order, it adds a tensor named `prefix` and the parameter's
    /// name.
    ///
    /// # Errors
    /// As [`Tensors::of`].
    pub fn push_beside<'a, B: Backend>(
        &mut self,
        backend: &B,
        net: &(impl Module<B> + ?Sized),
        prefix: &str,
        buffer: impl Fn(&Param<B>) -> Option<&'a B::Buf>,
    ) -> Result<()> {
        for (name, param) in net.params() {
            if let Some(buffer) = buffer(param) {
                self.push(format!("{prefix}{name}"), param.shape(), &backend.download(buffer)?)?;
            }
        }
        Ok(())
    }

    /// The tensors that [`Tensors::push_beside`] stored under `prefix`: the parameters' names, and values in memory
    /// order. Empty if no parameter has one.
    ///
    /// # Errors
    /// [`Error::Weights`] for `path` if only some parameters have a tensor, a tensor's shape is not its parameter's, or
    /// a tensor holds a NaN or an infinity.
    pub fn beside<B: Backend>(
        &self,
        net: &(impl Module<B> + ?Sized),
        prefix: &str,
        path: &Path,
    ) -> Result<Vec<(String, Vec<B::Scalar>)>> {
        let params = shapes(net);
        if !params.iter().any(|(name, _)| self.tensors.contains_key(&format!("{prefix}{name}"))) {
            return Ok(Vec::new());
        }
        let found = self.fitting(&params, prefix).map_err(Error::weights(path))?;
        let values = found.into_iter().zip(&params).map(|(tensor, (_, shape))| tensor.in_memory_order(*shape));
        Ok(params.iter().map(|(name, _)| name.clone()).zip(values).collect())
    }

    /// Sets a network's parameters to these tensors, read from `path`. Nothing changes if a tensor does not fit.
    ///
    /// If all tensors' names are the parameters' names after one common prefix, as `module.` of PyTorch's
    /// `DataParallel`, `_orig_mod.` of `torch.compile` or `model.`, the prefix is stripped. Only a file of weights
    /// alone, `beside` being empty, may have one.
    ///
    /// # Errors
    /// [`Error::Weights`] if a parameter's tensor is missing, or a tensor has no parameter and none of the prefixes
    /// `beside`; if a tensor has another shape than its parameter, or holds a NaN or an infinity.
    /// [`Error::ParameterInUse`] while a variable of some tape shares a parameter's data. As [`params_mut`].
    pub fn give_to<B: Backend>(
        &self,
        backend: &B,
        net: &mut (impl Module<B> + ?Sized),
        beside: &[String],
        path: &Path,
    ) -> Result<()> {
        let params = shapes(net);
        let prefix = self.prefix(&params, beside).map_err(Error::weights(path))?;
        self.give(backend, net, &params, &prefix, path)
    }

    /// [`Tensors::give_to`] for a network with another number of classes: its last layers, whose shapes differ from
    /// these tensors' in the classes alone, keep their values. Returns the names of their parameters; none if all
    /// shapes fit.
    ///
    /// # Errors
    /// As [`Tensors::give_to`], also for a shape that differs in anything else.
    pub fn give_body_to<B: Backend>(
        &self,
        backend: &B,
        net: &mut (impl Module<B> + ?Sized),
        path: &Path,
    ) -> Result<Vec<String>> {
        let mut params = shapes(net);
        let prefix = self.prefix(&params, &[]).map_err(Error::weights(path))?;
        let head = self.compare(&*net).head;
        params.retain(|(name, _)| !head.contains(name));
        self.give(backend, net, &params, &prefix, path)?;
        Ok(head)
    }

    /// Sets some of a network's parameters, `params`, to the tensors that `prefix` and their names name.
    fn give<B: Backend>(
        &self,
        backend: &B,
        net: &mut (impl Module<B> + ?Sized),
        params: &[(String, Shape)],
        prefix: &str,
        path: &Path,
    ) -> Result<()> {
        let found = self.fitting(params, prefix).map_err(Error::weights(path))?;
        let wanted = |name: &str| params.iter().any(|(param, _)| param == name);
        for (name, param) in params_mut(net)? {
            if wanted(&name) && param.data_mut().is_none() {
                return Err(Error::ParameterInUse { op: "weights", name });
            }
        }
        let taking = params_mut(net)?.into_iter().filter(|(name, _)| wanted(name));
        for ((_, param), tensor) in taking.zip(found) {
            param.set(backend, &tensor.in_memory_order::<B::Scalar>(param.shape()))?;
        }
        Ok(())
    }

    /// Writes the file atomically: to a temporary file in the same folder, which is then renamed. Equal contents make
    /// equal files.
    ///
    /// The metadata has `format` `pt`, which other loaders ask for, the note as `mlpconv`, and as `mlpconv.sha256` the
    /// SHA-256 of the tensors and the note.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::Weights`] if the format cannot hold the tensors.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.to_bytes(path)?)
    }

    /// Reads a file: safetensors, or what `torch.save` wrote of a state dict, by its first bytes. Elements of type F16
    /// and BF16 are widened to f32, those of F64 are rounded to the nearest f32.
    ///
    /// A state dict may lie one level down, under `state_dict`, `model`, `model_state_dict` or `net`, beside other
    /// entries, which are not looked at: [`Origin::wrapper`] says which it was. A pickle is never executed.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Weights`] if it is neither, or damaged, has a tensor of
    /// another type, or a SHA-256 that its contents do not match. [`Error::Weights`] for a pickle that asks for
    /// anything but dictionaries and tensors, with the name of it, and for a format older than PyTorch 1.6.
    pub fn load(path: &Path) -> Result<Self> {
        let mut file = fs::File::open(path).map_err(Error::io("read", path))?;
        let mut first = Vec::new();
        (&mut file).take(pytorch::FIRST).read_to_end(&mut first).map_err(Error::io("read", path))?;
        match pytorch::is_pytorch(&first) {
            true => Self::read_pytorch(path, &first, file),
            false => Self::read_safetensors(path, &first, file),
        }
    }
}

/// The names and shapes of a network's parameters.
fn shapes<B: Backend>(net: &(impl Module<B> + ?Sized)) -> Vec<(String, Shape)> {
    net.params().into_iter().map(|(name, param)| (name, param.shape())).collect()
}

impl Tensor {
    /// The values in memory order. `shape` is the tensor's.
    fn in_memory_order<T: Real>(&self, shape: Shape) -> Vec<T> {
        reorder(shape, &self.values, |krsc, oihw| (krsc, oihw), |v| T::from_f64(f64::from(v)))
    }
}

/// Saves a network's parameters as a safetensors file.
///
/// # Errors
/// As [`Tensors::of`] and [`Tensors::save`].
pub fn save<B: Backend>(backend: &B, net: &(impl Module<B> + ?Sized), path: impl AsRef<Path>) -> Result<()> {
    Tensors::of(backend, net)?.save(path.as_ref())
}

/// Loads a network's parameters from a file that [`save`] or PyTorch wrote for the same network, safetensors or `.pt`.
/// Nothing changes if a tensor does not fit.
///
/// # Errors
/// As [`Tensors::load`] and [`Tensors::give_to`].
pub fn load<B: Backend>(backend: &B, net: &mut (impl Module<B> + ?Sized), path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    Tensors::load(path)?.give_to(backend, net, &[], path)
}

/// The end of the name of a temporary file.
const PART: &str = ".part";

/// Whether `name` is that of a temporary file by which [`write_whole`], in any process, writes the file named `file`:
/// `FILE.PROCESS.NUMBER.part`, or `FILE.PROCESS.part` of older versions.
pub(crate) fn is_part_of(name: &str, file: &str) -> bool {
    let process = name.strip_prefix(file).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(PART));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    process.is_some_and(|process| process.splitn(2, '.').all(is_number))
}

/// Writes a file atomically and durably: to a temporary file in the same folder, which is then renamed to `path`. File
/// and folder are flushed to the disk, so that neither the contents nor the rename is lost in a power cut.
///
/// # Errors
/// [`Error::Io`] that names `path`, which is then as it was before; [`Error::Output`] where a pipe or a device is, which a
/// rename would replace.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole_by(path.file_name().unwrap_or_default(), path, bytes)
}

/// As [`write_whole`], by a temporary file that is named as if the file named `stem` were written.
pub(crate) fn write_whole_by(stem: &OsStr, path: &Path, bytes: &[u8]) -> Result<()> {
    if is_special(path) {
        let problem = "is a pipe or a device, which a file would replace; name a file".into();
        return Err(Error::Output { path: path.into(), problem });
    }
    // Threads that write the same file do not write the same part of it.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut name = stem.to_owned();
    name.push(format!(".{}.{}{PART}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    let part = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let written = write().and_then(|()| fs::rename(&part, path));
    // Removes the temporary file if possible. The first error is the one to report.
    let written = written.inspect_err(|_| drop(fs::remove_file(&part)));
    written.and_then(|()| sync_folder(path)).map_err(Error::io("write", path))
}

/// Whether a pipe or a device is at `path`, or behind a link there. `/dev/stdout` is one whatever it leads to: it is a link
/// into `/proc`. A folder is not: no rename replaces it by a file.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
        || fs::read_link(path).is_ok_and(|target| target.starts_with("/proc"))
}

/// Flushes the folder of `path`, which holds the names of its files. Only Unix opens folders as files.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        // A folder may be writable and not readable, and some network filesystems flush files alone.
        Err(e)
            if [io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported]
                .contains(&e.kind()) =>
        {
            Ok(())
        }
        flushed => flushed,
    }
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

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_no_file_is_not_replaced_by_one() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        symlink(at("pipe"), at("link")).unwrap();
        symlink("/proc/self/fd/1", at("stdout")).unwrap();
        for name in ["pipe", "link", "stdout"] {
            let error = write_whole(&at(name), b"page").unwrap_err().to_string();
            let says = format!("{name}: is a pipe or a device, which a file would replace; name a file");
            assert!(error.ends_with(&says), "{error}");
        }
        assert!(fs::metadata(at("link")).unwrap().file_type().is_fifo());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3, "a part is left");
    }
}
