//! Names the library `libvirtual_nccl.so`, whichever file it is copied to.
//!
//! `nodelete` keeps it mapped after `dlclose`: threads of a communicator, and host functions in graphs, may still run its code.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libvirtual_nccl.so");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
