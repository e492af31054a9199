//! Several devices. The tests in `two`, and in `peers`, do nothing where there is one, as in this process; one test here
//! runs them in a process of its own that has two.

use std::ffi::CStr;

use super::*;
use sys::CUcontext;

fn count() -> i32 {
    start();
    let mut count = 0;
    ok(unsafe { sys::cuDeviceGetCount(&mut count) });
    count
}

#[test]
fn an_ordinal_that_does_not_exist_is_an_invalid_device() {
    start();
    let (none, mut number, mut bytes, mut context) = (count(), 0, 0, null_mut());
    for device in [none, -1, i32::MAX] {
        let results = unsafe {
            [
                sys::cuDeviceGet(&mut number, device),
                sys::cuDeviceTotalMem_v2(&mut bytes, device),
                sys::cuCtxCreate_v2(&mut context, 0, device),
                sys::cuDevicePrimaryCtxRetain(&mut context, device),
                sys::cuDevicePrimaryCtxRelease_v2(device),
                sys::cuDeviceCanAccessPeer(&mut number, 0, device),
                sys::cuDeviceGetP2PAttribute(
                    &mut number,
                    sys::CUdevice_P2PAttribute::CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED,
                    device,
                    0,
                ),
            ]
        };
        assert_eq!(results, [CUDA_ERROR_INVALID_DEVICE; 7], "{device}");
    }
    assert!(
        real() || none > 1 || std::env::var("VIRTUAL_GPU_DEVICES").is_err(),
        "one device, unless more are asked for"
    );
}

#[test]
fn two_devices_pass_their_tests_and_explain_each_trap() {
    if real() || count() > 1 {
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["devices::", "peers::", "--nocapture"])
        .env("VIRTUAL_GPU_DEVICES", "2")
        .env("VIRTUAL_GPU_MEMORY", "1G");
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("14 passed"), "{out}\n{err}");
    for line in [
        " on device 1: the context has no peer access to it (cuCtxEnablePeerAccess) [kernel store",
        " in a memory pool of device 1: the kernel's device has no access to it, which peer access does not give \
         (cuMemPoolSetAccess) [kernel store",
        "launch of add: it was loaded on device 0, and the context is on device 1",
        " is on device 0, and its context is on device 1",
        "kernel `add` on the legacy stream of context ",
    ] {
        assert!(err.lines().any(|found| found.contains(line)), "{line}\n{err}");
    }
}

pub mod two {
    use super::*;
    use sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;

    /// A context on each of two devices.
    pub struct Pair {
        pub one: CUcontext,
        pub zero: Context,
    }

    impl Drop for Pair {
        fn drop(&mut self) {
            unsafe { sys::cuCtxDestroy_v2(self.one) };
        }
    }

    /// The context of device 0 is current.
    pub fn pair() -> Option<Pair> {
        let (zero, mut one) = (context(), null_mut());
        if count() < 2 {
            return None;
        }
        ok(unsafe { sys::cuCtxCreate_v2(&mut one, 0, 1) });
        ok(unsafe { sys::cuCtxPopCurrent_v2(null_mut()) });
        Some(Pair { one, zero })
    }

    fn within<T>(context: CUcontext, body: impl FnOnce() -> T) -> T {
        ok(unsafe { sys::cuCtxPushCurrent_v2(context) });
        let result = body();
        ok(unsafe { sys::cuCtxPopCurrent_v2(null_mut()) });
        result
    }

    impl Pair {
        pub fn on_one<T>(&self, body: impl FnOnce() -> T) -> T {
            within(self.one, body)
        }
    }

    pub fn ordinal(address: CUdeviceptr) -> i32 {
        let mut device = -1;
        ok(unsafe {
            sys::cuPointerGetAttribute((&raw mut device).cast(), CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address)
        });
        device
    }

