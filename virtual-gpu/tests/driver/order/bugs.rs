//! Planted bugs: work of two streams, or of a stream and the host, that nothing orders.

use super::*;

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
    } [format!("read of 4 bytes at {:#x}, 0 bytes into the allocation of 256 bytes at {0:#x}: ", w.a),
       format!("kernel `add` on {} wrote them", named(w.one)),
       format!("orders that before kernel `copy` on {}", named(w.two)), "[kernel copy, block (0, 0, 0), thread (0, 0, 0)"]

    a_kernel_reads_what_a_copy_of_another_stream_writes: |w| {
        w.to_device(w.a, w.one);
        w.copy(w.b, w.a, w.two);
    } [format!("a copy to the device on {} wrote them", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    a_copy_reads_what_a_kernel_of_another_stream_writes: |w| {
        w.add(w.a, w.one);
        w.to_host(w.a, w.two);
    } [format!("kernel `add` on {} wrote them", named(w.one)), format!("a copy to the host on {}", named(w.two))]

    a_kernel_writes_what_a_kernel_of_another_stream_reads: |w| {
        w.copy(w.b, w.a, w.one);
        w.add(w.a, w.two);
    } ["write of 4 bytes", format!("kernel `copy` on {} read them", named(w.one)), format!("kernel `add` on {}", named(w.two))]

    a_copy_writes_what_a_kernel_of_another_stream_reads: |w| {
        w.copy(w.b, w.a, w.one);
        w.to_device(w.a, w.two);
    } [format!("kernel `copy` on {} read them", named(w.one)), format!("a copy to the device on {}", named(w.two))]

    a_kernel_writes_what_a_copy_of_another_stream_reads: |w| {
        w.to_host(w.a, w.one);
        w.add(w.a, w.two);
    } [format!("a copy to the host on {} read them", named(w.one)), format!("kernel `add` on {}", named(w.two))]

    two_kernels_write_the_same_memory: |w| {
        w.copy(w.b, w.a, w.one);
        w.copy(w.b, w.a, w.two);
    } [format!("at {:#x}", w.b), format!("kernel `copy` on {} wrote them", named(w.one)),
       format!("kernel `copy` on {}", named(w.two))]

    a_memset_and_a_copy_write_the_same_memory: |w| {
        w.fill(w.a, w.one);
        w.to_device(w.a, w.two);
    } [format!("a memset on {} wrote them", named(w.one)), format!("a copy to the device on {}", named(w.two))]

    the_event_is_recorded_before_the_work: |w| {
        w.record(w.one);
        w.add(w.a, w.one);
        w.wait(w.two);
        w.copy(w.b, w.a, w.two);
    } [format!("kernel `add` on {} wrote them", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    the_wrong_event_is_waited_for: |w| {
        let (third, mut other) = (stream(NON_BLOCKING), null_mut());
        ok(unsafe { sys::cuEventCreate(&mut other, 0) });
        w.add(w.a, w.one);
        w.record(w.one);
        ok(unsafe { sys::cuEventRecord(other, third) });
        ok(unsafe { sys::cuStreamWaitEvent(w.two, other, 0) });
        w.copy(w.b, w.a, w.two);
    } [format!("kernel `add` on {} wrote them", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    the_wrong_stream_is_synchronized: |w| {
        w.add(w.a, w.one);
        ok(unsafe { sys::cuStreamSynchronize(w.two) });
        w.copy(w.b, w.a, w.two);
    } [format!("kernel `add` on {} wrote them", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    a_non_blocking_stream_does_not_wait_for_the_legacy_stream: |w| {
        w.fill(w.a, NO_STREAM);
        w.add(w.a, w.two);
    } ["a memset on the legacy stream wrote them", format!("kernel `add` on {}", named(w.two))]

    a_blocking_copy_does_not_wait_for_a_non_blocking_stream: |w| {
        w.add(w.a, w.one);
        let mut values = [0u32; THREADS as usize];
        let result = unsafe { sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), w.a, BYTES) };
        assert_eq!(result, CUDA_ERROR_LAUNCH_FAILED);
    } [format!("kernel `add` on {} wrote them", named(w.one)), "a copy to the host on the legacy stream"]

    the_first_of_two_readers_is_not_waited_for: |w| {
        let c = upload(&[0u32; THREADS as usize]);
        w.copy(w.b, w.a, w.one);
        w.copy(c, w.a, w.two);
        w.fill(w.a, w.two);
    } [format!("kernel `copy` on {} read them", named(w.one)), format!("a memset on {}", named(w.two))]

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
    } [format!("a memset on {} wrote them", named(w.one)), "before its release on the host"]

    memory_is_used_before_its_allocation: |w| {
        let a = w.alloc(w.one);
        w.fill(a, w.two);
    } [format!("an allocation on {} allocated them", named(w.one)), format!("a memset on {}", named(w.two))]

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
    } [format!("a memset on {} wrote them", named(w.two)), format!("kernel `add` on {}", named(w.one))]

    a_stream_does_not_wait_for_a_replayed_graph: |w| {
        let exec = captured(w, || w.add(w.a, w.one));
        ok(unsafe { sys::cuGraphLaunch(exec, w.one) });
        w.copy(w.b, w.a, w.two);
    } [format!("kernel `add` on {} wrote them", named(w.one)), format!("kernel `copy` on {}", named(w.two))]

    a_plain_write_races_with_an_atomic: |w| {
        w.bump(w.a, w.one);
        w.add(w.a, w.two);
    } [format!("kernel `bump` on {} wrote them", named(w.one)), format!("kernel `add` on {}", named(w.two))]
}
