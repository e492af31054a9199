//! GPUs for tests: the virtual GPU, which cargo has built with the tests, or with `MLPCONV_TESTS=real` the machine's
//! GPU.

// Each test binary uses only a part of this module.
#![allow(dead_code)]

use std::env;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use mlpconv::device::cuda::missing;
use mlpconv::{Cuda, Precision};

use crate::required;

/// The backend of a precision, locked for one test, so that its memory figures are that test's alone.
pub struct Gpu {
    backend: &'static Cuda,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for Gpu {
    type Target = Cuda;

    fn deref(&self) -> &Cuda {
        self.backend
    }
}

/// The backend of this precision, one for the whole process; `None` in a build without kernels, with a note on standard
/// error.
///
/// # Panics
/// As [`required::skip_kernels`] if there are no kernels.
pub fn gpu(precision: Precision) -> Option<Gpu> {
    static BACKENDS: [(OnceLock<Cuda>, Mutex<()>); 3] = [const { (OnceLock::new(), Mutex::new(())) }; 3];
    if let Some(why) = missing() {
        required::skip_kernels(&format!("there are no kernels to be tested: {why}"));
        return None;
    }
    start();
    let (backend, alone) = &BACKENDS[precision as usize];
    let alone = alone.lock().unwrap_or_else(PoisonError::into_inner);
    let backend = backend.get_or_init(|| Cuda::new(0, precision).expect("a GPU"));
    Some(Gpu { backend, _alone: alone })
}

/// Whether the tests run on a card, which does not trap the errors that the virtual GPU traps.
pub fn real() -> bool {
    env::var("MLPCONV_TESTS").is_ok_and(|gpu| gpu == "real")
}

/// Loads the virtual GPU before cudarc looks up the driver. Its SONAME is libcuda.so, so the lookup finds it in memory.
fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        if real() {
            return;
        }
        // SAFETY: the library runs no code when it is loaded.
        let library = unsafe { Library::open(Some(library("libvirtual_gpu.so")), RTLD_NOW | RTLD_GLOBAL) };
        // Never unloaded.
        std::mem::forget(library.expect("the virtual GPU's library can be loaded"));
    });
}

/// Refuses memory of the virtual GPU to the calling thread: see `virtual-gpu/src/driver/refusal.rs`.
pub fn refuse_memory(granted: u64, refused: u64) -> u64 {
    start();
    // SAFETY: the library is loaded for good, and its function has this type.
    unsafe {
        let refuse = Library::this().get::<extern "C" fn(u64, u64) -> u64>(b"virtual_gpu_refuse_memory\0");
        refuse.expect("the virtual GPU has it")(granted, refused)
    }
}

/// The library of this name that cargo has built in this test's target folder.
pub fn library(name: &str) -> PathBuf {
    let here = env::current_exe().unwrap();
    let deps = here.parent().unwrap();
    let found = [deps, deps.parent().unwrap()].map(|folder| folder.join(name));
    found.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("cargo builds {name} with the tests"))
}
