//! Order between streams: work that nothing orders is a trap which names both sides, and everything that CUDA promises to
//! order is none.
//!
//! The diagnosis is printed on stderr, so each planted bug runs in a process of its own: the test starts itself again.

mod bugs;
mod correct;

use std::process::Command;

use super::*;
use sys::CUevent;

/// `copy(to, from)`: thread i copies word i. `bump(to)`: every thread adds 1 to the first word.
const KERNELS: &str = ".version 7.0
.target sm_70
.address_size 64
.visible .entry copy(.param .u64 to, .param .u64 from)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [to];
    ld.param.u64 %rd2, [from];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    ld.global.u32 %r2, [%rd5];
    st.global.u32 [%rd4], %r2;
    ret;
}
.visible .entry bump(.param .u64 bump_to)
{
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [bump_to];
    red.global.add.u32 [%rd1], 1;
    ret;
}
";

/// Two streams that nothing orders, and what the tests use on them.
struct World {
    one: CUstream,
    two: CUstream,
    add: CUfunction,
    copy: CUfunction,
    bump: CUfunction,
    a: CUdeviceptr,
    b: CUdeviceptr,
    host: *mut c_void,
    event: CUevent,
    _context: Context,
}

const THREADS: u32 = 64;
const BYTES: usize = 4 * THREADS as usize;

impl World {
    fn new() -> World {
        let context = context();
        let (mut host, mut event, module) = (null_mut(), null_mut(), load(KERNELS).unwrap());
        ok(unsafe { sys::cuMemHostAlloc(&mut host, BYTES, 0) });
        unsafe { host.cast::<u8>().write_bytes(3, BYTES) };
        ok(unsafe { sys::cuEventCreate(&mut event, 0) });
        let [a, b] = [1u32, 2].map(|value| upload(&[value; THREADS as usize]));
        let (one, two) = (stream(NON_BLOCKING), stream(NON_BLOCKING));
        let (copy, bump) = (function(module, "copy"), function(module, "bump"));
        World { one, two, add: adder(), copy, bump, a, b, host, event, _context: context }
    }

    fn add(&self, to: CUdeviceptr, stream: CUstream) {
        ok(add(self.add, stream, to, 1, THREADS));
    }

    fn copy(&self, to: CUdeviceptr, from: CUdeviceptr, stream: CUstream) {
        ok(launch(self.copy, THREADS, 0, stream, &[pointer(&to), pointer(&from)]));
    }

    fn bump(&self, to: CUdeviceptr, stream: CUstream) {
        ok(launch(self.bump, THREADS, 0, stream, &[pointer(&to)]));
    }

    fn fill(&self, to: CUdeviceptr, stream: CUstream) {
        ok(unsafe { sys::cuMemsetD32Async(to, 9, THREADS as usize, stream) });
    }

    fn to_device(&self, to: CUdeviceptr, stream: CUstream) {
        ok(unsafe { sys::cuMemcpyHtoDAsync_v2(to, self.host, BYTES, stream) });
    }

    fn to_host(&self, from: CUdeviceptr, stream: CUstream) {
        ok(unsafe { sys::cuMemcpyDtoHAsync_v2(self.host, from, BYTES, stream) });
    }

    fn rewrite(&self) {
        unsafe { self.host.cast::<u32>().add(5).write_volatile(77) };
    }

    fn record(&self, stream: CUstream) {
        ok(unsafe { sys::cuEventRecord(self.event, stream) });
    }

    fn wait(&self, stream: CUstream) {
        ok(unsafe { sys::cuStreamWaitEvent(stream, self.event, 0) });
    }

    /// Orders the second stream behind the first by an event.
    fn then(&self) {
        self.record(self.one);
        self.wait(self.two);
    }

    fn alloc(&self, stream: CUstream) -> CUdeviceptr {
        let mut address = 0;
        ok(unsafe { sys::cuMemAllocAsync(&mut address, BYTES, stream) });
        address
    }

    fn free(&self, address: CUdeviceptr, stream: CUstream) {
        ok(unsafe { sys::cuMemFreeAsync(address, stream) });
    }
}

fn synchronize() -> CUresult {
    unsafe { sys::cuCtxSynchronize() }
}

fn named(stream: CUstream) -> String {
    format!("stream {:#x}", stream as usize)
}

const CHILD: &str = "VIRTUAL_GPU_ORDER_TEST";
const EXPECTED: &str = "expected: ";

/// Runs a planted bug, which returns the texts that the line of its diagnosis must hold.
fn caught(test: &str, bug: impl FnOnce(&World) -> Vec<String>) {
    if real() {
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        let world = World::new();
        for text in bug(&world) {
            println!("\n{EXPECTED}{text}");
        }
        assert_eq!(synchronize(), CUDA_ERROR_LAUNCH_FAILED);
        assert_eq!(synchronize(), CUDA_ERROR_LAUNCH_FAILED, "it sticks");
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("order::bugs::{test}"), "--nocapture"]).env(CHILD, "1");
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let lines: Vec<&str> = err.lines().filter(|line| line.contains("race between streams")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    let expected: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix(EXPECTED)).collect();
    assert!(!expected.is_empty(), "{out}");
    for text in expected {
        assert!(lines[0].contains(text), "`{text}` is not in: {}", lines[0]);
    }
}

/// Captures work that begins on the first stream.
fn captured(w: &World, work: impl FnOnce()) -> sys::CUgraphExec {
    let (mut graph, mut exec) = (null_mut(), null_mut());
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    ok(unsafe { sys::cuStreamBeginCapture_v2(w.one, mode) });
    work();
    ok(unsafe { sys::cuStreamEndCapture(w.one, &mut graph) });
    ok(unsafe { sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0) });
    exec
}
