//! The C functions, with the signatures of `nccl.h` 2.28.
//!
//! # Safety
//!
//! A C function cannot check the pointers that it is given. The caller promises that a pointer is null or points to what NCCL's
//! reference states for that parameter, for as long as the call takes. Null is always checked. Communicators are numbers that are
//! looked up, and device addresses are left to the driver: neither is dereferenced.

use std::ffi::{c_char, c_int};
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::call::{Call, Kind};
use crate::comm::{self, Comm};
use crate::error::{self, Code, Outcome, remember};
use crate::rank::{ID_BYTES, Id};
use crate::staging::Enqueue;
use crate::{group, hub};

/// The version that is reported: 2.28.9.
const VERSION: c_int = 22809;

/// A communicator's handle, `ncclComm_t`.
type Handle = usize;

/// `ncclUniqueId`.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId {
    internal: [u8; ID_BYTES],
}

/// The beginning of `ncclConfig_t`, which is the same in all versions. The fields behind it are about speed.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
}

const CONFIG_MAGIC: u32 = 0xcafe_beef;
/// `NCCL_CONFIG_UNDEF_INT`: the default.
const UNDEFINED: c_int = c_int::MIN;

/// Runs the body of a function, and remembers the text of its error. A panic must not unwind into C.
fn answer(body: impl FnOnce() -> Outcome<Code>) -> c_int {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Code::InternalError.because("a bug in virtual-nccl itself, see the panic on standard error"))
    });
    outcome.unwrap_or_else(|fault| {
        remember(&fault);
        group::failed(&fault);
        fault.code
    }) as c_int
}

/// Writes a result.
fn put<T>(to: *mut T, what: &str, value: T) -> Outcome<Code> {
    if to.is_null() {
        return Err(Code::InvalidArgument.because(format!("{what} is null")));
    }
    // SAFETY: not null, hence valid by the contract above.
    unsafe { to.write(value) };
    Ok(Code::Success)
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetVersion(version: *mut c_int) -> c_int {
    answer(|| put(version, "version", VERSION))
}

/// Opens a hub for one communicator. It lives in the calling process, which must not end before the communicator does.
#[unsafe(no_mangle)]
extern "C" fn ncclGetUniqueId(id: *mut UniqueId) -> c_int {
    answer(|| {
        if id.is_null() {
            return Err(Code::InvalidArgument.because("uniqueId is null"));
        }
        let system =
            |error: std::io::Error| Code::SystemError.because(format!("the unique id cannot be made: {error}"));
        let mut token = [0; 16];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut token)).map_err(system)?;
        let port = hub::open(token).map_err(system)?.port();
        put(id, "uniqueId", UniqueId { internal: Id { port, token }.to_bytes() })
    })
}

