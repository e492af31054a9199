//! Finds nvcc, compiles `kernels/*.cu` to PTX and embeds it, once there are kernels to compile; until then there is
//! nothing to do before the crate is built.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
