//! Sets the library's SONAME to `libcuda.so`, the name by which programs ask for the CUDA driver.
//!
//! glibc resolves `dlopen("libcuda.so")` to an already loaded object if its SONAME is the same string, whatever its
//! file name. `nodelete` keeps the library mapped after `dlclose`: a program may open the driver only to test for it,
//! and close it after worker threads have started.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
