//! Pinned host memory, and host functions that run in stream order.
//!
//! Pinned memory is ordinary memory here. Kernels cannot access it, so it has no device address, and the device reports
//! `CAN_MAP_HOST_MEMORY` as 0.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::abi::{DevicePointer, Handle, Out};
use super::boundary::within;
use super::error::{CUresult, Code};
use super::refusal;

/// Pinned memory is allocated in pages, because programs may rely on the alignment.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

const PAGE: usize = 4096;

/// A pinned range: its length, its flags, the memory if the driver allocated it, and the context in which it was pinned.
type Range = (usize, u32, Option<Vec<Page>>, Handle);

/// All pinned ranges of the process, by start address.
#[derive(Default)]
pub struct Pinned(BTreeMap<usize, Range>);

impl Pinned {
    fn holding(&self, address: usize) -> Option<(usize, &Range)> {
        let (start, range) = self.0.range(..=address).next_back()?;
        (address - start < range.0).then_some((*start, range))
    }

    /// Whether an address is in pinned memory.
    pub fn contains(&self, address: usize) -> bool {
        self.holding(address).is_some()
    }

    /// The context in which the memory at an address was pinned.
    pub fn context(&self, address: usize) -> Option<Handle> {
        self.holding(address).map(|(_, range)| range.3)
    }
}

const PORTABLE: u32 = 1;
const DEVICE_MAP: u32 = 2;
const WRITE_COMBINED: u32 = 4;

fn allocate(to: Out<usize>, bytes: usize, flags: u32) -> CUresult {
    within(|cx| {
        if to.is_null() || bytes == 0 || flags & !(PORTABLE | DEVICE_MAP | WRITE_COMBINED) != 0 {
            return Err(Code::InvalidValue.into());
        }
        cx.unsafe_while_capturing()?;
        refusal::request()?;
        let count = bytes.div_ceil(PAGE);
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).map_err(|_| Code::OutOfMemory)?;
        pages.resize(count, Page([0; PAGE]));
        let address = pages.as_mut_ptr().expose_provenance();
        cx.state().pinned.0.insert(address, (bytes, flags, Some(pages), cx.context));
        to.put(address)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(to: Out<usize>, bytes: usize, flags: u32) -> CUresult {
    allocate(to, bytes, flags)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocHost_v2(to: Out<usize>, bytes: usize) -> CUresult {
    allocate(to, bytes, 0)
}

/// Removes the range at `address`. `ours` says whether it must be allocated by the driver, or registered by the
/// program.
fn remove(address: usize, ours: bool, otherwise: Code) -> CUresult {
    within(|cx| {
        cx.unsafe_while_capturing()?;
        cx.driver.settle_context(cx.context);
        cx.learn_all();
        let mut state = cx.state();
        let found = state.pinned.0.get(&address).filter(|(_, _, pages, _)| pages.is_some() == ours);
        let Some(bytes) = found.map(|(bytes, ..)| *bytes) else {
            let kind = if ours { "allocated by the driver" } else { "registered" };
            return Err(otherwise.because(format!("{address:#x} is not pinned host memory {kind}")));
        };
        let changed = state.order.buffers.freed(address, bytes);
        state.pinned.0.remove(&address);
        drop(state);
        cx.lose_changed(changed);
        cx.report()
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(address: usize) -> CUresult {
    remove(address, true, Code::InvalidValue)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostRegister_v2(address: usize, bytes: usize, flags: u32) -> CUresult {
    within(|cx| {
        if address == 0 || bytes == 0 || address.checked_add(bytes).is_none() {
            return Err(Code::InvalidValue.into());
        }
        cx.unsafe_while_capturing()?;
        let mut state = cx.state();
        let before = state.pinned.0.range(..address + bytes).next_back();
        if before.is_some_and(|(start, (length, ..))| start + length > address) {
            return Err(Code::HostMemoryAlreadyRegistered.into());
        }
        state.pinned.0.insert(address, (bytes, flags, None, cx.context));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostUnregister(address: usize) -> CUresult {
    remove(address, false, Code::HostMemoryNotRegistered)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostGetFlags(flags: Out<u32>, address: usize) -> CUresult {
    within(|cx| flags.put(cx.state().pinned.holding(address).ok_or(Code::InvalidValue)?.1.1))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostGetDevicePointer_v2(_to: Out<DevicePointer>, address: usize, _flags: u32) -> CUresult {
    within(|cx| {
        let pinned = cx.state().pinned.contains(address);
        let code = if pinned { Code::NotSupported } else { Code::InvalidValue };
        Err(code.because("kernels cannot reach host memory here"))
    })
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread runs a host function of a stream. Such a function must not call the driver.
pub fn inside_host_function() -> bool {
    INSIDE.get()
}

/// Calls a host function on this thread, which is a stream's.
pub fn run_host_function(function: impl FnOnce()) {
    INSIDE.set(true);
    function();
    INSIDE.set(false);
}
