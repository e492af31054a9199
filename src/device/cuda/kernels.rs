//! Which image of the kernels a GPU gets. The driver is handed a module's when one of its kernels is first launched.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUfunction, CUfunction_attribute as Attribute, CUjit_option, CUmodule, CUresult};

use super::image::{Unit, missing, units};
use super::{Architecture, CudaError, Precision, driver};
use crate::Result;
use crate::error::describe;

/// The units of `module` with kernels for `precision` that a GPU of compute capability `capability` runs, the one that it prefers
/// first: that of its own specific architecture, then the others from the newest to the portable one.
fn candidates(
    units: impl Iterator<Item = Unit>,
    module: &str,
    precision: Precision,
    capability: (u32, u32),
) -> Vec<Unit> {
    let of_module = units.filter(|unit| unit.module == module && unit.precisions.contains(&precision));
    let mut fitting: Vec<Unit> = of_module.filter(|unit| unit.architecture.runs_on(capability)).collect();
    fitting.sort_by_key(|unit| Reverse(unit.architecture));
    fitting
}

/// What a driver made a module of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Machine code for this architecture.
    Code(Architecture),
    /// PTX for this architecture, which the driver has compiled for its GPU; it caches the result between programs.
    Ptx(Architecture),
}

/// The dynamic shared memory of a function that needs no attribute, in bytes.
const SHARED_BY_DEFAULT: usize = 48 << 10;

/// Dynamic shared memory of a function, in bytes, above which all of the first-level cache that can be is asked to be shared memory: it
/// keeps its data there, and as many of its blocks as fit shall run at once. With less it may read through the cache.
const SHARED_BY_CHOICE: usize = 32 << 10;

