//! The kernels in this build: PTX by module, precision and architecture, handed to the driver when a kernel is first launched.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, c_char, c_void};
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUfunction, CUfunction_attribute, CUjit_option, CUmodule, CUresult};
use flate2::read::DeflateDecoder;

use super::{Architecture, CudaError, Precision, driver};
use crate::error::describe;
use crate::{Error, Result};

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Why the kernels are not in this build; `None` if they are.
pub fn missing() -> Option<&'static str> {
    MISSING
}

/// One kernel file as `build.rs` compiled it.
#[derive(Clone, Copy, Debug)]
pub struct Ptx {
    /// The file's name without its extension.
    pub module: &'static str,
    pub precision: Precision,
    pub architecture: Architecture,
    /// The PTX, by DEFLATE.
    deflated: &'static [u8],
}

impl Ptx {
    /// The text, which this unpacks.
    ///
    /// # Errors
    /// [`CudaError::Module`] if it cannot be unpacked: the program's file is damaged.
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        let read = DeflateDecoder::new(self.deflated).read_to_string(&mut text);
        read.map(|_| text).map_err(|_| self.damaged())
    }

    fn damaged(&self) -> Error {
        let log = "its PTX in this build is damaged; build again".into();
        CudaError::Module { module: self.module, log }.into()
    }
}

/// The PTX of every module at one precision, of all architectures.
pub fn ptx(precision: Precision) -> impl Iterator<Item = Ptx> {
    PTX.iter().filter(move |unit| unit.precision == precision).copied()
}

/// The units of `module` that a GPU of compute capability `capability` runs, the one that it prefers first: that of its own
/// specific architecture, then the others from the newest to the portable one.
fn candidates(units: impl Iterator<Item = Ptx>, module: &str, capability: (u32, u32)) -> Vec<Ptx> {
    let mut fitting: Vec<Ptx> =
        units.filter(|unit| unit.module == module && unit.architecture.runs_on(capability)).collect();
    fitting.sort_by_key(|unit| Reverse(unit.architecture));
    fitting
}

/// The dynamic shared memory of a function that needs no attribute, in bytes.
const SHARED_BY_DEFAULT: usize = 48 << 10;

