//! Device memory: allocation and release.

use super::abi::{DevicePointer, Handle, Out};
use super::boundary::{Outcome, within};
use super::capture::{Status, StreamKey};
use super::error::{CUresult, Code};
use super::order::What;
use super::refusal;
use super::state::{Allocation, Owner, find};
use super::work::{Current, GraphMemory, Op};
use crate::machine::Home;

/// Allocates on the context's device, or if `pool` is given from that pool, on its device.
pub fn allocate(cx: &Current, bytes: usize, owner: Owner, pool: Option<Handle>) -> Outcome<DevicePointer> {
    allocate_as(cx, bytes, owner, pool, 0)
}

/// Allocates as the operation of a number.
fn allocate_as(cx: &Current, bytes: usize, owner: Owner, pool: Option<Handle>, number: u64) -> Outcome<DevicePointer> {
    if bytes == 0 {
        return Err(Code::InvalidValue.because("an allocation of no bytes"));
    }
    refusal::request()?;
    let device = match pool {
        Some(pool) => find(&cx.state().pools, pool)?.device,
        None => cx.device()?,
    };
    let address = match owner {
        Owner::Managed => cx.driver.machine.alloc_managed(device, bytes)?,
        _ => cx.driver.machine.alloc_as(Home { device, pool: pool.map(|pool| pool as u64) }, bytes, number)?,
    };
    cx.state().allocations.insert(address, Allocation { context: cx.context, bytes, owner });
    Ok(address)
}

fn release(cx: &Current, address: DevicePointer) -> Outcome {
    let owner = cx.state().allocations.get(&address).map(|allocation| allocation.owner);
    if owner == Some(Owner::Graph) && cx.driver.machine.allocation(address).is_some() {
        // The graph may be launched again, with its memory at the same address.
        return Ok(());
    }
    cx.driver.machine.free(address)?;
    let mut state = cx.state();
    state.allocations.remove(&address);
    state.managed.remove(&address);
    Ok(())
}

