//! NCCL through a table of its functions, loaded at run time: a program that trains on one GPU needs no NCCL.
//!
//! Source: `nccl.h` of NCCL 2.18 and later.

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use libloading::Library;

use super::CudaError;
use crate::Result;

/// The variable that names the library's file, for one that lies where the system does not look.
pub const VARIABLE: &str = "MLPCONV_NCCL";

/// The names by which the system is asked: Debian's package and PyTorch's wheels have the first.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// NCCL 2.18: the configuration of a communicator has the fields of [`Config`] then.
const OLDEST: c_int = 21800;

/// The time that ranks may take to end a communicator together.
const FAREWELL: Duration = Duration::from_secs(5);

/// `ncclUniqueId`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct UniqueId(pub(super) [u8; 128]);

/// `ncclComm_t`.
pub(super) type Comm = *mut c_void;

/// `ncclResult_t`: 0 is success, 7 that a call which does not block is still under way.
type Answer = c_int;

const SUCCESS: Answer = 0;
const IN_PROGRESS: Answer = 7;

/// `ncclFloat32` and `ncclSum`.
const FLOAT32: c_int = 7;
const SUM: c_int = 0;

/// `ncclConfig_t` as NCCL 2.18 has it; later versions read as much as `size` says.
#[repr(C)]
struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    split_share: c_int,
}

/// `NCCL_CONFIG_UNDEF_INT`: the library chooses.
const UNDEFINED: c_int = c_int::MIN;

impl Config {
    /// A communicator whose calls do not block, so that one that waits for a lost rank can be aborted.
    const NONBLOCKING: Config = Config {
        size: size_of::<Config>(),
        magic: 0xcafe_beef,
        version: OLDEST as c_uint,
        blocking: 0,
        cga_cluster_size: UNDEFINED,
        min_ctas: UNDEFINED,
        max_ctas: UNDEFINED,
        net_name: ptr::null(),
        split_share: UNDEFINED,
    };
}

/// One list of functions, of which the table, its loading and the list of names are made.
macro_rules! table {
    ($($field:ident = $name:literal: fn($($argument:ty),*) -> $result:ty;)*) => {
        /// NCCL's functions, as far as they are called.
        struct Table {
            $($field: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        /// The names of the functions that are called.
        pub const FUNCTIONS: &[&str] = &[$($name),*];

        impl Table {
            fn of(library: &Library) -> std::result::Result<Self, &'static str> {
                Ok(Table {
                    $($field: {
                        // SAFETY: the function has this type by NCCL's header.
                        let found = unsafe { library.get(concat!($name, "\0").as_bytes()) };
                        *found.map_err(|_| $name)?
                    },)*
                })
            }
        }
    };
}

table! {
    get_version = "ncclGetVersion": fn(*mut c_int) -> Answer;
    get_unique_id = "ncclGetUniqueId": fn(*mut UniqueId) -> Answer;
    init = "ncclCommInitRankConfig": fn(*mut Comm, c_int, UniqueId, c_int, *const Config) -> Answer;
    async_error = "ncclCommGetAsyncError": fn(Comm, *mut Answer) -> Answer;
    finalize = "ncclCommFinalize": fn(Comm) -> Answer;
    destroy = "ncclCommDestroy": fn(Comm) -> Answer;
    abort = "ncclCommAbort": fn(Comm) -> Answer;
    all_gather = "ncclAllGather": fn(*const c_void, *mut c_void, usize, c_int, Comm, CUstream) -> Answer;
    all_reduce = "ncclAllReduce": fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, CUstream) -> Answer;
    error_string = "ncclGetErrorString": fn(Answer) -> *const c_char;
    last_error = "ncclGetLastError": fn(Comm) -> *const c_char;
}

/// The library.
pub struct Nccl {
    table: Table,
    version: c_int,
    /// Never unloaded: threads of its own may still run its code.
    _library: ManuallyDrop<Library>,
}

impl Nccl {
    /// Loads the library: the file that `MLPCONV_NCCL` names, or else the one that the system finds.
    ///
    /// # Errors
    /// [`CudaError::NoNccl`] if there is none; [`CudaError::NcclTooOld`] for a version before 2.18, or one that lacks a function.
    pub fn load() -> Result<Arc<Self>> {
        // The empty name would be the program itself.
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
        let names: Vec<&OsStr> = match &named {
            Some(name) => vec![name],
            None => NAMES.iter().map(OsStr::new).collect(),
        };
        let mut problems = Vec::new();
        for name in names {
            // SAFETY: NCCL's library runs no code that could do harm when it is loaded.
            match unsafe { Library::new(name) } {
                Ok(library) => return Nccl::of(library).map(Arc::new),
                Err(error) => {
                    let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                    let name = name.to_string_lossy();
                    // The system's message names the file, as a rule.
                    problems.push(if why.contains(&*name) { why } else { format!("{name}: {why}") });
                }
            }
        }
        Err(CudaError::NoNccl { problem: problems.swap_remove(0) }.into())
    }

