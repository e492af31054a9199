//! Result codes, errors with their texts, and the last of these texts.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::sync::Mutex;

use crate::lock;

/// `ncclResult_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    Success = 0,
    UnhandledCudaError = 1,
    SystemError = 2,
    InternalError = 3,
    InvalidArgument = 4,
    InvalidUsage = 5,
    RemoteError = 6,
    InProgress = 7,
}

impl Code {
    /// The code of a number that came over the wire. An unknown one is an error all the same.
    pub fn of(number: u32) -> Code {
        match number {
            1 => Code::UnhandledCudaError,
            2 => Code::SystemError,
            4 => Code::InvalidArgument,
            5 => Code::InvalidUsage,
            6 => Code::RemoteError,
            _ => Code::InternalError,
        }
    }

    pub fn because(self, why: impl Into<String>) -> Fault {
        Fault { code: self, why: why.into() }
    }
}

/// NCCL's own texts.
pub fn text(code: i32) -> &'static CStr {
    match code {
        0 => c"no error",
        1 => c"unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        2 => c"unhandled system error (run with NCCL_DEBUG=INFO for details)",
        3 => c"internal error - please report this issue to the NCCL developers",
        4 => c"invalid argument (run with NCCL_DEBUG=WARN for details)",
        5 => c"invalid usage (run with NCCL_DEBUG=WARN for details)",
        6 => c"remote process exited or there was a network error",
        7 => c"NCCL operation in progress",
        8 => c"timeout",
        _ => c"unknown result code",
    }
}

/// Why a call or a communicator failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Fault {
    pub code: Code,
    pub why: String,
}

pub type Outcome<T = ()> = Result<T, Fault>;

/// The text of the last error in the process.
static LAST: Mutex<String> = Mutex::new(String::new());

thread_local! {
    /// The text that this thread has asked for, which it may read until it asks again.
    static GIVEN: RefCell<CString> = RefCell::default();
}

pub fn remember(fault: &Fault) {
    lock(&LAST).clone_from(&fault.why);
}

/// The text `own`, or that of the process's last error, as C reads it.
pub fn last(own: Option<String>) -> *const c_char {
    let text = own.unwrap_or_else(|| lock(&LAST).clone());
    // A zero would end the text, and there is none in what this library writes.
    let text = CString::new(text).unwrap_or_default();
    GIVEN.with_borrow_mut(|given| {
        *given = text;
        given.as_ptr()
    })
}
