//! Managed memory, which the host and kernels access at the same address: allocation, advice and prefetches.
//!
//! There is one copy of the bytes, in the host's memory, so that nothing ever migrates. Advice, prefetches and the
//! streams to which memory is attached change no access. They are checked, and for each page what was asked for last is
//! stored for `cuMemRangeGetAttribute`.

use std::ffi::c_void;

use super::abi::{DevicePointer, Handle, In, Out, untyped};
use super::boundary::{Outcome, within};
use super::capture::StreamKey;
use super::context::check_device;
use super::error::{CUresult, Code, Fault};
use super::memory::allocate;
use super::settings::MOST_DEVICES;
use super::state::Owner;
use super::work::Current;

const ATTACH_GLOBAL: u32 = 1;
const ATTACH_HOST: u32 = 2;
const ATTACH_SINGLE: u32 = 4;

const PAGE: u64 = 4096;

/// `CU_DEVICE_CPU` and `CU_DEVICE_INVALID`.
const CPU: i32 = -1;
const NO_DEVICE: i32 = -2;

/// `CUmemLocation`: a kind of place and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Location {
    kind: i32,
    id: i32,
}

const NOWHERE: Location = Location { kind: 0, id: 0 };
const DEVICE: i32 = 1;
const HOST: i32 = 2;
const HOST_NUMA: i32 = 3;
const HOST_NUMA_CURRENT: i32 = 4;

impl Location {
    /// The place that the older functions name by a device's number.
    fn of_device(device: i32) -> Location {
        if device == CPU { Location { kind: HOST, id: 0 } } else { Location { kind: DEVICE, id: device } }
    }

    /// The number of the place in the older attributes. They have none for a NUMA node.
    fn device(self) -> i32 {
        match self.kind {
            DEVICE => self.id,
            HOST => CPU,
            _ => NO_DEVICE,
        }
    }

    fn check(self) -> Outcome {
        match self.kind {
            DEVICE => check_device(self.id).map(drop),
            HOST | HOST_NUMA_CURRENT => Ok(()),
            // The only node is the one that every machine has.
            HOST_NUMA if self.id == 0 => Ok(()),
            _ => Err(Code::InvalidValue.into()),
        }
    }
}

/// What was asked for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    read_mostly: bool,
    preferred: Location,
    /// Whether each device, and at last the CPU, were said to access it.
    accessed_by: [bool; MOST_DEVICES + 1],
    prefetched: Location,
}

const NO_ADVICE: Advice =
    Advice { read_mostly: false, preferred: NOWHERE, accessed_by: [false; MOST_DEVICES + 1], prefetched: NOWHERE };

/// The managed allocation that holds a range: its base, and the range's pages in it.
fn pages(cx: &Current, address: DevicePointer, bytes: usize) -> Outcome<(u64, usize, std::ops::Range<usize>)> {
    let wrong = |what: &str| -> Fault { Code::InvalidValue.because(format!("{bytes} bytes at {address:#x}: {what}")) };
    if bytes == 0 {
        return Err(wrong("an empty range"));
    }
    let (base, size) = cx.driver.machine.allocation(address).ok_or_else(|| wrong("not managed memory"))?;
    if cx.state().allocations.get(&base).is_none_or(|allocation| allocation.owner != Owner::Managed) {
        return Err(wrong("not managed memory"));
    }
    let first = address - base;
    let end = first.checked_add(bytes as u64).filter(|end| *end <= size as u64);
    let end = end.ok_or_else(|| wrong("the range runs past its allocation"))?;
    let count = size.div_ceil(PAGE as usize);
    Ok((base, count, (first / PAGE) as usize..end.div_ceil(PAGE) as usize))
}