    fn free_bytes() -> usize {
        let (mut free, mut total) = (0, 0);
        ok(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) });
        free
    }

    pub fn wait() -> CUresult {
        unsafe { sys::cuCtxSynchronize() }
    }

    #[test]
    fn devices_are_told_apart_by_uuid_and_pci_address() {
        let Some(_pair) = pair() else { return };
        let mut seen = Vec::new();
        for device in [0, 1] {
            let (mut found, mut number, mut id, mut name) = (-1, -1, [0; 32], [0; 64]);
            let mut uuid: sys::CUuuid = unsafe { std::mem::zeroed() };
            ok(unsafe { sys::cuDeviceGet(&mut found, device) });
            assert_eq!(found, device);
            ok(unsafe { sys::cuDeviceGetUuid_v2(&mut uuid, device) });
            ok(unsafe { sys::cuDeviceGetPCIBusId(id.as_mut_ptr(), 32, device) });
            ok(unsafe { sys::cuDeviceGetByPCIBusId(&mut found, id.as_ptr()) });
            assert_eq!(found, device, "the way back");
            let bus = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID;
            ok(unsafe { sys::cuDeviceGetAttribute(&mut number, bus, device) });
            ok(unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), 64, device) });
            let [id, name] = [&id[..], &name[..]].map(|text| unsafe { CStr::from_ptr(text.as_ptr()) }.to_owned());
            assert!(id.to_str().unwrap().to_lowercase().contains(&format!(":{number:02x}:")), "{id:?} {number}");
            seen.push((uuid.bytes, id, name));
        }
        assert!(seen[0].0 != seen[1].0 && seen[0].1 != seen[1].1, "{seen:?}");
        assert!(real() || seen[0].2 != seen[1].2, "{seen:?}");
        let mut found = 0;
        assert_eq!(
            unsafe { sys::cuDeviceGetByPCIBusId(&mut found, c"7fff:1f:00.0".as_ptr()) },
            CUDA_ERROR_INVALID_DEVICE
        );
        let nowhere = unsafe { sys::cuDeviceGetByPCIBusId(&mut found, c"nowhere".as_ptr()) };
        assert!(nowhere == CUDA_ERROR_INVALID_VALUE || real() && nowhere == CUDA_ERROR_INVALID_DEVICE);
    }

    #[test]
    fn contexts_streams_and_memory_belong_to_their_device() {
        let Some(pair) = pair() else { return };
        let device = || {
            let (mut device, mut stream_device, stream) = (-1, -1, stream(NON_BLOCKING));
            ok(unsafe { sys::cuCtxGetDevice(&mut device) });
            if !real() {
                let of: extern "C" fn(CUstream, *mut i32) -> CUresult =
                    unsafe { std::mem::transmute(symbol("cuStreamGetDevice")) };
                ok(of(stream, &mut stream_device));
                assert_eq!(stream_device, device);
            }
            device
        };
        assert_eq!((device(), pair.on_one(device)), (0, 1));
        let before = (free_bytes(), pair.on_one(free_bytes));
        let (a, b) = (alloc(8 << 20), pair.on_one(|| alloc(64 << 20)));
        assert_eq!((ordinal(a), ordinal(b), pair.on_one(|| ordinal(a))), (0, 1, 0));
        assert!(before.0 - free_bytes() < 64 << 20, "the other device's memory");
        assert!(before.1 - pair.on_one(free_bytes) >= 64 << 20);
        let pinned = || {
            let mut pinned = null_mut();
            ok(unsafe { sys::cuMemHostAlloc(&mut pinned, 64, 0) });
            pinned
        };
        for (device, pages) in [(0, pinned()), (1, pair.on_one(pinned))] {
            assert_eq!(ordinal(pages as CUdeviceptr), device);
            ok(unsafe { sys::cuMemFreeHost(pages) });
        }
        // Freed from the other device's context.
        ok(unsafe { sys::cuMemFree_v2(b) });
        assert_eq!(pair.on_one(free_bytes), before.1);
        ok(unsafe { sys::cuMemFree_v2(a) });
    }

    #[test]
    fn each_device_has_all_its_memory() {
        let Some(pair) = pair() else { return };
        if real() {
            return;
        }
        let (mut address, bytes) = (0, 700 << 20);
        let mut fits = || unsafe { sys::cuMemAlloc_v2(&mut address, bytes) };
        assert_eq!((fits(), fits()), (CUDA_SUCCESS, CUDA_ERROR_OUT_OF_MEMORY));
        assert_eq!(pair.on_one(|| (fits(), fits())), (CUDA_SUCCESS, CUDA_ERROR_OUT_OF_MEMORY));
    }

    #[test]
    fn each_device_has_a_primary_context() {
        let Some(_pair) = pair() else { return };
        let primary = |device| {
            let mut context = null_mut();
            ok(unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, device) });
            context
        };
        let active = |device| {
            let (mut flags, mut active) = (0, 0);
            ok(unsafe { sys::cuDevicePrimaryCtxGetState(device, &mut flags, &mut active) });
            active
        };
        assert_eq!((active(0), active(1)), (0, 0));
        let (one, zero) = (primary(1), primary(0));
        assert!(one != zero && one == primary(1));
        assert_eq!((active(0), active(1)), (1, 1));
        let kept = within(one, || upload(&[5u32]));
        ok(unsafe { sys::cuDevicePrimaryCtxRelease_v2(0) });
        assert_eq!((active(0), active(1)), (0, 1));
        assert_eq!((within(one, || download::<u32>(kept, 1)), ordinal(kept)), (vec![5], 1));
        ok(unsafe { sys::cuDevicePrimaryCtxReset_v2(1) });
        within(one, || {
            let mut device = -1;
            ok(unsafe { sys::cuCtxGetDevice(&mut device) });
            assert_eq!(device, 1, "after a reset as before");
            assert_eq!(unsafe { sys::cuMemFree_v2(kept) }, CUDA_ERROR_INVALID_VALUE, "freed by the reset");
        });
        ok(unsafe { sys::cuDevicePrimaryCtxRelease_v2(1) });
        ok(unsafe { sys::cuDevicePrimaryCtxRelease_v2(1) });
        assert_eq!(active(1), 0);
    }

    #[test]
    fn copies_between_devices_need_no_peer_access() {
        let Some(pair) = pair() else { return };
        let values: Vec<u32> = (0..1000).collect();
        let (from, to) = (upload(&values), pair.on_one(|| alloc(4000)));
        let (zero, one, stream) = (pair.zero.handle, pair.one, stream(NON_BLOCKING));
        type Way<'a> = &'a dyn Fn() -> CUresult;
        let ways: [Way; 6] = [
            &|| unsafe { sys::cuMemcpyPeer(to, one, from, zero, 4000) },
            &|| unsafe { sys::cuMemcpyPeerAsync(to, one, from, zero, 4000, stream) },
            &|| unsafe { sys::cuMemcpyDtoD_v2(to, from, 4000) },
            &|| unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, 4000, stream) },
            &|| unsafe { sys::cuMemcpy(to, from, 4000) },
            &|| unsafe { sys::cuMemcpyAsync(to, from, 4000, stream) },
        ];
        for (index, way) in ways.into_iter().enumerate() {
            pair.on_one(|| {
                ok(unsafe { sys::cuMemsetD32_v2(to, 77, 1000) });
                ok(wait());
            });
            ok(way());
            ok(wait());
            assert_eq!(pair.on_one(|| download::<u32>(to, 1000)), values, "way {index}");
        }
        // Either context may be current, and the host reads both devices.
        assert_eq!(download::<u32>(to, 3), [0, 1, 2]);
        pair.on_one(|| ok(unsafe { sys::cuMemcpyPeer(from, zero, to + 4, one, 8) }));
        assert_eq!(download::<u32>(from, 3), [1, 2, 2]);
        if !real() {
            // Each address must be of its own context's device.
            let wrong = unsafe { sys::cuMemcpyPeer(to, one, from, one, 8) };
            assert_eq!(wrong, CUDA_ERROR_INVALID_VALUE);
            let past = unsafe { sys::cuMemcpyPeer(to, one, from, zero, 4001) };
            assert_eq!(past, CUDA_ERROR_INVALID_VALUE);
        }
        assert_ne!(unsafe { sys::cuMemcpyPeer(to, null_mut(), from, zero, 8) }, CUDA_SUCCESS);
    }

    #[test]
    fn managed_memory_belongs_to_all_devices() {
        let Some(pair) = pair() else { return };
        let mut address = 0;
        ok(unsafe { sys::cuMemAllocManaged(&mut address, 4096, 1) });
        ok(unsafe { sys::cuMemsetD32_v2(address, 1, 4) });
        ok(add(adder(), NO_STREAM, address, 1, 4));
        ok(wait());
        pair.on_one(|| {
            ok(add(adder(), NO_STREAM, address, 10, 4));
            ok(wait());
        });
        assert_eq!(download::<u32>(address, 4), [12; 4]);
        let advice = sys::CUmem_advise::CU_MEM_ADVISE_SET_ACCESSED_BY;
        let advise: extern "C" fn(CUdeviceptr, usize, sys::CUmem_advise, i32) -> CUresult =
            unsafe { std::mem::transmute(symbol("cuMemAdvise")) };
        ok(advise(address, 4096, advice, 1));
        let (mut devices, attribute) = ([9i32; 3], sys::CUmem_range_attribute::CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY);
        ok(unsafe { sys::cuMemRangeGetAttribute(devices.as_mut_ptr().cast(), 12, attribute, address, 4096) });
        assert_eq!(devices, [1, -2, -2]);
        ok(unsafe { sys::cuMemFree_v2(address) });
    }

    #[test]
    fn events_and_graphs_cross_devices() {
        let Some(pair) = pair() else { return };
        let (own, on_zero, mut event) = (upload(&[1u32]), stream(NON_BLOCKING), null_mut());
        let on_one = pair.on_one(|| stream(NON_BLOCKING));
        // A stream waits for another device's event.
        ok(unsafe { sys::cuEventCreate(&mut event, 2) });
        ok(add(adder(), on_zero, own, 1, 1));
        ok(unsafe { sys::cuEventRecord(event, on_zero) });
        let copy = pair.on_one(|| {
            let copy = alloc(4);
            ok(unsafe { sys::cuStreamWaitEvent(on_one, event, 0) });
            ok(unsafe { sys::cuMemcpyPeerAsync(copy, pair.one, own, pair.zero.handle, 4, on_one) });
            ok(unsafe { sys::cuStreamSynchronize(on_one) });
            copy
        });
        assert_eq!(download::<u32>(copy, 1), [2]);
        // Copies, fills and waits follow their stream; the other context need not be current.
        let fill = || ok(unsafe { sys::cuMemsetD32Async(copy, 9, 1, on_one) });
        // The manual promises this of copies and waits, not of fills.
        if real() {
            pair.on_one(fill)
        } else {
            fill()
        }
        ok(unsafe { sys::cuMemcpyPeerAsync(own, pair.zero.handle, copy, pair.one, 4, on_one) });
        ok(unsafe { sys::cuStreamWaitEvent(on_one, event, 0) });
        ok(unsafe { sys::cuStreamSynchronize(on_one) });
        assert_eq!(download::<u32>(own, 1), [9]);
        assert_eq!(unsafe { sys::cuEventRecord(event, on_one) }, CUDA_ERROR_INVALID_HANDLE, "an event of device 0");
        let mut pooled = 0;
        ok(unsafe { sys::cuMemAllocAsync(&mut pooled, 64, on_one) });
        assert_eq!(ordinal(pooled), 1, "the stream's device");
        ok(unsafe { sys::cuMemFreeAsync(pooled, on_one) });
        if !real() {
            assert_eq!(add(adder(), on_one, own, 1, 1), CUDA_ERROR_INVALID_HANDLE, "a kernel does not follow");
        }
        // A kernel of a graph runs on the device on which it was captured, whichever stream launches the graph.
        let (mut graph, mut exec, adder) = (null_mut(), null_mut(), adder());
        ok(unsafe { sys::cuStreamBeginCapture_v2(on_zero, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL) });
        ok(add(adder, on_zero, own, 5, 1));
        ok(unsafe { sys::cuStreamEndCapture(on_zero, &mut graph) });
        ok(unsafe { sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0) });
        pair.on_one(|| {
            ok(unsafe { sys::cuGraphLaunch(exec, on_one) });
            ok(unsafe { sys::cuStreamSynchronize(on_one) });
        });
        assert_eq!(download::<u32>(own, 1), [14]);
    }
}
