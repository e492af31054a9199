//! Order between streams: work that nothing orders is a trap which names both sides, and everything that CUDA promises to
//! order is none.
//!
//! The diagnosis is printed on stderr, so each planted bug runs in a process of its own: the test starts itself again.

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
    command.args(["--exact", &format!("order::{test}"), "--nocapture"]).env(CHILD, "1");
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

macro_rules! bugs {
    ($($name:ident: |$world:ident| $body:block [$($text:expr),*])*) => {$(
        #[test]
        fn $name() {
            caught(stringify!($name), |$world| {
                $body
                vec![$($text.to_string()),*]
            });
        }
    )*};
}

bugs! {
    a_kernel_reads_what_a_kernel_of_another_stream_writes: |w| {
        w.add(w.a, w.one);
        w.copy(w.b, w.a, w.two);
    } [format!("read of 4 bytes, of which those at {:#x} (0 bytes into the allocation of 256 bytes", w.a),
       format!("kernel `add` on {} wrote it", named(w.one)),
       format!("orders that before kernel `copy` on {}", named(w.two)), "[kernel copy, block (0, 0, 0), thread (0, 0, 0)"]

    a_kernel_reads_what_a_copy_of_another_stream_writes: |w| {
        w.to_device(w.a, w.one);
        w.copy(w.b, w.a, w.two);
    } [format!("a copy to the device on {} wrote it", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    a_copy_reads_what_a_kernel_of_another_stream_writes: |w| {
        w.add(w.a, w.one);
        w.to_host(w.a, w.two);
    } [format!("kernel `add` on {} wrote it", named(w.one)), format!("a copy to the host on {}", named(w.two))]

    a_kernel_writes_what_a_kernel_of_another_stream_reads: |w| {
        w.copy(w.b, w.a, w.one);
        w.add(w.a, w.two);
    } ["write of 4 bytes", format!("kernel `copy` on {} read it", named(w.one)), format!("kernel `add` on {}", named(w.two))]

    a_copy_writes_what_a_kernel_of_another_stream_reads: |w| {
        w.copy(w.b, w.a, w.one);
        w.to_device(w.a, w.two);
    } [format!("kernel `copy` on {} read it", named(w.one)), format!("a copy to the device on {}", named(w.two))]

    a_kernel_writes_what_a_copy_of_another_stream_reads: |w| {
        w.to_host(w.a, w.one);
        w.add(w.a, w.two);
    } [format!("a copy to the host on {} read it", named(w.one)), format!("kernel `add` on {}", named(w.two))]

    two_kernels_write_the_same_memory: |w| {
        w.copy(w.b, w.a, w.one);
        w.copy(w.b, w.a, w.two);
    } [format!("at {:#x}", w.b), format!("kernel `copy` on {} wrote it", named(w.one)),
       format!("kernel `copy` on {}", named(w.two))]

    a_memset_and_a_copy_write_the_same_memory: |w| {
        w.fill(w.a, w.one);
        w.to_device(w.a, w.two);
    } [format!("a memset on {} wrote it", named(w.one)), format!("a copy to the device on {}", named(w.two))]

    the_event_is_recorded_before_the_work: |w| {
        w.record(w.one);
        w.add(w.a, w.one);
        w.wait(w.two);
        w.copy(w.b, w.a, w.two);
    } [format!("kernel `add` on {} wrote it", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    the_wrong_event_is_waited_for: |w| {
        let (third, mut other) = (stream(NON_BLOCKING), null_mut());
        ok(unsafe { sys::cuEventCreate(&mut other, 0) });
        w.add(w.a, w.one);
        w.record(w.one);
        ok(unsafe { sys::cuEventRecord(other, third) });
        ok(unsafe { sys::cuStreamWaitEvent(w.two, other, 0) });
        w.copy(w.b, w.a, w.two);
    } [format!("kernel `add` on {} wrote it", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    the_wrong_stream_is_synchronized: |w| {
        w.add(w.a, w.one);
        ok(unsafe { sys::cuStreamSynchronize(w.two) });
        w.copy(w.b, w.a, w.two);
    } [format!("kernel `add` on {} wrote it", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    a_non_blocking_stream_does_not_wait_for_the_legacy_stream: |w| {
        w.fill(w.a, NO_STREAM);
        w.add(w.a, w.two);
    } ["a memset on the legacy stream wrote it", format!("kernel `add` on {}", named(w.two))]

    a_blocking_copy_does_not_wait_for_a_non_blocking_stream: |w| {
        w.add(w.a, w.one);
        let mut values = [0u32; THREADS as usize];
        let result = unsafe { sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), w.a, BYTES) };
        assert_eq!(result, CUDA_ERROR_LAUNCH_FAILED);
    } [format!("kernel `add` on {} wrote it", named(w.one)), "a copy to the host on the legacy stream"]

    the_first_of_two_readers_is_not_waited_for: |w| {
        let c = upload(&[0u32; THREADS as usize]);
        w.copy(w.b, w.a, w.one);
        w.copy(c, w.a, w.two);
        w.fill(w.a, w.two);
    } [format!("kernel `copy` on {} read it", named(w.one)), format!("a memset on {}", named(w.two))]

    memory_is_freed_before_another_stream_has_used_it: |w| {
        let a = w.alloc(w.one);
        w.fill(a, w.one);
        w.then();
        w.add(a, w.two);
        w.free(a, w.one);
    } ["release of 256 bytes", format!("kernel `add` on {}", named(w.two)), format!("before its release on {}", named(w.one))]

    memory_of_a_pool_is_freed_by_the_host_before_it_has_waited: |w| {
        let a = w.alloc(w.one);
        w.fill(a, w.one);
        assert_eq!(unsafe { sys::cuMemFree_v2(a) }, CUDA_ERROR_LAUNCH_FAILED);
    } [format!("a memset on {} wrote it", named(w.one)), "before its release on the host"]

    memory_is_used_before_its_allocation: |w| {
        let a = w.alloc(w.one);
        w.fill(a, w.two);
    } [format!("an allocation on {} allocated it", named(w.one)), format!("a memset on {}", named(w.two))]

    the_host_rewrites_the_source_of_a_copy: |w| {
        w.to_device(w.a, w.one);
        w.rewrite();
        assert_eq!(unsafe { sys::cuStreamSynchronize(w.one) }, CUDA_ERROR_LAUNCH_FAILED);
    } ["the host wrote to the 256 bytes", format!("the source of an asynchronous copy on {}", named(w.one))]

    the_host_writes_to_the_destination_of_a_copy: |w| {
        w.to_host(w.a, w.one);
        w.rewrite();
        w.record(w.one);
        assert_eq!(unsafe { sys::cuEventSynchronize(w.event) }, CUDA_ERROR_LAUNCH_FAILED);
    } ["the host wrote to the 256 bytes", format!("the destination of an asynchronous copy on {}", named(w.one))]

    the_host_rewrites_a_source_after_waiting_for_an_earlier_event: |w| {
        w.record(w.one);
        w.to_device(w.a, w.one);
        ok(unsafe { sys::cuEventSynchronize(w.event) });
        w.rewrite();
        assert_eq!(unsafe { sys::cuMemFreeHost(w.host) }, CUDA_ERROR_LAUNCH_FAILED);
    } ["the host wrote to the 256 bytes", format!("the source of an asynchronous copy on {}", named(w.one))]

    a_copy_overwrites_the_source_of_another_stream: |w| {
        w.to_device(w.a, w.one);
        w.to_host(w.b, w.two);
    } [format!("a copy on {} writes 256 bytes of host memory", named(w.two)), format!("the source of a copy on {}", named(w.one))]

    a_replayed_graph_does_not_wait_for_another_stream: |w| {
        let exec = captured(w, || w.add(w.a, w.one));
        w.fill(w.a, w.two);
        ok(unsafe { sys::cuGraphLaunch(exec, w.one) });
    } [format!("a memset on {} wrote it", named(w.two)), format!("kernel `add` on {}", named(w.one))]

    a_stream_does_not_wait_for_a_replayed_graph: |w| {
        let exec = captured(w, || w.add(w.a, w.one));
        ok(unsafe { sys::cuGraphLaunch(exec, w.one) });
        w.copy(w.b, w.a, w.two);
    } [format!("kernel `add` on {} wrote it", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    a_plain_write_races_with_an_atomic: |w| {
        w.bump(w.a, w.one);
        w.add(w.a, w.two);
    } [format!("kernel `bump` on {} wrote it", named(w.one)), format!("kernel `add` on {}", named(w.two))]
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

macro_rules! correct {
    ($($name:ident: |$world:ident| $body:block)*) => {$(
        #[test]
        fn $name() {
            let $world = &World::new();
            $body
            ok(synchronize());
        }
    )*};
}

correct! {
    an_event_orders_two_streams: |w| {
        w.to_device(w.a, w.one);
        w.add(w.a, w.one);
        w.then();
        w.copy(w.b, w.a, w.two);
        w.fill(w.a, w.two);
        w.to_host(w.b, w.two);
    }

    an_event_orders_what_came_before_through_a_third_stream: |w| {
        let third = stream(NON_BLOCKING);
        w.add(w.a, w.one);
        w.record(w.one);
        w.wait(third);
        w.record(third);
        w.wait(w.two);
        w.copy(w.b, w.a, w.two);
    }

    every_synchronisation_orders_what_follows: |w| {
        let waits: [&dyn Fn(); 7] = [
            &|| ok(synchronize()),
            &|| ok(unsafe { sys::cuStreamSynchronize(w.one) }),
            &|| {
                w.record(w.one);
                ok(unsafe { sys::cuEventSynchronize(w.event) });
            },
            &|| {
                w.record(w.one);
                while unsafe { sys::cuEventQuery(w.event) } != CUDA_SUCCESS {}
            },
            &|| while unsafe { sys::cuStreamQuery(w.one) } != CUDA_SUCCESS {},
            &|| ok(unsafe { sys::cuMemFree_v2(alloc(64)) }),
            &|| {
                // A copy to pageable memory has ended when the call returns.
                let mut value = 0u32;
                ok(unsafe { sys::cuMemcpyDtoHAsync_v2((&raw mut value).cast(), w.b, 4, w.one) });
            },
        ];
        for wait in waits {
            w.to_device(w.a, w.one);
            w.add(w.a, w.one);
            wait();
            w.rewrite();
            w.copy(w.b, w.a, w.two);
            ok(unsafe { sys::cuStreamSynchronize(w.two) });
        }
    }

    the_legacy_stream_is_in_order_with_blocking_streams: |w| {
        let (first, second) = (stream(0), stream(0));
        for _ in 0..2 {
            w.add(w.a, first);
            w.add(w.a, NO_STREAM);
            w.copy(w.b, w.a, second);
            assert_eq!(download::<u32>(w.b, 1).len(), 1);
        }
    }

    streams_that_use_different_memory_need_no_order: |w| {
        for _ in 0..3 {
            w.add(w.a, w.one);
            w.add(w.b, w.two);
        }
    }

    streams_that_share_bytes_of_a_word_need_no_order: |w| {
        ok(unsafe { sys::cuMemsetD8Async(w.a, 1, 7, w.one) });
        ok(unsafe { sys::cuMemsetD8Async(w.a + 7, 2, 9, w.two) });
        ok(unsafe { sys::cuMemcpyDtoDAsync_v2(w.b, w.a, 7, w.one) });
        ok(unsafe { sys::cuMemcpyDtoDAsync_v2(w.b + 7, w.a + 7, 9, w.two) });
    }

    several_streams_may_read_the_same_memory: |w| {
        let [c, d] = [0u32, 0].map(|value| upload(&[value; THREADS as usize]));
        let third = stream(NON_BLOCKING);
        w.copy(w.b, w.a, w.one);
        w.copy(c, w.a, w.two);
        w.copy(d, w.a, third);
        w.to_host(w.a, w.two);
        ok(synchronize());
        w.fill(w.a, w.one);
    }

    atomics_of_two_streams_need_no_order: |w| {
        w.bump(w.a, w.one);
        w.bump(w.a, w.two);
        ok(synchronize());
        assert_eq!(download::<u32>(w.a, 1), [1 + 2 * THREADS]);
    }

    a_host_function_tells_the_host_what_its_stream_has_done: |w| {
        extern "C" fn tell(data: *mut c_void) {
            let _ = unsafe { Box::from_raw(data.cast::<std::sync::mpsc::Sender<()>>()) }.send(());
        }
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        w.add(w.a, w.one);
        ok(unsafe { sys::cuLaunchHostFunc(w.one, Some(tell), Box::into_raw(Box::new(sender)).cast()) });
        receiver.recv().unwrap();
        w.copy(w.b, w.a, w.two);
    }

    work_behind_a_host_function_follows_what_let_it_go: |w| {
        extern "C" fn hold(data: *mut c_void) {
            let _ = unsafe { Box::from_raw(data.cast::<std::sync::mpsc::Receiver<()>>()) }.recv();
        }
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        ok(unsafe { sys::cuLaunchHostFunc(w.one, Some(hold), Box::into_raw(Box::new(receiver)).cast()) });
        w.copy(w.b, w.a, w.one);
        w.add(w.a, w.two);
        ok(unsafe { sys::cuStreamSynchronize(w.two) });
        sender.send(()).unwrap();
    }

    a_host_function_may_rewrite_what_its_stream_has_copied: |w| {
        extern "C" fn rewrite(data: *mut c_void) {
            unsafe { data.cast::<u32>().write_volatile(123) };
        }
        w.to_device(w.a, w.one);
        ok(unsafe { sys::cuLaunchHostFunc(w.one, Some(rewrite), w.host) });
        w.to_device(w.a, w.one);
        w.to_host(w.a, w.one);
        ok(synchronize());
        assert_eq!(download::<u32>(w.a, 1), [123]);
    }

    a_graph_forks_and_joins_and_is_replayed: |w| {
        let exec = captured(w, || {
            w.add(w.a, w.one);
            w.then();
            w.copy(w.b, w.a, w.two);
            w.to_host(w.b, w.two);
            w.record(w.two);
            w.wait(w.one);
            w.add(w.a, w.one);
        });
        for _ in 0..3 {
            ok(unsafe { sys::cuGraphLaunch(exec, w.one) });
        }
        w.then();
        w.add(w.a, w.two);
        ok(unsafe { sys::cuGraphLaunch(exec, w.two) });
    }

    memory_of_a_pool_is_reused_in_stream_order: |w| {
        for _ in 0..3 {
            let a = w.alloc(w.one);
            w.fill(a, w.one);
            w.then();
            w.add(a, w.two);
            w.free(a, w.two);
            w.record(w.two);
            w.wait(w.one);
            let b = w.alloc(w.one);
            w.fill(b, w.one);
            w.free(b, w.one);
        }
    }

    a_destroyed_streams_work_is_waited_for_by_the_context: |w| {
        for _ in 0..3 {
            let gone = stream(NON_BLOCKING);
            w.add(w.a, gone);
            ok(unsafe { sys::cuStreamDestroy_v2(gone) });
            ok(synchronize());
            w.add(w.a, w.one);
            ok(unsafe { sys::cuStreamSynchronize(w.one) });
        }
    }

    copies_of_one_stream_may_pass_data_through_one_buffer: |w| {
        for _ in 0..3 {
            w.to_host(w.a, w.one);
            w.to_device(w.b, w.one);
            w.add(w.b, w.one);
            w.to_host(w.b, w.one);
        }
    }
}
