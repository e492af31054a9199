//! Memory pools: attributes are stored, statistics are exact.
//!
//! A pool caches nothing. Freed memory returns to the device at once, so reserved memory equals used memory.

use std::collections::HashMap;
use std::ffi::c_void;

use super::abi::{Handle, In, Out, untyped};
use super::boundary::{Outcome, call, within};
use super::context::check_device;
use super::error::{CUresult, Code};
use super::state::{Device, Driver, Owner, find, find_mut};

pub struct Pool {
    pub device: usize,
    attributes: HashMap<i32, u64>,
}

impl Pool {
    pub fn of(device: usize) -> Pool {
        Pool { device, attributes: HashMap::new() }
    }
}

/// The beginning of `CUmemPoolProps`: the kinds of allocation and of handle, then the kind of place and its number.
type Properties = [i32; 4];

/// `CUmemAccessDesc`: the kind of place, its number, and the access.
type Access = [i32; 3];

/// `CU_MEM_LOCATION_TYPE_DEVICE`.
const DEVICE: i32 = 1;
/// `CUmemAccess_flags`.
const NO_ACCESS: i32 = 0;
const READ_WRITE: i32 = 3;

/// Attributes 1 to 3 are `int` flags for reuse policies, set by default; the others are 64-bit numbers.
const RELEASE_THRESHOLD: i32 = 4;

fn used(driver: &Driver, pool: Handle) -> u64 {
    let state = driver.state();
    (state.allocations.values()).filter(|a| a.owner == Owner::Pool(pool)).map(|a| a.bytes as u64).sum()
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolGetAttribute(pool: Handle, attribute: i32, value: Out<c_void>) -> CUresult {
    call(|driver| {
        let set = find(&driver.state().pools, pool)?.attributes.get(&attribute).copied();
        match attribute {
            1..=3 => untyped(value).put(set.unwrap_or(1) as i32),
            RELEASE_THRESHOLD => untyped(value).put(set.unwrap_or(0)),
            5..=8 => untyped(value).put(used(driver, pool)),
            _ => Err(Code::InvalidValue.into()),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolSetAttribute(pool: Handle, attribute: i32, value: Out<c_void>) -> CUresult {
    call(|driver| {
        let given = match attribute {
            1..=3 => untyped::<i32>(value).get()? as u64,
            RELEASE_THRESHOLD => untyped::<u64>(value).get()?,
            // A high-water mark can be reset to zero. It always equals the memory in use.
            6 | 8 if untyped::<u64>(value).get()? == 0 => return find(&driver.state().pools, pool).map(|_| ()),
            _ => return Err(Code::InvalidValue.into()),
        };
        find_mut(&mut driver.state().pools, pool)?.attributes.insert(attribute, given);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolTrimTo(pool: Handle, _keep: usize) -> CUresult {
    call(|driver| find(&driver.state().pools, pool).map(|_| ()))
}

/// A place in which only a device may be named.
fn device_of(kind: i32, id: i32) -> Outcome<usize> {
    match kind {
        DEVICE => check_device(id),
        _ => {
            Err(Code::NotSupported.because(format!("pools in, or accessed from, a place of type {kind}: only devices")))
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolCreate(pool: Out<Handle>, properties: In<Properties>) -> CUresult {
    call(|driver| {
        if pool.is_null() {
            return Err(Code::InvalidValue.into());
        }
        let [_, _, kind, id] = properties.get()?;
        let device = device_of(kind, id)?;
        let mut state = driver.state();
        let handle = state.handle();
        state.pools.insert(handle, Pool::of(device));
        pool.put(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolDestroy(pool: Handle) -> CUresult {
    call(|driver| {
        let mut state = driver.state();
        if state.devices.iter().any(|device| device.default_pool == pool) {
            return Err(Code::InvalidValue.because("the default pool cannot be destroyed"));
        }
        find(&state.pools, pool)?;
        state.pools.remove(&pool);
        for device in state.devices.iter_mut().filter(|device| device.current_pool == pool) {
            device.current_pool = device.default_pool;
        }
        Ok(())
    })
}

/// Opens the memory of a pool to devices, or closes it. Its own device always has access.
#[unsafe(no_mangle)]
extern "C" fn cuMemPoolSetAccess(pool: Handle, changes: In<Access>, count: usize) -> CUresult {
    call(|driver| {
        let own = find(&driver.state().pools, pool)?.device;
        let mut checked = Vec::new();
        for at in 0..count {
            let [kind, id, access] = changes.at(at)?;
            let device = device_of(kind, id)?;
            match access {
                NO_ACCESS if device == own => {
                    return Err(Code::InvalidValue.because("a pool's own device cannot lose access to it"));
                }
                NO_ACCESS | READ_WRITE => checked.push((device, access == READ_WRITE)),
                _ => return Err(Code::InvalidValue.because(format!("access {access} to a pool: all or none"))),
            }
        }
        let mut state = driver.state();
        for (device, open) in checked {
            if open {
                state.opened.insert((pool, device))
            } else {
                state.opened.remove(&(pool, device))
            };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolGetAccess(access: Out<i32>, pool: Handle, place: In<[i32; 2]>) -> CUresult {
    call(|driver| {
        let [kind, id] = place.get()?;
        let device = device_of(kind, id)?;
        let state = driver.state();
        let open = find(&state.pools, pool)?.device == device || state.opened.contains(&(pool, device));
        access.put(if open { READ_WRITE } else { NO_ACCESS })
    })
}

fn give(pool: Out<Handle>, device: i32, pick: impl FnOnce(&Device) -> Handle) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        pool.put(pick(&driver.state().devices[device]))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) -> CUresult {
    give(pool, device, |device| device.default_pool)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) -> CUresult {
    give(pool, device, |device| device.current_pool)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceSetMemPool(device: i32, pool: Handle) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        let mut state = driver.state();
        if find(&state.pools, pool)?.device != device {
            return Err(Code::InvalidValue.because(format!("the pool is not on device {device}")));
        }
        state.devices[device].current_pool = pool;
        Ok(())
    })
}

/// Used and reserved bytes of graphs, current and high-water (`CUgraphMem_attribute`). All four are equal here.
#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetGraphMemAttribute(device: i32, attribute: i32, value: Out<u64>) -> CUresult {
    within(|cx| {
        let device = check_device(device)?;
        if !(0..4).contains(&attribute) {
            return Err(Code::InvalidValue.into());
        }
        let state = cx.state();
        let held: u64 = (state.allocations.iter())
            .filter(|(_, a)| a.owner == Owner::Graph)
            .filter(|(address, _)| cx.driver.machine.home(**address).is_some_and(|home| home.device == device))
            .map(|(_, a)| a.bytes as u64)
            .sum();
        value.put(held)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGraphMemTrim(device: i32) -> CUresult {
    call(|_| check_device(device).map(drop))
}