fn change(cx: &Current, address: DevicePointer, bytes: usize, change: impl Fn(&mut Advice)) -> Outcome {
    let (base, count, range) = pages(cx, address, bytes)?;
    let mut state = cx.state();
    let advice = state.managed.entry(base).or_default();
    advice.resize(count, NO_ADVICE);
    advice[range].iter_mut().for_each(change);
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocManaged(address: Out<DevicePointer>, bytes: usize, flags: u32) -> CUresult {
    within(|cx| {
        if address.is_null() || ![ATTACH_GLOBAL, ATTACH_HOST].contains(&flags) {
            return Err(Code::InvalidValue.into());
        }
        cx.unsafe_while_capturing()?;
        address.put(allocate(cx, bytes, Owner::Managed, None)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamAttachMemAsync(stream: Handle, address: DevicePointer, bytes: usize, flags: u32) -> CUresult {
    within(|cx| {
        let key = cx.stream(stream)?;
        cx.state().wait_for_stream(cx.context, key)?;
        let wrong = |what: &str| -> Outcome { Err(Code::InvalidValue.because(what)) };
        if ![ATTACH_GLOBAL, ATTACH_HOST, ATTACH_SINGLE].contains(&flags) {
            return wrong("memory is attached by exactly one flag");
        }
        if flags == ATTACH_SINGLE && key == StreamKey::Legacy {
            return wrong("memory cannot be attached to the null stream");
        }
        let (base, ..) = pages(cx, address, bytes.max(1))?;
        let size = cx.state().allocations.get(&base).map(|allocation| allocation.bytes);
        if base != address || (bytes != 0 && Some(bytes) != size) {
            return wrong("only a whole allocation can be attached");
        }
        Ok(())
    })
}

fn advise(address: DevicePointer, bytes: usize, advice: i32, location: Location) -> CUresult {
    within(|cx| {
        // The location means nothing to the advice that names none.
        if matches!(advice, 3 | 5 | 6) {
            location.check()?;
        }
        if matches!(advice, 5 | 6) && !matches!(location.kind, DEVICE | HOST) {
            return Err(Code::InvalidValue.into());
        }
        let who = if location.kind == DEVICE { location.id as usize } else { MOST_DEVICES };
        match advice {
            1 | 2 => change(cx, address, bytes, |page| page.read_mostly = advice == 1),
            3 => change(cx, address, bytes, |page| page.preferred = location),
            4 => change(cx, address, bytes, |page| page.preferred = NOWHERE),
            5 | 6 => change(cx, address, bytes, |page| page.accessed_by[who] = advice == 5),
            _ => Err(Code::InvalidValue.into()),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAdvise(address: DevicePointer, bytes: usize, advice: i32, device: i32) -> CUresult {
    advise(address, bytes, advice, Location::of_device(device))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAdvise_v2(address: DevicePointer, bytes: usize, advice: i32, location: Location) -> CUresult {
    advise(address, bytes, advice, location)
}

fn prefetch(address: DevicePointer, bytes: usize, to: Location, flags: u32, stream: Handle) -> CUresult {
    within(|cx| {
        let key = cx.stream(stream)?;
        if flags != 0 {
            return Err(Code::InvalidValue.into());
        }
        to.check()?;
        // A prefetch cannot be a node of a graph.
        cx.state().wait_for_stream(cx.context, key)?;
        change(cx, address, bytes, |page| page.prefetched = to)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPrefetchAsync(address: DevicePointer, bytes: usize, device: i32, stream: Handle) -> CUresult {
    prefetch(address, bytes, Location::of_device(device), 0, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPrefetchAsync_v2(
    address: DevicePointer,
    bytes: usize,
    location: Location,
    flags: u32,
    stream: Handle,
) -> CUresult {
    prefetch(address, bytes, location, flags, stream)
}

/// Writes an attribute of a range, for which all its pages must agree.
fn range_attribute(
    cx: &Current,
    data: Out<c_void>,
    size: usize,
    attribute: i32,
    address: DevicePointer,
    bytes: usize,
) -> Outcome {
    let (base, _, range) = pages(cx, address, bytes)?;
    let state = cx.state();
    let advice = state.managed.get(&base).and_then(|advice| advice.get(range)).unwrap_or(&[NO_ADVICE]);
    let first = advice[0];
    let common = |pick: fn(&Advice) -> Location| {
        if advice.iter().all(|page| pick(page) == pick(&first)) { pick(&first) } else { NOWHERE }
    };
    let (preferred, prefetched) = (common(|page| page.preferred), common(|page| page.prefetched));
    let value = match attribute {
        1 => advice.iter().all(|page| page.read_mostly).into(),
        2 => preferred.device(),
        3 => {
            if size == 0 || !size.is_multiple_of(4) {
                return Err(Code::InvalidValue.into());
            }
            let named = (0..MOST_DEVICES as i32).chain([CPU]).enumerate();
            let all = named.filter(|(who, _)| advice.iter().all(|page| page.accessed_by[*who])).map(|(_, id)| id);
            return untyped(data).put_all(all.chain(std::iter::repeat(NO_DEVICE)).take(size / 4));
        }
        4 => prefetched.device(),
        5 => preferred.kind,
        6 => preferred.id,
        7 => prefetched.kind,
        8 => prefetched.id,
        _ => return Err(Code::InvalidValue.into()),
    };
    if size == 4 { untyped(data).put(value) } else { Err(Code::InvalidValue.into()) }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemRangeGetAttribute(
    data: Out<c_void>,
    size: usize,
    attribute: i32,
    address: DevicePointer,
    bytes: usize,
) -> CUresult {
    within(|cx| range_attribute(cx, data, size, attribute, address, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemRangeGetAttributes(
    data: In<Out<c_void>>,
    sizes: In<usize>,
    attributes: In<i32>,
    count: usize,
    address: DevicePointer,
    bytes: usize,
) -> CUresult {
    within(|cx| {
        if count == 0 {
            return Err(Code::InvalidValue.into());
        }
        (0..count)
            .try_for_each(|at| range_attribute(cx, data.at(at)?, sizes.at(at)?, attributes.at(at)?, address, bytes))
    })
}
