//! A macro that makes one test for each backend from a generic function.

/// For each function `fn statement<B: Backend>(backend: &B, arithmetic: Arithmetic)`: a module of its name, with a test
/// for each backend at each precision.
macro_rules! on_every_backend {
    ($($statement:ident),+ $(,)?) => {$(
        mod $statement {
            use crate::arithmetic::Arithmetic;

            #[test]
            fn cpu_f64() {
                super::$statement(&mlpconv::Cpu::<f64>::new(), Arithmetic::CpuF64);
            }

            #[test]
            fn cpu_f32() {
                super::$statement(&mlpconv::Cpu::<f32>::new(), Arithmetic::CpuF32);
            }

            on_every_backend!(@cuda $statement cuda_fp32 Fp32 CudaFp32);
            on_every_backend!(@cuda $statement cuda_tf32 Tf32 CudaTf32);
            on_every_backend!(@cuda $statement cuda_bf16 Bf16 CudaBf16);
        }
    )+};
    (@cuda $statement:ident $test:ident $precision:ident $arithmetic:ident) => {
        #[cfg(feature = "cuda")]
        #[test]
        fn $test() {
            if let Some(gpu) = crate::gpu::gpu(mlpconv::Precision::$precision) {
                super::$statement(&*gpu, Arithmetic::$arithmetic);
            }
        }
    };
}
