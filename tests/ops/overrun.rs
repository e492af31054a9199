//! The virtual GPU detects an access beyond a buffer's end. All other tests rely on it, as they do not look at memory
//! outside of a kernel's output.

use std::env;
use std::process::Command;

use mlpconv::device::{Device, Role};
use mlpconv::ops::relu::Relu;
use mlpconv::{Cuda, Precision};

use crate::gpu;

/// A trap leaves the process's driver unusable, so the test starts this program again as a child. The variable marks
/// the child.
const CHILD: &str = "MLPCONV_TESTS_OVERRUN";

fn relu(cuda: &Cuda, input: usize, output: usize) -> mlpconv::Result<()> {
    let x = cuda.upload(Role::Activation, &vec![1.0; input])?;
    let mut y = cuda.alloc(Role::Activation, output)?;
    cuda.relu_fprop(&x, &mut y)?;
    cuda.synchronize()
}

#[test]
fn an_overrun_is_trapped() {
    if gpu::real() || !cfg!(debug_assertions) {
        return;
    }
    for precision in Precision::ALL {
        let Some(cuda) = gpu::gpu(precision) else { return };
        if env::var(CHILD).is_ok_and(|name| name == precision.name()) {
            relu(&cuda, 1000, 1000).expect("a buffer that is long enough");
            // The output is one element too short. Beyond it is only the driver's rounding of allocations.
            let error = relu(&cuda, 1000, 999).expect_err("an output that is too short").to_string();
            assert!(error.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
            return;
        }
        if env::var_os(CHILD).is_some() {
            continue;
        }
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "overrun::an_overrun_is_trapped", "--nocapture"])
            .env(CHILD, precision.name())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{precision}: {said}\n{}", String::from_utf8_lossy(&child.stdout));
        assert!(said.contains("illegal address") && said.contains("[kernel relu_fprop"), "{precision}: {said}");
    }
}
