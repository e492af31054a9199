//! The driver's result codes, with their names and texts.

use std::ffi::{CStr, c_char, c_int};

use super::abi::Out;
use super::boundary::{Outcome, answer};
use crate::machine::{MemoryError, TrapKind};

/// The result of every function of the driver: 0, or the number of a [`Code`].
pub type CUresult = c_int;

/// The number, name and text of a result.
type Entry = (CUresult, &'static CStr, &'static CStr);

macro_rules! codes {
    ($($variant:ident = $number:literal $name:literal $text:literal)*) => {
        /// The driver's errors, with CUDA's numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Code {
            $($variant = $number,)*
        }

        /// Every result that this driver returns, success included.
        const RESULTS: &[Entry] = &[
            (0, c"CUDA_SUCCESS", c"no error"),
            $(($number, $name, $text),)*
        ];
    };
}

codes! {
    InvalidValue = 1 c"CUDA_ERROR_INVALID_VALUE" c"invalid argument"
    OutOfMemory = 2 c"CUDA_ERROR_OUT_OF_MEMORY" c"out of memory"
    NotInitialized = 3 c"CUDA_ERROR_NOT_INITIALIZED" c"initialization error"
    InvalidDevice = 101 c"CUDA_ERROR_INVALID_DEVICE" c"invalid device ordinal"
    InvalidImage = 200 c"CUDA_ERROR_INVALID_IMAGE" c"device kernel image is invalid"
    InvalidContext = 201 c"CUDA_ERROR_INVALID_CONTEXT" c"invalid device context"
    NoBinaryForGpu = 209 c"CUDA_ERROR_NO_BINARY_FOR_GPU" c"no kernel image is available for execution on the device"
    UnsupportedLimit = 215 c"CUDA_ERROR_UNSUPPORTED_LIMIT" c"limit is not supported on this architecture"
    InvalidPtx = 218 c"CUDA_ERROR_INVALID_PTX" c"a PTX JIT compilation failed"
    UnsupportedPtxVersion = 222 c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION" c"the provided PTX was compiled with an unsupported toolchain."
    FileNotFound = 301 c"CUDA_ERROR_FILE_NOT_FOUND" c"file not found"
    OperatingSystem = 304 c"CUDA_ERROR_OPERATING_SYSTEM" c"OS call failed or operation not supported on this OS"
    InvalidHandle = 400 c"CUDA_ERROR_INVALID_HANDLE" c"invalid resource handle"
    IllegalState = 401 c"CUDA_ERROR_ILLEGAL_STATE" c"the operation cannot be performed in the present state"
    NotFound = 500 c"CUDA_ERROR_NOT_FOUND" c"named symbol not found"
    NotReady = 600 c"CUDA_ERROR_NOT_READY" c"device not ready"
    IllegalAddress = 700 c"CUDA_ERROR_ILLEGAL_ADDRESS" c"an illegal memory access was encountered"
    LaunchOutOfResources = 701 c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" c"too many resources requested for launch"
    PeerAccessAlreadyEnabled = 704 c"CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED" c"peer access is already enabled"
    PeerAccessNotEnabled = 705 c"CUDA_ERROR_PEER_ACCESS_NOT_ENABLED" c"peer access has not been enabled"
    ContextIsDestroyed = 709 c"CUDA_ERROR_CONTEXT_IS_DESTROYED" c"context is destroyed"
    HostMemoryAlreadyRegistered = 712 c"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED" c"part or all of the requested memory range is already mapped"
    HostMemoryNotRegistered = 713 c"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED" c"pointer does not correspond to a registered memory region"
    MisalignedAddress = 716 c"CUDA_ERROR_MISALIGNED_ADDRESS" c"misaligned address"
    LaunchFailed = 719 c"CUDA_ERROR_LAUNCH_FAILED" c"unspecified launch failure"
    NotPermitted = 800 c"CUDA_ERROR_NOT_PERMITTED" c"operation not permitted"
    NotSupported = 801 c"CUDA_ERROR_NOT_SUPPORTED" c"operation not supported"
    CaptureUnsupported = 900 c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" c"operation not permitted when stream is capturing"
    CaptureInvalidated = 901 c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" c"operation failed due to a previous error during capture"
    CaptureMerge = 902 c"CUDA_ERROR_STREAM_CAPTURE_MERGE" c"operation would result in a merge of separate capture sequences"
    CaptureUnmatched = 903 c"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED" c"capture was not ended in the same stream as it began"
    CaptureUnjoined = 904 c"CUDA_ERROR_STREAM_CAPTURE_UNJOINED" c"capturing stream has unjoined work"
    CaptureIsolation = 905 c"CUDA_ERROR_STREAM_CAPTURE_ISOLATION" c"dependency created on uncaptured work in another stream"
    CaptureImplicit = 906 c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT" c"operation would make the legacy stream depend on a capturing blocking stream"
    CapturedEvent = 907 c"CUDA_ERROR_CAPTURED_EVENT" c"operation not permitted on an event last recorded in a capturing stream"
    CaptureWrongThread = 908 c"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD" c"attempt to terminate a thread-local capture sequence from another thread"
    Unknown = 999 c"CUDA_ERROR_UNKNOWN" c"unknown error"
}

