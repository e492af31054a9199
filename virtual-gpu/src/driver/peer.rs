//! Two devices: what one may access of the other, and copies between their contexts.
//!
//! Every device may access every other's memory, as with NVLink. A context must ask for it first, for each of the others'
//! contexts. Kernels then reach all that was allocated on that context's device, but for the memory of pools, which
//! `cuMemPoolSetAccess` opens. Copies need neither.

use super::abi::{DevicePointer, Handle, Out};
use super::boundary::{Outcome, call, within};
use super::context::check_device;
use super::error::{CUresult, Code};
use super::state::{Owner, State};
use super::transfer::copy_op;
use super::work::{Current, Place};
use crate::machine::Reach;

impl State {
    /// What a kernel that is launched in a context may access.
    pub fn reach(&mut self, context: Handle) -> Outcome<Reach> {
        let launching = self.context(context)?;
        let (device, contexts) = (launching.device, launching.peers.clone());
        let peers = contexts.iter().filter_map(|peer| self.contexts.get(peer)).map(|peer| peer.device).collect();
        let pools = self.opened.iter().filter(|(_, to)| *to == device).map(|(pool, _)| *pool as u64).collect();
        Ok(Reach { device, peers, pools })
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) -> CUresult {
    call(|_| can.put(i32::from(check_device(device)? != check_device(peer)?)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetP2PAttribute(value: Out<i32>, attribute: i32, from: i32, to: i32) -> CUresult {
    call(|_| {
        if check_device(from)? == check_device(to)? {
            return Err(Code::InvalidDevice.into());
        }
        match attribute {
            1 => value.put(0),     // the rank: all links are equally fast
            2 | 3 => value.put(1), // access, and atomics
            4 | 5 => value.put(0), // arrays; only some of the atomics
            _ => Err(Code::InvalidValue.into()),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxEnablePeerAccess(peer: Handle, flags: u32) -> CUresult {
    within(|cx| {
        if flags != 0 {
            return Err(Code::InvalidValue.into());
        }
        let mut state = cx.state();
        let device = state.context(peer)?.device;
        if peer == cx.context {
            return Err(Code::InvalidContext.because("a context is not its own peer"));
        }
        let own = state.context(cx.context)?;
        if own.device == device {
            return Err(Code::InvalidDevice.because(format!("both contexts are on device {device}")));
        }
        if own.peers.insert(peer) { Ok(()) } else { Err(Code::PeerAccessAlreadyEnabled.into()) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxDisablePeerAccess(peer: Handle) -> CUresult {
    within(|cx| {
        let mut state = cx.state();
        state.context(peer)?;
        if state.context(cx.context)?.peers.remove(&peer) { Ok(()) } else { Err(Code::PeerAccessNotEnabled.into()) }
    })
}

/// Checks the ends of a copy between contexts: each address must be of its context's device, or managed.
fn check_ends(cx: &Current, ends: [(DevicePointer, Handle); 2]) -> Outcome {
    for (address, context) in ends {
        let device = cx.state().context(context)?.device;
        let machine = &cx.driver.machine;
        let Some((home, base)) = machine.home(address).zip(machine.allocation(address).map(|found| found.0)) else {
            // The copy itself says what is wrong with it.
            continue;
        };
        // Managed memory belongs to all devices.
        let managed = (cx.state().allocations.get(&base)).is_some_and(|found| found.owner == Owner::Managed);
        if home.device != device && !managed {
            let why = format!("{address:#x} is on device {}, and its context is on device {device}", home.device);
            return Err(Code::InvalidValue.because(why));
        }
    }
    Ok(())
}

/// Waits for the pending work of both contexts, as the manual says of this form.
#[unsafe(no_mangle)]
extern "C" fn cuMemcpyPeer(
    to: DevicePointer,
    to_context: Handle,
    from: DevicePointer,
    from_context: Handle,
    bytes: usize,
) -> CUresult {
    within(|cx| {
        check_ends(cx, [(to, to_context), (from, from_context)])?;
        let Some(op) = copy_op(cx, Place::Device(to), Place::Device(from), bytes)? else { return Ok(()) };
        cx.before_blocking()?;
        for context in [to_context, from_context] {
            cx.driver.settle_context(context);
            Current { driver: cx.driver, context }.learn_all();
        }
        cx.perform(op)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyPeerAsync(
    to: DevicePointer,
    to_context: Handle,
    from: DevicePointer,
    from_context: Handle,
    bytes: usize,
    stream: Handle,
) -> CUresult {
    within(|cx| {
        let cx = &cx.of(stream)?;
        cx.stream(stream)?;
        check_ends(cx, [(to, to_context), (from, from_context)])?;
        match copy_op(cx, Place::Device(to), Place::Device(from), bytes)? {
            Some(op) => cx.enqueue(stream, op),
            None => Ok(()),
        }
    })
}
