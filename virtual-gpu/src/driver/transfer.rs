//! Copies and fills, blocking and in stream order.

use super::abi::{DevicePointer, Handle};
use super::boundary::{Outcome, within};
use super::error::{CUresult, Code, Fault};
use super::work::{Current, Op, Place};

/// Checks a range of device memory when the operation is enqueued, as the real driver does. It is checked again at
/// execution, which for a graph is later.
fn check(cx: &Current, place: Place, bytes: usize) -> Outcome {
    let Place::Device(address) = place else { return Ok(()) };
    let wrong = |what: String| -> Fault { Code::InvalidValue.because(what) };
    let (base, size) = (cx.driver.machine.allocation(address))
        .ok_or_else(|| wrong(format!("{address:#x} is not in a device allocation")))?;
    let end = (address - base) as u128 + bytes as u128;
    if end > size as u128 {
        return Err(wrong(format!("{bytes} bytes from {address:#x} run past the allocation of {size} at {base:#x}")));
    }
    Ok(())
}

pub fn copy_op(cx: &Current, to: Place, from: Place, bytes: usize) -> Outcome<Option<Op>> {
    if bytes == 0 {
        return Ok(None);
    }
    // Managed memory named as host memory is the device's all the same.
    let [to, from] = [to, from].map(|end| match end {
        Place::Host(address) => place(cx, address as u64),
        device => device,
    });
    check(cx, to, bytes)?;
    check(cx, from, bytes)?;
    Ok(Some(Op::Copy { to, from, bytes }))
}

fn copy(to: Place, from: Place, bytes: usize) -> CUresult {
    within(|cx| match copy_op(cx, to, from, bytes)? {
        Some(op) => cx.perform(op),
        None => Ok(()),
    })
}

fn copy_async(to: Place, from: Place, bytes: usize, stream: Handle) -> CUresult {
    within(|cx| {
        let cx = &cx.of(stream)?;
        cx.stream(stream)?;
        match copy_op(cx, to, from, bytes)? {
            Some(op) => cx.enqueue(stream, op),
            None => Ok(()),
        }
    })
}

/// Device or host memory, told by the address: the two share one address space.
fn place(cx: &Current, address: DevicePointer) -> Place {
    match cx.driver.machine.allocation(address) {
        Some(_) => Place::Device(address),
        None => Place::Host(address as usize),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: DevicePointer, from: usize, bytes: usize) -> CUresult {
    copy(Place::Device(to), Place::Host(from), bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: usize, from: DevicePointer, bytes: usize) -> CUresult {
    copy(Place::Host(to), Place::Device(from), bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoD_v2(to: DevicePointer, from: DevicePointer, bytes: usize) -> CUresult {
    copy(Place::Device(to), Place::Device(from), bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpy(to: DevicePointer, from: DevicePointer, bytes: usize) -> CUresult {
    within(|cx| match copy_op(cx, place(cx, to), place(cx, from), bytes)? {
        Some(op) => cx.perform(op),
        None => Ok(()),
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: DevicePointer, from: usize, bytes: usize, stream: Handle) -> CUresult {
    copy_async(Place::Device(to), Place::Host(from), bytes, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: usize, from: DevicePointer, bytes: usize, stream: Handle) -> CUresult {
    copy_async(Place::Host(to), Place::Device(from), bytes, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: DevicePointer, from: DevicePointer, bytes: usize, stream: Handle) -> CUresult {
    copy_async(Place::Device(to), Place::Device(from), bytes, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyAsync(to: DevicePointer, from: DevicePointer, bytes: usize, stream: Handle) -> CUresult {
    within(|cx| {
        let cx = &cx.of(stream)?;
        cx.stream(stream)?;
        match copy_op(cx, place(cx, to), place(cx, from), bytes)? {
            Some(op) => cx.enqueue(stream, op),
            None => Ok(()),
        }
    })
}

/// A fill of `count` elements of `width` bytes.
fn fill(to: DevicePointer, value: u32, width: usize, count: usize, stream: Option<Handle>) -> CUresult {
    within(|cx| {
        let cx = &cx.of(stream.unwrap_or(0))?;
        stream.map(|stream| cx.stream(stream)).transpose()?;
        if count == 0 {
            return Ok(());
        }
        if !to.is_multiple_of(width as u64) {
            return Err(Code::InvalidValue.because(format!("a fill of {width}-byte elements at {to:#x}: misaligned")));
        }
        let bytes = count.checked_mul(width).ok_or(Code::InvalidValue)?;
        check(cx, Place::Device(to), bytes)?;
        let op = Op::Fill { to, pattern: value.to_le_bytes(), width, count };
        // A fill does not block the host, even in the form without a stream.
        cx.enqueue(stream.unwrap_or(0), op)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(to: DevicePointer, value: u8, count: usize) -> CUresult {
    fill(to, value.into(), 1, count, None)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD16_v2(to: DevicePointer, value: u16, count: usize) -> CUresult {
    fill(to, value.into(), 2, count, None)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32_v2(to: DevicePointer, value: u32, count: usize) -> CUresult {
    fill(to, value, 4, count, None)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: DevicePointer, value: u8, count: usize, stream: Handle) -> CUresult {
    fill(to, value.into(), 1, count, Some(stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD16Async(to: DevicePointer, value: u16, count: usize, stream: Handle) -> CUresult {
    fill(to, value.into(), 2, count, Some(stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32Async(to: DevicePointer, value: u32, count: usize, stream: Handle) -> CUresult {
    fill(to, value, 4, count, Some(stream))
}