/// Frees in a stream's order: now, or when its queued work has been executed.
fn release_behind(cx: &Current, address: DevicePointer, key: StreamKey) -> Outcome {
    let mut state = cx.state();
    match state.allocations.get(&address).map(|allocation| allocation.owner) {
        Some(owner) if owner != Owner::Graph && !state.before(cx.context, key).is_empty() => {
            // No longer in the table, so that a second free is refused.
            state.allocations.remove(&address);
            state.managed.remove(&address);
            let stamp = state.stamp(cx.context, key);
            state.defer(key, [], stamp, |_| Op::Release(address)).map(drop)
        }
        None if !state.unfinished.is_empty() => {
            Err(Code::InvalidValue.because(format!("{address:#x} is no allocation, or is being freed")))
        }
        _ => {
            let stamp = state.stamp(cx.context, key);
            drop(state);
            cx.releasable(address, &stamp)?;
            release(cx, address)
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: Out<DevicePointer>, bytes: usize) -> CUresult {
    within(|cx| {
        if address.is_null() {
            return Err(Code::InvalidValue.into());
        }
        cx.unsafe_while_capturing()?;
        address.put(allocate(cx, bytes, Owner::Program, None)?)
    })
}

/// Allocates rows with a pitch that is a multiple of 512 bytes, as on every device.
#[unsafe(no_mangle)]
extern "C" fn cuMemAllocPitch_v2(
    address: Out<DevicePointer>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    element: u32,
) -> CUresult {
    within(|cx| {
        if address.is_null() || pitch.is_null() || ![4, 8, 16].contains(&element) {
            return Err(Code::InvalidValue.into());
        }
        cx.unsafe_while_capturing()?;
        let row = width.checked_next_multiple_of(512).ok_or(Code::OutOfMemory)?;
        let bytes = row.checked_mul(height).ok_or(Code::OutOfMemory)?;
        address.put(allocate(cx, bytes, Owner::Program, None)?)?;
        pitch.put(row)
    })
}

/// Waits for the device before it frees the memory, as the real driver does.
#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: DevicePointer) -> CUresult {
    within(|cx| {
        cx.unsafe_while_capturing()?;
        cx.driver.settle_context(cx.context);
        let known = cx.state().allocations.get(&address).map(|allocation| (allocation.context, allocation.owner));
        let other = known.map(|(context, _)| context).filter(|context| *context != cx.context);
        let other = other.map(|context| Current { driver: cx.driver, context });
        if let Some(other) = &other {
            cx.driver.settle_context(other.context);
        }
        if address != 0 {
            if let Some((_, Owner::Pool(_))) = known {
                // As the manual says, the call waits for nothing if the memory is of a pool.
                let stamp = cx.state().host_stamp(cx.context);
                cx.releasable(address, &stamp)?;
            } else {
                cx.learn_all();
                other.iter().for_each(Current::learn_all);
            }
            release(cx, address)?;
        }
        cx.report()
    })
}

/// Allocates in stream order. In a capture the allocation becomes a node, and the graph owns the memory.
fn allocate_async(cx: &Current, address: Out<DevicePointer>, bytes: usize, pool: Handle, stream: Handle) -> Outcome {
    if address.is_null() {
        return Err(Code::InvalidValue.into());
    }
    find(&cx.state().pools, pool)?;
    let cx = &cx.of(stream)?;
    let key = cx.stream(stream)?;
    let status = cx.state().capture_status(cx.context, key);
    match status {
        Status::Invalidated(_) => Err(Code::CaptureInvalidated.into()),
        Status::Active(_) => {
            let at = allocate(cx, bytes, Owner::Graph, Some(pool))?;
            cx.enqueue(stream, Op::Alloc(GraphMemory { machine: &cx.driver.machine, address: at }.into()))?;
            address.put(at)
        }
        Status::None => {
            if key == StreamKey::Legacy {
                cx.state().use_legacy(cx.context)?;
            }
            let mut state = cx.state();
            let stamp = state.stamp(cx.context, key);
            let number = state.order.number(&stamp, &What::Other("an allocation"));
            drop(state);
            address.put(allocate_as(cx, bytes, Owner::Pool(pool), Some(pool), number)?)
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(address: Out<DevicePointer>, bytes: usize, stream: Handle) -> CUresult {
    within(|cx| {
        let device = cx.of(stream)?.device()?;
        let pool = cx.state().devices[device].current_pool;
        allocate_async(cx, address, bytes, pool, stream)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocFromPoolAsync(
    address: Out<DevicePointer>,
    bytes: usize,
    pool: Handle,
    stream: Handle,
) -> CUresult {
    within(|cx| allocate_async(cx, address, bytes, pool, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: DevicePointer, stream: Handle) -> CUresult {
    within(|cx| {
        let cx = &cx.of(stream)?;
        let key = cx.stream(stream)?;
        if address == 0 {
            return Ok(());
        }
        let status = cx.state().capture_status(cx.context, key);
        match status {
            Status::Invalidated(_) => Err(Code::CaptureInvalidated.into()),
            Status::Active(_) if cx.state().captures_own(cx.context, key, address) => cx.enqueue(stream, Op::Free),
            Status::Active(_) => {
                Err(Code::InvalidValue.because(format!("{address:#x} was not allocated by the capture that frees it")))
            }
            Status::None => {
                if key == StreamKey::Legacy {
                    cx.state().use_legacy(cx.context)?;
                }
                release_behind(cx, address, key)
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> CUresult {
    within(|cx| {
        let (left, all) = cx.driver.machine.memory(cx.device()?);
        free.put(left)?;
        total.put(all)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetAddressRange_v2(base: Out<DevicePointer>, size: Out<usize>, address: DevicePointer) -> CUresult {
    within(|cx| {
        let (start, bytes) = cx.driver.machine.allocation(address).ok_or(Code::NotFound)?;
        base.offer(start);
        size.offer(bytes);
        Ok(())
    })
}