/// Results that this driver never returns, but whose names and texts programs may ask for.
const OTHERS: &[Entry] = &[
    (4, c"CUDA_ERROR_DEINITIALIZED", c"driver shutting down"),
    (34, c"CUDA_ERROR_STUB_LIBRARY", c"CUDA driver is a stub library"),
    (46, c"CUDA_ERROR_DEVICE_UNAVAILABLE", c"CUDA-capable device(s) is/are busy or unavailable"),
    (100, c"CUDA_ERROR_NO_DEVICE", c"no CUDA-capable device is detected"),
    (217, c"CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", c"peer access is not supported between these two devices"),
    (702, c"CUDA_ERROR_LAUNCH_TIMEOUT", c"the launch timed out and was terminated"),
    (708, c"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", c"cannot set while device is active in this process"),
    (720, c"CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", c"too many blocks in cooperative launch"),
];

/// An error: the code that the caller receives, and an explanation to print on stderr.
#[derive(Debug)]
pub struct Fault {
    pub code: Code,
    pub why: Option<String>,
}

impl Code {
    /// The code with an explanation, which the boundary prints.
    pub fn because(self, why: impl Into<String>) -> Fault {
        Fault { code: self, why: Some(why.into()) }
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Fault {
        Fault { code, why: None }
    }
}

impl From<MemoryError> for Fault {
    fn from(error: MemoryError) -> Fault {
        let code = match error {
            MemoryError::OutOfMemory { .. } => Code::OutOfMemory,
            _ => Code::InvalidValue,
        };
        code.because(error.to_string())
    }
}

impl From<TrapKind> for Code {
    /// The code that a card reports for this error. Errors that a card does not detect are `LaunchFailed`.
    fn from(kind: TrapKind) -> Code {
        match kind {
            TrapKind::IllegalAddress | TrapKind::SharedOutOfBounds | TrapKind::LocalOutOfBounds => Code::IllegalAddress,
            TrapKind::MisalignedAddress => Code::MisalignedAddress,
            TrapKind::LaunchOutOfResources => Code::LaunchOutOfResources,
            TrapKind::InvalidLaunch => Code::InvalidValue,
            _ => Code::LaunchFailed,
        }
    }
}

/// Writes a static string about a result; a null pointer for an unknown number.
fn describe(result: CUresult, to: Out<*const c_char>, pick: fn(&Entry) -> &'static CStr) -> Outcome {
    let known = RESULTS.iter().chain(OTHERS).find(|entry| entry.0 == result);
    to.put(known.map_or(std::ptr::null(), |entry| pick(entry).as_ptr()))?;
    known.map(|_| ()).ok_or(Code::InvalidValue.into())
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(result: CUresult, name: Out<*const c_char>) -> CUresult {
    answer(|| describe(result, name, |entry| entry.1))
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(result: CUresult, text: Out<*const c_char>) -> CUresult {
    answer(|| describe(result, text, |entry| entry.2))
}
