//! The types that cross the C interface, and all unsafe code of the driver.
//!
//! # Safety
//!
//! A C function cannot check the pointers it receives. One contract covers all of them: the caller promises that a
//! pointer is null or points to what NVIDIA's reference states for that parameter (a place for a result, a
//! zero-terminated string, an array of the stated length, a host buffer of the stated size), for as long as the
//! reference states. Null is always checked. The wrappers below have private fields, so only the C caller can create
//! such a pointer, and everything outside this file is safe Rust. Handles are numbers and are never dereferenced.

use std::ffi::{CStr, c_char, c_void};

use super::boundary::Outcome;
use super::error::Code;

/// The handle of a context, stream, event, module, ...: opaque to C, a key of a table in `state`.
pub type Handle = usize;

/// An address in device memory.
pub type DevicePointer = u64;

/// A pointer to which the caller wants a result written.
#[repr(transparent)]
pub struct Out<T>(*mut T);

/// A pointer from which the caller wants a value read.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T> Out<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The pointer as a number, to check its alignment.
    pub fn address(self) -> usize {
        self.0.addr()
    }

    /// A null pointer, for results that are not asked for.
    pub fn nowhere() -> Out<T> {
        Out(std::ptr::null_mut())
    }

    /// The element at `index` of an array of the stated length.
    pub fn nth(self, index: usize) -> Out<T> {
        if self.0.is_null() { self } else { Out(self.0.wrapping_add(index)) }
    }

    /// Writes a required result; a null pointer is an error.
    pub fn put(self, value: T) -> Outcome {
        if self.0.is_null() {
            return Err(Code::InvalidValue.into());
        }
        // SAFETY: not null, hence valid by the contract above.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes an optional result; a null pointer is ignored.
    pub fn offer(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: not null, hence valid by the contract above.
            unsafe { self.0.write_unaligned(value) };
        }
    }

    /// Reads the value of an in-out parameter.
    pub fn get(self) -> Outcome<T>
    where
        T: Copy,
    {
        In(self.0.cast_const()).get()
    }

    /// Writes the elements of an array, which the caller has stated to be long enough.
    pub fn put_all(self, values: impl IntoIterator<Item = T>) -> Outcome {
        for (index, value) in values.into_iter().enumerate() {
            self.nth(index).put(value)?;
        }
        Ok(())
    }
}

impl<T: Copy> In<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub fn get(self) -> Outcome<T> {
        self.at(0)
    }

    pub fn at(self, index: usize) -> Outcome<T> {
        if self.0.is_null() {
            return Err(Code::InvalidValue.into());
        }
        // SAFETY: not null, hence valid by the contract above; `index` is below the length that the caller stated.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
}

impl In<c_char> {
    /// The bytes of a zero-terminated string.
    pub fn bytes<'a>(self) -> Outcome<&'a [u8]> {
        if self.0.is_null() {
            return Err(Code::InvalidValue.into());
        }
        // SAFETY: not null, hence zero-terminated by the contract above.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    /// A string that is a name. Text that is not UTF-8 is an invalid value, because all names here are UTF-8.
    pub fn text<'a>(self) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Code::InvalidValue.into())
    }
}

impl In<u8> {
    /// The image of a module, declared as bytes, as a string.
    pub fn as_chars(self) -> In<c_char> {
        In(self.0.cast())
    }
}

/// The host buffer from which a copy reads.
pub fn host<'a>(address: usize, bytes: usize) -> Outcome<&'a [u8]> {
    if bytes == 0 {
        return Ok(&[]);
    }
    if address == 0 {
        return Err(Code::InvalidValue.because("a null pointer to host memory"));
    }
    // SAFETY: not null, hence valid by the contract above.
    Ok(unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(address), bytes) })
}

