//! Programs that look like the planted bugs, with everything in order.

use super::*;

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

    launches_of_one_graph_follow_each_other: |w| {
        let exec = captured(w, || w.add(w.a, w.one));
        ok(unsafe { sys::cuGraphLaunch(exec, w.one) });
        ok(unsafe { sys::cuGraphLaunch(exec, w.two) });
        w.copy(w.b, w.a, w.two);
        ok(unsafe { sys::cuGraphExecDestroy(exec) });
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
