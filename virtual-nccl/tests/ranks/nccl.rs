//! The library's functions, looked up by name in the shared library as a program does.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;

/// A library that cargo has built in this test's target folder.
pub fn library(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let deps = here.parent().unwrap();
    let found = [deps, deps.parent().unwrap()].map(|folder| folder.join(name));
    found.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("cargo builds {name} with the tests"))
}

/// Loads a library for good.
pub fn load(name: &str, flags: c_int) -> *mut c_void {
    let path = CString::new(library(name).to_str().unwrap()).unwrap();
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | flags) };
    assert!(!library.is_null(), "{path:?}: {:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
    library
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct UniqueId(pub [u8; 128]);

/// `ncclConfig_t` of 2.28.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    pub size: usize,
    pub magic: u32,
    pub version: u32,
    pub blocking: c_int,
    pub integers: [c_int; 3],
    pub net_name: *const c_char,
    pub split_share: c_int,
    pub traffic_class: c_int,
    pub name: *const c_char,
    pub more: [c_int; 6],
}

impl Config {
    pub fn new(blocking: c_int) -> Config {
        let undefined = c_int::MIN;
        Config {
            size: size_of::<Config>(),
            magic: 0xcafe_beef,
            version: 22809,
            blocking,
            integers: [undefined; 3],
            net_name: std::ptr::null(),
            split_share: undefined,
            traffic_class: undefined,
            name: std::ptr::null(),
            more: [undefined; 6],
        }
    }
}

pub type Comm = *mut c_void;
pub type Stream = *mut c_void;

macro_rules! table {
    ($($name:ident: fn($($argument:ty),*) -> $result:ty;)*) => {
        #[allow(non_snake_case)]
        pub struct Nccl { $(pub $name: unsafe extern "C" fn($($argument),*) -> $result,)* }

        impl Nccl {
            pub fn load() -> Nccl {
                let library = load("libvirtual_nccl.so", libc::RTLD_LOCAL);
                Nccl { $($name: unsafe {
                    let name = concat!(stringify!($name), "\0");
                    let found = libc::dlsym(library, name.as_ptr().cast());
                    assert!(!found.is_null(), "{name}");
                    std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> $result>(found)
                },)* }
            }
        }
    };
}

table! {
    ncclGetVersion: fn(*mut c_int) -> c_int;
    ncclGetUniqueId: fn(*mut UniqueId) -> c_int;
    ncclCommInitRank: fn(*mut Comm, c_int, UniqueId, c_int) -> c_int;
    ncclCommInitRankConfig: fn(*mut Comm, c_int, UniqueId, c_int, *const Config) -> c_int;
    ncclCommGetAsyncError: fn(Comm, *mut c_int) -> c_int;
    ncclCommFinalize: fn(Comm) -> c_int;
    ncclCommDestroy: fn(Comm) -> c_int;
    ncclCommAbort: fn(Comm) -> c_int;
    ncclCommCount: fn(Comm, *mut c_int) -> c_int;
    ncclCommUserRank: fn(Comm, *mut c_int) -> c_int;
    ncclAllGather: fn(u64, u64, usize, c_int, Comm, Stream) -> c_int;
    ncclAllReduce: fn(u64, u64, usize, c_int, c_int, Comm, Stream) -> c_int;
    ncclGroupStart: fn() -> c_int;
    ncclGroupEnd: fn() -> c_int;
    ncclGetErrorString: fn(c_int) -> *const c_char;
    ncclGetLastError: fn(Comm) -> *const c_char;
}

pub const SUCCESS: c_int = 0;
pub const CUDA_ERROR: c_int = 1;
pub const SYSTEM_ERROR: c_int = 2;
pub const INTERNAL_ERROR: c_int = 3;
pub const INVALID_ARGUMENT: c_int = 4;
pub const INVALID_USAGE: c_int = 5;
pub const REMOTE_ERROR: c_int = 6;
pub const IN_PROGRESS: c_int = 7;

/// A Rust type that `ncclDataType_t` has a number for.
pub trait Type: Copy + Default + PartialEq + std::fmt::Debug {
    const NUMBER: c_int;
}

macro_rules! types {
    ($($of:ty: $number:literal),*) => { $(impl Type for $of { const NUMBER: c_int = $number; })* };
}

types!(u8: 1, i32: 2, u32: 3, i64: 4, u64: 5, f32: 7, f64: 8);

impl Nccl {
    pub fn last_error(&self, comm: Comm) -> String {
        unsafe { CStr::from_ptr((self.ncclGetLastError)(comm)) }.to_str().unwrap().to_owned()
    }
}