/// The host buffer to which a copy writes.
pub fn host_mut<'a>(address: usize, bytes: usize) -> Outcome<&'a mut [u8]> {
    if bytes == 0 {
        return Ok(&mut []);
    }
    if address == 0 {
        return Err(Code::InvalidValue.because("a null pointer to host memory"));
    }
    // SAFETY: not null, hence valid by the contract above, and not used by anyone else until the copy is done.
    Ok(unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(address), bytes) })
}

/// Copies between two host buffers, which may overlap.
pub fn host_to_host(to: usize, from: usize, bytes: usize) -> Outcome {
    let (from, to) = (host(from, bytes)?.as_ptr(), host_mut(to, bytes)?.as_mut_ptr());
    // SAFETY: both valid by the contract above.
    unsafe { std::ptr::copy(from, to, bytes) };
    Ok(())
}

/// Copies a kernel's argument into `into`. `arguments` is the array of pointers, `index` the parameter's position.
pub fn argument(arguments: In<usize>, index: usize, into: &mut [u8]) -> Outcome {
    into.copy_from_slice(host(arguments.at(index)?, into.len())?);
    Ok(())
}

/// A host function, to be called in stream order.
pub type HostFunction = Option<extern "C" fn(*mut c_void)>;

/// A stream callback, the older form of [`HostFunction`], which also receives the stream and its status.
pub type StreamCallback = Option<extern "C" fn(Handle, i32, *mut c_void)>;

/// The program's function from block size to bytes of dynamic shared memory.
pub type SharedForBlock = Option<extern "C" fn(i32) -> usize>;

/// The pointer passed with a [`HostFunction`]. It is returned to the function and never dereferenced here.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct UserData(*mut c_void);

// SAFETY: never dereferenced here; the program's function gets it back, as it asked.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    pub fn call(self, function: extern "C" fn(*mut c_void)) {
        function(self.0);
    }

    pub fn call_back(self, function: extern "C" fn(Handle, i32, *mut c_void), stream: Handle) {
        function(stream, 0, self.0);
    }
}

/// Gives a type to the untyped pointer of an option or attribute.
pub fn untyped<T>(value: Out<c_void>) -> Out<T> {
    Out(value.0.cast())
}

/// The buffer at an address that an option carries as a number, such as a compiler log.
pub fn buffer<T>(address: usize) -> Out<T> {
    Out(std::ptr::with_exposed_provenance_mut(address))
}

/// The array at an address that an option carries as a number, such as a kernel's parameters in `extra`.
pub fn array<T>(address: usize) -> In<T> {
    In(std::ptr::with_exposed_provenance(address))
}

mod loader {
    use super::{c_char, c_void};

    #[repr(C)]
    pub struct DlInfo {
        pub file: *const c_char,
        pub base: *mut c_void,
        pub symbol: *const c_char,
        pub address: *mut c_void,
    }

    unsafe extern "C" {
        pub fn dladdr(address: *const c_void, info: *mut DlInfo) -> i32;
        pub fn dlopen(file: *const c_char, flags: i32) -> *mut c_void;
        pub fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    }

    pub const RTLD_LAZY: i32 = 1;
    pub const RTLD_NOLOAD: i32 = 4;
}

/// The address of one of this library's own exported functions, or 0.
///
/// Asks the dynamic loader, and only about this object. This needs no second list of the functions, and does not
/// confuse another libcuda in the process with this one.
pub fn exported(name: &CStr) -> usize {
    // SAFETY: glibc's functions, called as documented. The object is loaded, since this code runs from it, and stays
    // loaded, because it is linked `nodelete`.
    unsafe {
        let mut info = std::mem::zeroed::<loader::DlInfo>();
        let here = exported as fn(&CStr) -> usize as *const c_void;
        if loader::dladdr(here, &mut info) == 0 {
            return 0;
        }
        let library = loader::dlopen(info.file, loader::RTLD_LAZY | loader::RTLD_NOLOAD);
        if library.is_null() { 0 } else { loader::dlsym(library, name.as_ptr()).expose_provenance() }
    }
}