/// Functions that have been looked up, and the modules that hold them.
pub(super) struct Kernels {
    context: Arc<CudaContext>,
    precision: Precision,
    capability: (u32, u32),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    modules: HashMap<(&'static str, Architecture), Module>,
    functions: HashMap<(&'static str, String), Function>,
}

/// A module's handle. Any thread may use it: the driver is thread-safe.
struct Module(CUmodule);
unsafe impl Send for Module {}

#[derive(Clone, Copy)]
struct Function {
    handle: CUfunction,
    /// The most dynamic shared memory that a launch may have, in bytes.
    shared: usize,
}
unsafe impl Send for Function {}

impl Kernels {
    /// # Errors
    /// [`CudaError::KernelsNotBuilt`] in a build without them.
    pub(super) fn new(context: &Arc<CudaContext>, precision: Precision, capability: (u32, u32)) -> Result<Self> {
        if let Some(why) = MISSING {
            return Err(CudaError::KernelsNotBuilt { why }.into());
        }
        Ok(Kernels { context: context.clone(), precision, capability, state: Mutex::default() })
    }

    /// Function `kernel` of module `module`, allowed `shared` bytes of dynamic shared memory.
    pub(super) fn function(&self, module: &'static str, kernel: &str, shared: usize) -> Result<CUfunction> {
        // A panic leaves the maps whole: entries are added when they are complete.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (module, kernel.to_owned());
        let mut function = match state.functions.get(&key) {
            Some(&function) => function,
            None => Function { handle: self.look_up(&mut state, module, kernel)?, shared: SHARED_BY_DEFAULT },
        };
        if shared > function.shared {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = i32::try_from(shared).unwrap_or(i32::MAX);
            // SAFETY: the function is of a module that stays loaded.
            unsafe { result::function::set_function_attribute(function.handle, attribute, bytes) }
                .map_err(CudaError::driver("cuFuncSetAttribute (dynamic shared memory)"))?;
            function.shared = shared;
        }
        state.functions.insert(key, function);
        Ok(function.handle)
    }

    /// The function of the best architecture that has it.
    fn look_up(&self, state: &mut State, module: &'static str, kernel: &str) -> Result<CUfunction> {
        let units = candidates(ptx(self.precision), module, self.capability);
        if units.is_empty() {
            let (major, minor) = self.capability;
            let log = format!("this build has no PTX of it for compute capability {major}.{minor}");
            return Err(CudaError::Module { module, log }.into());
        }
        let name = CString::new(kernel).unwrap_or_default();
        for unit in units {
            let loaded = match state.modules.entry((module, unit.architecture)) {
                Entry::Occupied(loaded) => loaded.into_mut(),
                Entry::Vacant(free) => free.insert(Module(load(unit)?)),
            };
            // SAFETY: the module has been loaded.
            match unsafe { result::module::get_function(loaded.0, name.clone()) } {
                Ok(function) => return Ok(function),
                Err(DriverError(CUresult::CUDA_ERROR_NOT_FOUND)) => {}
                // The failure of earlier work may surface here.
                Err(error) => return Err(CudaError::driver("cuModuleGetFunction")(error)),
            }
        }
        Err(CudaError::NoKernel { module, kernel: kernel.to_owned() }.into())
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_err() {
            return;
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, module) in state.modules.drain() {
            // SAFETY: nobody launches its functions any more. A failed context has unloaded it already.
            let _ = unsafe { result::module::unload(module.0) };
        }
    }
}

/// Loads PTX. The driver compiles it for its GPU, and caches the result between programs.
fn load(ptx: Ptx) -> Result<CUmodule> {
    let (text, module) = (ptx.text()?, ptx.module);
    let image = CString::new(text.as_str()).map_err(|_| ptx.damaged())?;
    let mut log = vec![0u8; 4096];
    let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // An option's value is passed in place of a pointer.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut handle = std::ptr::null_mut();
    // SAFETY: a context is bound (the caller allocated something before), the image ends in NUL, the log outlives the call.
    let loaded = unsafe {
        let count = options.len() as u32;
        let image = image.as_ptr().cast::<c_char>().cast::<c_void>();
        sys::cuModuleLoadDataEx(&mut handle, image, count, options.as_mut_ptr(), values.as_mut_ptr())
    };
    match loaded.result() {
        Ok(()) => Ok(handle),
        Err(DriverError(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION)) => {
            let isa = text.lines().find_map(|line| line.strip_prefix(".version ")).unwrap_or("?");
            let driver = driver::driver_version().unwrap_or_default();
            Err(CudaError::DriverTooOld { driver, isa: isa.trim().into() }.into())
        }
        Err(error) => {
            let said = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
            let log = if said.is_empty() { describe(error) } else { format!("{}\n{said}", describe(error)) };
            Err(CudaError::Module { module, log }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(names: &[&str]) -> Vec<Ptx> {
        let unit = |module, name: &str| {
            let architecture = Architecture::from_name(name).expect("an architecture");
            Ptx { module, precision: Precision::Bf16, architecture, deflated: &[] }
        };
        names.iter().flat_map(|name| [unit("conv2d", name), unit("other", name)]).collect()
    }

    fn chosen(names: &[&str], capability: (u32, u32)) -> Vec<String> {
        let chosen = candidates(compiled(names).into_iter(), "conv2d", capability);
        assert!(chosen.iter().all(|unit| unit.module == "conv2d"));
        chosen.iter().map(|unit| unit.architecture.to_string()).collect()
    }

    #[test]
    fn damaged_ptx_is_told() {
        for unit in PTX {
            let text = unit.text().unwrap();
            assert!(text.contains(".version ") && text.len() > unit.deflated.len(), "{}", unit.module);
            let cut = Ptx { deflated: &unit.deflated[..unit.deflated.len() / 2], ..*unit };
            assert!(cut.text().unwrap_err().to_string().contains("build again"));
        }
    }

    #[test]
    fn the_best_architecture_that_a_gpu_runs_is_chosen() {
        let all = ["80", "90a", "86", "90", "100a"];
        for (capability, wanted) in [
            ((7, 5), &[][..]),
            ((8, 0), &["80"]),
            ((8, 9), &["86", "80"]),
            ((9, 0), &["90a", "90", "86", "80"]),
            ((10, 0), &["100a", "90", "86", "80"]),
            ((12, 0), &["90", "86", "80"]),
        ] {
            assert_eq!(chosen(&all, capability), wanted, "{capability:?}");
        }
    }

    #[test]
    fn a_module_of_one_architecture_alone_is_absent_elsewhere() {
        assert_eq!(chosen(&["90a"], (9, 0)), ["90a"]);
        assert_eq!(chosen(&["90a"], (8, 0)), [""; 0]);
        assert_eq!(chosen(&["90a"], (10, 0)), [""; 0]);
    }
}