    fn of(library: Library) -> Result<Self> {
        let lacks = |function: &str| CudaError::NcclTooOld { problem: format!("it has no function {function}") };
        let table = Table::of(&library).map_err(lacks)?;
        let mut version = 0;
        // SAFETY: the pointer is to an int.
        unsafe { (table.get_version)(&mut version) };
        if version < OLDEST {
            let problem = format!("it is {}", numbered(version));
            return Err(CudaError::NcclTooOld { problem }.into());
        }
        Ok(Nccl { table, version, _library: ManuallyDrop::new(library) })
    }

    /// The version, as in `2.27.3`.
    pub fn version(&self) -> String {
        numbered(self.version)
    }

    pub(super) fn unique_id(&self) -> Result<UniqueId> {
        let mut id = UniqueId([0; 128]);
        // SAFETY: the pointer is to an id.
        let answer = unsafe { (self.table.get_unique_id)(&mut id) };
        self.require("ncclGetUniqueId", answer, ptr::null_mut())?;
        Ok(id)
    }

    /// Begins to make a communicator. It is there once [`Nccl::is_ready`] says so.
    pub(super) fn begin(&self, ranks: usize, id: UniqueId, rank: usize) -> Result<Comm> {
        let mut comm = ptr::null_mut();
        // SAFETY: the pointers are to a communicator and a configuration.
        let answer = unsafe { (self.table.init)(&mut comm, ranks as c_int, id, rank as c_int, &Config::NONBLOCKING) };
        self.require("ncclCommInitRankConfig", answer, comm)?;
        Ok(comm)
    }

    /// Whether no call is under way.
    ///
    /// # Errors
    /// [`CudaError::Nccl`] for what the communicator has met with since it was made, on another rank or on the way.
    pub(super) fn is_ready(&self, comm: Comm) -> Result<bool> {
        let mut state = SUCCESS;
        // SAFETY: the caller has a communicator that is not aborted.
        let answer = unsafe { (self.table.async_error)(comm, &mut state) };
        self.require("ncclCommGetAsyncError", answer, comm)?;
        self.require("ncclCommGetAsyncError", state, comm)?;
        Ok(state == SUCCESS)
    }

    /// Enqueues a gathering of `len` floats of each rank.
    pub(super) fn all_gather(
        &self,
        comm: Comm,
        from: CUdeviceptr,
        to: CUdeviceptr,
        len: usize,
        stream: CUstream,
    ) -> Result<()> {
        let (from, to) = (ptr::with_exposed_provenance(from as usize), ptr::with_exposed_provenance_mut(to as usize));
        // SAFETY: the addresses are of as many floats on the stream's device, and the communicator is not aborted.
        let answer = unsafe { (self.table.all_gather)(from, to, len, FLOAT32, comm, stream) };
        self.require("ncclAllGather", answer, comm)
    }

    /// Enqueues a sum of `len` floats over the ranks, in the order that the library takes.
    pub(super) fn all_reduce(&self, comm: Comm, at: CUdeviceptr, len: usize, stream: CUstream) -> Result<()> {
        let at: *mut c_void = ptr::with_exposed_provenance_mut(at as usize);
        // SAFETY: as in `all_gather`; a sum in place is allowed.
        let answer = unsafe { (self.table.all_reduce)(at, at, len, FLOAT32, SUM, comm, stream) };
        self.require("ncclAllReduce", answer, comm)
    }

    /// Ends a communicator whose work is done, and whose graphs are destroyed; waits for the other ranks to do the same, but not for
    /// long. One that does not end so is given up. Returns whether it has ended in order.
    pub(super) fn end(&self, comm: Comm) -> bool {
        let ready = || self.is_ready(comm).unwrap_or(false);
        // SAFETY: the communicator is given up, and no call of it is under way.
        let finalizes = ready() && matches!(unsafe { (self.table.finalize)(comm) }, SUCCESS | IN_PROGRESS);
        let end = Instant::now() + FAREWELL;
        while finalizes && !ready() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        // SAFETY: as above.
        if finalizes && ready() && unsafe { (self.table.destroy)(comm) } == SUCCESS {
            return true;
        }
        self.abort(comm);
        false
    }

    /// Gives up a communicator. A kernel of it that waits for another rank ends.
    pub(super) fn abort(&self, comm: Comm) {
        // SAFETY: the communicator is given up.
        unsafe { (self.table.abort)(comm) };
    }

    fn require(&self, call: &'static str, answer: Answer, comm: Comm) -> Result<()> {
        if answer == SUCCESS || answer == IN_PROGRESS {
            return Ok(());
        }
        // SAFETY: both return null or a text that ends in zero.
        let text = |from: *const c_char| match from.is_null() {
            true => String::new(),
            false => unsafe { CStr::from_ptr(from) }.to_string_lossy().trim().to_owned(),
        };
        // SAFETY: a null communicator is allowed.
        let (meaning, last) = unsafe { (text((self.table.error_string)(answer)), text((self.table.last_error)(comm))) };
        let problem = if last.is_empty() { meaning } else { format!("{meaning}: {last}") };
        Err(CudaError::Nccl { call, problem }.into())
    }
}

/// The version by its number: 21803 is 2.18.3.
fn numbered(version: c_int) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_lies_as_in_the_header() {
        assert_eq!(size_of::<Config>(), 48);
        assert_eq!(std::mem::offset_of!(Config, net_name), 32);
        assert_eq!(numbered(22703), "2.27.3");
    }
}
