//! Peer access: what a kernel may touch of another device's memory. The tests do nothing where there is one device; one in
//! `devices` runs them in a process that has two.

use super::devices::two::{Pair, ordinal, pair, wait};
use super::*;

impl Pair {
    /// Device 0 may access device 1; `false` if these cards cannot.
    fn open(&self) -> bool {
        let mut can = 0;
        ok(unsafe { sys::cuDeviceCanAccessPeer(&mut can, 0, 1) });
        if can == 1 {
            ok(unsafe { sys::cuCtxEnablePeerAccess(self.one, 0) });
        }
        can == 1
    }
}

#[test]
fn peer_access_is_given_once_and_taken_once() {
    let Some(pair) = pair() else { return };
    let (mut can, mut value) = (-1, -1);
    ok(unsafe { sys::cuDeviceCanAccessPeer(&mut can, 0, 0) });
    assert_eq!(can, 0, "a device is not its own peer");
    ok(unsafe { sys::cuDeviceCanAccessPeer(&mut can, 1, 0) });
    use sys::CUdevice_P2PAttribute::*;
    let mut p2p = |attribute, from, to| unsafe { sys::cuDeviceGetP2PAttribute(&mut value, attribute, from, to) };
    ok(p2p(CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 1));
    assert_eq!(p2p(CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 1, 1), CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(value, can);
    let (enable, disable) = (
        |peer, flags| unsafe { sys::cuCtxEnablePeerAccess(peer, flags) },
        |peer| unsafe { sys::cuCtxDisablePeerAccess(peer) },
    );
    assert_eq!(enable(pair.one, 1), CUDA_ERROR_INVALID_VALUE, "there are no flags");
    if !pair.open() {
        return;
    }
    assert_eq!(enable(pair.one, 0), CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
    assert_eq!(enable(null_mut(), 0), CUDA_ERROR_INVALID_CONTEXT);
    assert_eq!(enable(pair.zero.handle, 0), CUDA_ERROR_INVALID_CONTEXT, "itself");
    let mut other = null_mut();
    ok(unsafe { sys::cuCtxCreate_v2(&mut other, 0, 0) });
    assert_eq!(enable(pair.zero.handle, 0), CUDA_ERROR_INVALID_DEVICE, "the same device");
    ok(unsafe { sys::cuCtxDestroy_v2(other) });
    assert_eq!(pair.on_one(|| disable(pair.zero.handle)), CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "the other way");
    ok(disable(pair.one));
    assert_eq!(disable(pair.one), CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
    ok(enable(pair.one, 0));
}

#[test]
fn kernels_use_the_memory_of_a_peer() {
    let Some(pair) = pair() else { return };
    let (own, peers) = (upload(&[1u32, 2]), pair.on_one(|| upload(&[10u32, 20])));
    if !pair.open() {
        return;
    }
    let function = adder();
    ok(add(function, NO_STREAM, peers, 5, 2));
    ok(add(function, NO_STREAM, own, 1, 2));
    ok(wait());
    assert_eq!((download::<u32>(own, 2), pair.on_one(|| download::<u32>(peers, 2))), (vec![2, 3], vec![15, 25]));
    // The other device's kernels see the result, and run the same PTX from a module of their own.
    pair.on_one(|| {
        if !real() {
            assert_eq!(add(function, NO_STREAM, peers, 1, 2), CUDA_ERROR_INVALID_HANDLE, "another device's kernel");
        }
        ok(add(adder(), NO_STREAM, peers, 1, 2));
        ok(wait());
        assert_eq!(download::<u32>(peers, 2), [16, 26]);
    });
}

#[test]
fn a_kernel_without_peer_access_traps() {
    if real() {
        return;
    }
    let Some(pair) = pair() else { return };
    let peers = pair.on_one(|| upload(&[0u32]));
    // In contexts of their own, because each fails.
    let store = |before: &dyn Fn()| {
        let mut context = null_mut();
        ok(unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) });
        before();
        let store = function(load(PTX).unwrap(), "store");
        ok(launch(store, 1, 0, NO_STREAM, &[pointer(&peers)]));
        let result = wait();
        ok(unsafe { sys::cuCtxDestroy_v2(context) });
        result
    };
    assert_eq!(store(&|| ()), CUDA_ERROR_ILLEGAL_ADDRESS, "never enabled");
    let enable = || ok(unsafe { sys::cuCtxEnablePeerAccess(pair.one, 0) });
    assert_eq!(store(&enable), CUDA_SUCCESS);
    let disabled = store(&|| {
        enable();
        ok(unsafe { sys::cuCtxDisablePeerAccess(pair.one) });
    });
    assert_eq!(disabled, CUDA_ERROR_ILLEGAL_ADDRESS);
    // Access is one way, and a trap fails only its own context.
    pair.on_one(|| ok(unsafe { sys::cuCtxEnablePeerAccess(pair.zero.handle, 0) }));
    assert_eq!(store(&|| ()), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(pair.on_one(|| download::<u32>(peers, 1)), [7]);
}

#[test]
fn an_event_orders_the_kernels_of_two_devices() {
    let Some(pair) = pair() else { return };
    if real() {
        return;
    }
    let peers = pair.on_one(|| upload(&[1u32, 2]));
    // In a context of its own, because it fails.
    let twice = |ordered: bool| {
        let (mut context, mut event) = (null_mut(), null_mut());
        ok(unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) });
        ok(unsafe { sys::cuCtxEnablePeerAccess(pair.one, 0) });
        let (first, second) = (pair.on_one(adder), adder());
        pair.on_one(|| {
            ok(unsafe { sys::cuEventCreate(&mut event, 0) });
            ok(add(first, NO_STREAM, peers, 1, 2));
            ok(unsafe { sys::cuEventRecord(event, NO_STREAM) });
        });
        if ordered {
            ok(unsafe { sys::cuStreamWaitEvent(NO_STREAM, event, 0) });
        }
        ok(add(second, NO_STREAM, peers, 1, 2));
        let result = wait();
        ok(unsafe { sys::cuCtxDestroy_v2(context) });
        pair.on_one(|| ok(wait()));
        result
    };
    assert_eq!(twice(true), CUDA_SUCCESS);
    assert_eq!(twice(false), CUDA_ERROR_LAUNCH_FAILED);
    assert_eq!(pair.on_one(|| download::<u32>(peers, 2)), [4, 5]);
}

