//! The kernels in this build: PTX by op and precision, handed to the driver when an op first runs.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUfunction, CUfunction_attribute, CUjit_option, CUmodule, CUresult};

use super::{CudaError, Precision, driver};
use crate::Result;
use crate::error::describe;

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Why the kernels are not in this build; `None` if they are.
pub fn missing() -> Option<&'static str> {
    MISSING
}

/// The PTX of every op at one precision, as `build.rs` compiled it: names and texts.
pub fn ptx(precision: Precision) -> impl Iterator<Item = (&'static str, &'static str)> {
    PTX.iter().filter(move |(_, of, _)| *of == precision as u32).map(|&(module, _, text)| (module, text))
}

/// Dynamic shared memory beyond this must be asked for.
const SHARED_BY_DEFAULT: usize = 48 << 10;

/// Functions that have been looked up, and the modules that hold them.
pub(super) struct Kernels {
    context: Arc<CudaContext>,
    precision: Precision,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    modules: HashMap<&'static str, Module>,
    functions: HashMap<(&'static str, String), Function>,
}

/// A handle that any thread may use: the driver locks for itself.
struct Module(CUmodule);
unsafe impl Send for Module {}

#[derive(Clone, Copy)]
struct Function {
    handle: CUfunction,
    /// The dynamic shared memory that it was allowed.
    shared: usize,
}
unsafe impl Send for Function {}

impl Kernels {
    /// # Errors
    /// [`CudaError::KernelsNotBuilt`] in a build without them.
    pub(super) fn new(context: &Arc<CudaContext>, precision: Precision) -> Result<Self> {
        if let Some(why) = MISSING {
            return Err(CudaError::KernelsNotBuilt { why }.into());
        }
        Ok(Kernels { context: context.clone(), precision, state: Mutex::default() })
    }

    /// Function `kernel` of module `module`, allowed `shared` bytes of dynamic shared memory.
    pub(super) fn function(&self, module: &'static str, kernel: &str, shared: usize) -> Result<CUfunction> {
        // What a panic may have left is whole: entries are added when they are complete.
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

    fn look_up(&self, state: &mut State, module: &'static str, kernel: &str) -> Result<CUfunction> {
        if !state.modules.contains_key(module) {
            state.modules.insert(module, Module(load(module, self.precision)?));
        }
        let name = CString::new(kernel).unwrap_or_default();
        // SAFETY: the module has been loaded.
        let found = unsafe { result::module::get_function(state.modules[module].0, name) };
        found.map_err(|_| CudaError::NoKernel { module, kernel: kernel.to_owned() }.into())
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

/// Hands a module's PTX to the driver, which compiles it for its GPU (and remembers that between programs).
fn load(module: &'static str, precision: Precision) -> Result<CUmodule> {
    let text = ptx(precision).find(|(name, _)| *name == module).map(|(_, text)| text);
    let absent = || CudaError::Module { module, log: "it is not in this build".into() };
    let image = CString::new(text.ok_or_else(absent)?).map_err(|_| absent())?;
    let mut log = vec![0u8; 4096];
    let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // An option's value is itself where a pointer would be.
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
            let isa = text.and_then(|text| text.lines().find_map(|line| line.strip_prefix(".version "))).unwrap_or("?");
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