fn init(to: *mut Handle, ranks: c_int, id: &UniqueId, rank: c_int, blocking: bool) -> Outcome<Code> {
    put(to, "comm", 0)?;
    let comm = Comm::new(ranks, rank, Id::of(&id.internal)?, blocking)?;
    if group::inside() {
        group::made(comm.clone());
        return put(to, "comm", comm::register(comm));
    }
    if !blocking {
        put(to, "comm", comm::register(comm))?;
        return Ok(Code::InProgress);
    }
    if let Err(fault) = comm.wait_joined() {
        comm.end();
        return Err(fault);
    }
    put(to, "comm", comm::register(comm))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommInitRank(comm: *mut Handle, ranks: c_int, id: UniqueId, rank: c_int) -> c_int {
    answer(|| init(comm, ranks, &id, rank, true))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommInitRankConfig(
    comm: *mut Handle,
    ranks: c_int,
    id: UniqueId,
    rank: c_int,
    config: *const Config,
) -> c_int {
    answer(|| {
        let invalid = |why: String| Err(Code::InvalidArgument.because(why));
        let mut blocking = UNDEFINED;
        if !config.is_null() {
            // SAFETY: not null, hence a configuration, whose size comes first.
            let size = unsafe { config.cast::<usize>().read() };
            if size < size_of::<Config>() {
                return invalid(format!("config has {size} bytes, less than that of any version"));
            }
            // SAFETY: it is as long as it says.
            let given = unsafe { config.read() };
            if given.magic != CONFIG_MAGIC {
                return invalid("ncclConfig_t argument not initialized via NCCL_CONFIG_INITIALIZER".into());
            }
            blocking = given.blocking;
        }
        match blocking {
            UNDEFINED | 1 => init(comm, ranks, &id, rank, true),
            0 => init(comm, ranks, &id, rank, false),
            other => invalid(format!("config.blocking is {other}, and must be 0, 1 or undefined")),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommGetAsyncError(comm: Handle, error: *mut c_int) -> c_int {
    answer(|| {
        let comm = comm::find(comm)?;
        if error.is_null() {
            return Err(Code::InvalidArgument.because("asyncError is null"));
        }
        put(error, "asyncError", comm.status() as c_int)
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommFinalize(comm: Handle) -> c_int {
    answer(|| if comm == 0 { Ok(Code::Success) } else { comm::find(comm)?.finalize() })
}

/// Waits until the collectives on streams have ended and all ranks have finalized or destroyed their communicators. If it fails, the
/// handle stays, for `ncclCommAbort`.
#[unsafe(no_mangle)]
extern "C" fn ncclCommDestroy(comm: Handle) -> c_int {
    answer(|| {
        if comm != 0 {
            comm::find(comm)?.destroy()?;
            comm::unregister(comm)?;
        }
        Ok(Code::Success)
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommAbort(comm: Handle) -> c_int {
    answer(|| {
        if comm != 0 {
            comm::unregister(comm)?.end();
        }
        Ok(Code::Success)
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommCount(comm: Handle, count: *mut c_int) -> c_int {
    answer(|| {
        let comm = comm::find(comm)?;
        comm.ready()?;
        put(count, "count", comm.ranks as c_int)
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommUserRank(comm: Handle, rank: *mut c_int) -> c_int {
    answer(|| {
        let comm = comm::find(comm)?;
        comm.ready()?;
        put(rank, "rank", comm.rank as c_int)
    })
}

/// A collective's arguments, as C gives them.
struct Arguments {
    kind: Kind,
    send: u64,
    recv: u64,
    count: usize,
    of: c_int,
    op: c_int,
    stream: usize,
}

fn collective(comm: Handle, arguments: Arguments) -> c_int {
    answer(|| {
        let comm = comm::find(comm)?;
        let Arguments { kind, send, recv, count, of, op, stream } = arguments;
        let checked = || {
            comm.usable()?;
            let what = Enqueue { call: Call::new(kind, count, of, op, comm.ranks)?, send, recv, stream };
            // A collective of nothing is none, on all ranks.
            if count > 0 {
                what.check(&comm)?;
            }
            Ok(what)
        };
        match checked() {
            Ok(_) if count == 0 => Ok(Code::Success),
            Ok(what) => group::call(comm, what),
            Err(fault) => {
                // As in NCCL, a wrong call spoils a non-blocking communicator.
                if !comm.blocking {
                    comm.fail(Clone::clone(&fault));
                }
                Err(fault)
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclAllGather(send: u64, recv: u64, count: usize, of: c_int, comm: Handle, stream: usize) -> c_int {
    collective(comm, Arguments { kind: Kind::AllGather, send, recv, count, of, op: 0, stream })
}

#[unsafe(no_mangle)]
extern "C" fn ncclAllReduce(
    send: u64,
    recv: u64,
    count: usize,
    of: c_int,
    op: c_int,
    comm: Handle,
    stream: usize,
) -> c_int {
    collective(comm, Arguments { kind: Kind::AllReduce, send, recv, count, of, op, stream })
}

#[unsafe(no_mangle)]
extern "C" fn ncclGroupStart() -> c_int {
    answer(|| {
        group::start();
        Ok(Code::Success)
    })
}

#[unsafe(no_mangle)]
extern "C" fn ncclGroupEnd() -> c_int {
    answer(group::end)
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(result: c_int) -> *const c_char {
    error::text(result).as_ptr()
}

/// Why a communicator has failed, or else the text of the last error of any function in the process. It may be read until the thread
/// asks again.
#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(comm: Handle) -> *const c_char {
    let own = catch_unwind(|| comm::find(comm).ok().and_then(|comm| comm.failure()).map(|failure| failure.why));
    error::last(own.unwrap_or_default())
}