/// Functions that have been looked up, and the modules that hold them.
pub(super) struct Kernels {
    context: Arc<CudaContext>,
    precision: Precision,
    capability: (u32, u32),
    /// Those of newer architectures are left out.
    portable: bool,
    /// There are convolutions for warpgroups: of `kernels/sm_90a/conv2d.cu`, which an nvcc before 12.0 cannot compile.
    pub(super) warpgroups: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    modules: HashMap<(&'static str, Architecture), Module>,
    /// The driver has refused machine code, and taken the PTX.
    refuses_code: bool,
    functions: HashMap<(&'static str, String), Function>,
}

/// A module's handle. Any thread may use it: the driver is thread-safe.
struct Module {
    handle: CUmodule,
    image: Image,
}
unsafe impl Send for Module {}

#[derive(Clone, Copy)]
struct Function {
    handle: CUfunction,
    /// The most dynamic shared memory that it was asked for with, in bytes.
    shared: usize,
}
unsafe impl Send for Function {}

impl Function {
    fn set(self, attribute: Attribute, value: i32) -> std::result::Result<(), DriverError> {
        // SAFETY: the function is of a module that stays loaded.
        unsafe { result::function::set_function_attribute(self.handle, attribute, value) }
    }
}

impl Kernels {
    /// # Errors
    /// [`CudaError::KernelsNotBuilt`] in a build without them.
    pub(super) fn new(
        context: &Arc<CudaContext>,
        precision: Precision,
        capability: (u32, u32),
        portable: bool,
    ) -> Result<Self> {
        if let Some(why) = missing() {
            return Err(CudaError::KernelsNotBuilt { why }.into());
        }
        let context = context.clone();
        let mut kernels =
            Kernels { context, precision, capability, portable, warpgroups: false, state: Mutex::default() };
        kernels.warpgroups = kernels.candidates("conv2d").iter().any(|unit| unit.architecture.specific);
        Ok(kernels)
    }

    /// Function `kernel` of module `module`, allowed `shared` bytes of dynamic shared memory.
    pub(super) fn function(&self, module: &'static str, kernel: &str, shared: usize) -> Result<CUfunction> {
        // A panic leaves the maps whole: entries are added when they are complete.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (module, kernel.to_owned());
        let mut function = match state.functions.get(&key) {
            Some(&function) => function,
            None => Function { handle: self.look_up(&mut state, module, kernel)?, shared: 0 },
        };
        if shared > function.shared {
            if shared > SHARED_BY_CHOICE {
                // A wish: a driver that does not grant it runs the function all the same.
                let _ = function.set(Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100);
            }
            if shared > SHARED_BY_DEFAULT {
                let bytes = i32::try_from(shared).unwrap_or(i32::MAX);
                function
                    .set(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes)
                    .map_err(CudaError::driver("cuFuncSetAttribute (dynamic shared memory)"))?;
            }
            function.shared = shared;
        }
        state.functions.insert(key, function);
        Ok(function.handle)
    }

    fn candidates(&self, module: &str) -> Vec<Unit> {
        let chosen = candidates(units(), module, self.precision, self.capability);
        chosen.into_iter().filter(|unit| !self.portable || unit.architecture == Architecture::PORTABLE).collect()
    }

    /// What a module was made of, that of its best architecture; `None` if it is not loaded.
    pub(super) fn image(&self, module: &str) -> Option<Image> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let of_module = state.modules.iter().filter(|((name, _), _)| *name == module);
        of_module.max_by_key(|((_, architecture), _)| *architecture).map(|(_, module)| module.image)
    }

    /// The function of the best architecture that has it.
    fn look_up(&self, state: &mut State, module: &'static str, kernel: &str) -> Result<CUfunction> {
        let units = self.candidates(module);
        if units.is_empty() {
            let (major, minor) = self.capability;
            let log = format!("this build has no PTX of it for compute capability {major}.{minor}");
            return Err(CudaError::Module { module, log }.into());
        }
        let name = CString::new(kernel).unwrap_or_default();
        for unit in units {
            let loaded = match state.modules.entry((module, unit.architecture)) {
                Entry::Occupied(loaded) => loaded.into_mut(),
                Entry::Vacant(free) => {
                    free.insert(load(unit, self.precision, self.capability, &mut state.refuses_code)?)
                }
            };
            // SAFETY: the module has been loaded.
            match unsafe { result::module::get_function(loaded.handle, name.clone()) } {
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
            let _ = unsafe { result::module::unload(module.handle) };
        }
    }
}

/// Loads a unit: its machine code where there is some and the driver takes it, else its PTX. A driver of CUDA 12 refuses the
/// machine code of nvcc 13, and so does the virtual GPU.
fn load(unit: Unit, precision: Precision, capability: (u32, u32), refuses_code: &mut bool) -> Result<Module> {
    let code = if *refuses_code { None } else { unit.code(precision, capability)? };
    let refused = match code.map(|(machine, code)| (machine, load_image(&code))) {
        Some((machine, Ok(handle))) => return Ok(Module { handle, image: Image::Code(machine) }),
        // Whatever else is wrong, the PTX meets it as well, and the error tells it.
        Some((_, Err(_))) => true,
        None => false,
    };
    let module = load_ptx(unit, precision)?;
    *refuses_code |= refused;
    Ok(module)
}

fn load_ptx(unit: Unit, precision: Precision) -> Result<Module> {
    let (text, module) = (unit.ptx(precision)?, unit.module);
    let image = CString::new(text.as_str()).map_err(|_| unit.damaged())?;
    match load_image(image.as_bytes_with_nul()) {
        Ok(handle) => Ok(Module { handle, image: Image::Ptx(unit.architecture) }),
        Err((DriverError(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION), _)) => {
            let isa = text.lines().find_map(|line| line.strip_prefix(".version ")).unwrap_or("?");
            let driver = driver::driver_version().unwrap_or_default();
            Err(CudaError::DriverTooOld { driver, isa: isa.trim().into() }.into())
        }
        Err((error, said)) => {
            let log = if said.is_empty() { describe(error) } else { format!("{}\n{said}", describe(error)) };
            Err(CudaError::Module { module, log }.into())
        }
    }
}

/// Loads machine code, or PTX that ends in NUL; with the error comes what the driver says of it.
fn load_image(image: &[u8]) -> std::result::Result<CUmodule, (DriverError, String)> {
    let mut log = vec![0u8; 4096];
    let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // An option's value is passed in place of a pointer.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut handle = std::ptr::null_mut();
    // SAFETY: a context is bound (the caller allocated something before), the image is whole, the log outlives the call.
    let loaded = unsafe {
        let count = options.len() as u32;
        let image = image.as_ptr().cast::<c_void>();
        sys::cuModuleLoadDataEx(&mut handle, image, count, options.as_mut_ptr(), values.as_mut_ptr())
    };
    let said = || String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
    loaded.result().map(|()| handle).map_err(|error| (error, said()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(names: &[&str]) -> Vec<Unit> {
        let unit = |module, name: &str| Unit::empty(module, Architecture::from_name(name).expect("an architecture"));
        names.iter().flat_map(|name| [unit("conv2d", name), unit("other", name)]).collect()
    }

    fn chosen(names: &[&str], capability: (u32, u32)) -> Vec<String> {
        let chosen = candidates(compiled(names).into_iter(), "conv2d", Precision::Bf16, capability);
        assert!(chosen.iter().all(|unit| unit.module == "conv2d"));
        chosen.iter().map(|unit| unit.architecture.to_string()).collect()
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
