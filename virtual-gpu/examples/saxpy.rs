//! y ← a·x + y on the CUDA driver of this machine: uploads, launches, captures a graph, replays it, times it,
//! downloads.
//!
//! The example does not depend on the virtual GPU. On a machine with a card, run it as it is; on one without:
//!
//! ```sh
//! cargo build -p virtual-gpu --example saxpy
//! LD_PRELOAD=target/debug/libvirtual_gpu.so target/debug/examples/saxpy
//! ```

use cudarc::driver::sys::{self, CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

const SAXPY: &str = "
.version 7.0
.target sm_70
.address_size 64

.visible .entry saxpy(
    .param .u64 saxpy_y,
    .param .u64 saxpy_x,
    .param .f32 saxpy_a,
    .param .u32 saxpy_n
)
{
    .reg .pred %p<2>;
    .reg .f32 %f<5>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;

    ld.param.u64 %rd1, [saxpy_y];
    ld.param.u64 %rd2, [saxpy_x];
    ld.param.f32 %f1, [saxpy_a];
    ld.param.u32 %r1, [saxpy_n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $DONE;

    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r5, 4;
    add.s64 %rd6, %rd3, %rd5;
    add.s64 %rd7, %rd4, %rd5;
    ld.global.f32 %f2, [%rd7];
    ld.global.f32 %f3, [%rd6];
    fma.rn.f32 %f4, %f1, %f2, %f3;
    st.global.f32 [%rd6], %f4;

$DONE:
    ret;
}
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // SAFETY: only looks for the library. cudarc panics if it is missing, so it is looked up first.
    if !unsafe { sys::is_culib_present() } {
        return Err("no CUDA driver".into());
    }
    let context = CudaContext::new(0)?;
    // SAFETY: only one stream uses the buffers, in order.
    unsafe { context.disable_event_tracking() };
    println!("{}, compute capability {:?}", context.name()?, context.compute_capability()?);

    let stream = context.new_stream()?;
    let function = context.load_module(Ptx::from_src(SAXPY))?.load_function("saxpy")?;

    // No block size divides this length.
    let (n, a) = (10_007_u32, 0.5_f32);
    let host_x: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let x = stream.clone_htod(&host_x)?;
    let mut y = stream.alloc_zeros::<f32>(n as usize)?;

    let config = LaunchConfig::for_num_elems(n);
    let enqueue = |y: &mut cudarc::driver::CudaSlice<f32>| {
        let mut launch = stream.launch_builder(&function);
        launch.arg(y).arg(&x).arg(&a).arg(&n);
        // SAFETY: the arguments are the kernel's parameters, and the buffers hold n elements.
        unsafe { launch.launch(config) }
    };
    enqueue(&mut y)?;

    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    enqueue(&mut y)?;
    enqueue(&mut y)?;
    let graph = stream.end_capture(CUgraphInstantiate_flags(0))?.ok_or("nothing was captured")?;

    let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
    for _ in 0..3 {
        graph.launch()?;
    }
    let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;

    let result = stream.clone_dtoh(&y)?;
    stream.synchronize()?;
    println!("three replays took {:.3} ms", start.elapsed_ms(&end)?);

    // One launch and three replays of two: 7 · a · x, exact in f32.
    for (i, (y, x)) in result.iter().zip(&host_x).enumerate() {
        if *y != 7.0 * a * x {
            return Err(format!("y[{i}] is {y}, not {}", 7.0 * a * x).into());
        }
    }
    println!("{n} results are right");
    Ok(())
}