fn default_pool(device: i32) -> sys::CUmemoryPool {
    let mut pool = null_mut();
    ok(unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, device) });
    pool
}

#[test]
fn a_pools_memory_is_opened_by_the_pool_and_not_by_peer_access() {
    let Some(pair) = pair() else { return };
    if real() || !pair.open() {
        return;
    }
    use sys::CUmemAccess_flags_enum::{self as Flags, *};
    let (pool, mut address, mut access) = (default_pool(1), 0, CU_MEM_ACCESS_FLAGS_PROT_READ);
    assert_ne!(pool, default_pool(0));
    pair.on_one(|| {
        ok(unsafe { sys::cuMemAllocAsync(&mut address, 64, NO_STREAM) });
        ok(wait());
    });
    assert_eq!(ordinal(address), 1);
    let location = |id| sys::CUmemLocation { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id };
    let set = |id, flags: Flags| {
        let change = sys::CUmemAccessDesc { location: location(id), flags };
        unsafe { sys::cuMemPoolSetAccess(pool, &change, 1) }
    };
    let mut get = |id| {
        let mut location = location(id);
        ok(unsafe { sys::cuMemPoolGetAccess(&mut access, pool, &mut location) });
        access
    };
    let (none, all) = (CU_MEM_ACCESS_FLAGS_PROT_NONE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    assert_eq!((get(0), get(1)), (none, all));
    assert_eq!(set(1, none), CUDA_ERROR_INVALID_VALUE, "its own device");
    assert_eq!(set(2, all), CUDA_ERROR_INVALID_DEVICE);
    let store = || {
        let mut context = null_mut();
        ok(unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) });
        ok(unsafe { sys::cuCtxEnablePeerAccess(pair.one, 0) });
        let store = function(load(PTX).unwrap(), "store");
        ok(launch(store, 1, 0, NO_STREAM, &[pointer(&address)]));
        let result = wait();
        ok(unsafe { sys::cuCtxDestroy_v2(context) });
        result
    };
    assert_eq!(store(), CUDA_ERROR_ILLEGAL_ADDRESS);
    ok(set(0, all));
    assert_eq!((get(0), store()), (all, CUDA_SUCCESS));
    ok(set(0, none));
    assert_eq!((get(0), store()), (none, CUDA_ERROR_ILLEGAL_ADDRESS));
    // A stream of one device may allocate from the other's pool.
    let mut other = 0;
    ok(unsafe { sys::cuMemAllocFromPoolAsync(&mut other, 64, pool, NO_STREAM) });
    assert_eq!(ordinal(other), 1);
    assert_eq!(unsafe { sys::cuDeviceSetMemPool(0, pool) }, CUDA_ERROR_INVALID_VALUE, "a pool of another device");
    ok(unsafe { sys::cuMemFreeAsync(other, NO_STREAM) });
}
