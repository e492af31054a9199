//! Gives the library the name under which programs ask for the CUDA driver.
//!
//! glibc answers `dlopen("libcuda.so")` with an object that is already loaded when that object's SONAME is the same
//! string, whatever file it came from. `nodelete` keeps the code mapped when a program opens the driver only to see
//! whether it is there and closes it again: worker threads may have been started in between.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
