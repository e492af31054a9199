//! Device memory: allocation, release, and the attributes of an address.

use std::ffi::c_void;

use super::abi::{DevicePointer, Handle, Out, untyped};
use super::boundary::{Outcome, within};
use super::capture::{Status, StreamKey};
use super::error::{CUresult, Code};
use super::refusal;
use super::state::{Allocation, Owner, find};
use super::work::{Current, GraphMemory, Op};

fn allocate(cx: &Current, bytes: usize, owner: Owner) -> Outcome<DevicePointer> {
    if bytes == 0 {
        return Err(Code::InvalidValue.because("an allocation of no bytes"));
    }
    refusal::request()?;
    let address = cx.driver.machine.alloc(bytes)?;
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
    cx.state().allocations.remove(&address);
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: Out<DevicePointer>, bytes: usize) -> CUresult {
    within(|cx| {
        if address.is_null() {
            return Err(Code::InvalidValue.into());
        }
        cx.unsafe_while_capturing()?;
        address.put(allocate(cx, bytes, Owner::Program)?)
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
        address.put(allocate(cx, bytes, Owner::Program)?)?;
        pitch.put(row)
    })
}

/// Waits for the device before it frees the memory, as the real driver does.
#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: DevicePointer) -> CUresult {
    within(|cx| {
        cx.unsafe_while_capturing()?;
        if address != 0 {
            release(cx, address)?;
        }
        cx.wait()
    })
}

/// Allocates in stream order. In a capture the allocation becomes a node, and the graph owns the memory.
fn allocate_async(cx: &Current, address: Out<DevicePointer>, bytes: usize, pool: Handle, stream: Handle) -> Outcome {
    if address.is_null() {
        return Err(Code::InvalidValue.into());
    }
    find(&cx.state().pools, pool)?;
    let key = cx.stream(stream)?;
    let status = cx.state().capture_status(cx.context, key);
    match status {
        Status::Invalidated(_) => Err(Code::CaptureInvalidated.into()),
        Status::Active(_) => {
            let at = allocate(cx, bytes, Owner::Graph)?;
            cx.enqueue(stream, Op::Alloc(GraphMemory { machine: &cx.driver.machine, address: at }.into()))?;
            address.put(at)
        }
        Status::None => {
            if key == StreamKey::Legacy {
                cx.state().use_legacy(cx.context)?;
            }
            address.put(allocate(cx, bytes, Owner::Pool(pool))?)
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(address: Out<DevicePointer>, bytes: usize, stream: Handle) -> CUresult {
    within(|cx| {
        let pool = cx.state().current_pool;
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
                release(cx, address)
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> CUresult {
    within(|cx| {
        let (left, all) = cx.driver.machine.memory();
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

const MEMORY_TYPE_HOST: u32 = 1;
const MEMORY_TYPE_DEVICE: u32 = 2;

#[unsafe(no_mangle)]
extern "C" fn cuPointerGetAttribute(value: Out<c_void>, attribute: i32, address: DevicePointer) -> CUresult {
    within(|cx| {
        let on_device = cx.driver.machine.allocation(address);
        if on_device.is_none() && !cx.state().pinned.contains(address as usize) {
            return Err(Code::InvalidValue.into());
        }
        let owner = on_device.and_then(|(base, _)| cx.state().allocations.get(&base).copied());
        let device = on_device.ok_or(Code::InvalidValue);
        match attribute {
            1 => untyped(value).put(owner.map_or(cx.context, |allocation| allocation.context)),
            2 => untyped(value).put(if on_device.is_some() { MEMORY_TYPE_DEVICE } else { MEMORY_TYPE_HOST }),
            3 => device.map_err(Into::into).and_then(|_| untyped(value).put(address)),
            4 if on_device.is_none() => untyped(value).put(address),
            7 => device.map_err(Into::into).and_then(|(base, _)| untyped(value).put(base)),
            8 => untyped(value).put(0u32),
            9 => untyped(value).put(0i32),
            11 => device.map_err(Into::into).and_then(|(base, _)| untyped(value).put(base)),
            12 => device.map_err(Into::into).and_then(|(_, bytes)| untyped(value).put(bytes)),
            13 => untyped(value).put(1u32),
            4 | 10 | 15 => Err(Code::InvalidValue.into()),
            _ => Err(Code::NotSupported.because(format!("attribute {attribute} of a pointer"))),
        }
    })
}
