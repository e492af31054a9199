//! Memory pools: attributes are stored, statistics are exact.
//!
//! A pool caches nothing. Freed memory returns to the device at once, so reserved memory equals used memory.

use std::collections::HashMap;
use std::ffi::c_void;

use super::abi::{Handle, In, Out, untyped};
use super::boundary::{call, within};
use super::context::check_device;
use super::error::{CUresult, Code};
use super::state::{Driver, Owner, find, find_mut};

#[derive(Default)]
pub struct Pool {
    attributes: HashMap<i32, u64>,
}

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

/// The properties select the device; there is only one.
#[unsafe(no_mangle)]
extern "C" fn cuMemPoolCreate(pool: Out<Handle>, properties: In<u8>) -> CUresult {
    call(|driver| {
        if pool.is_null() || properties.is_null() {
            return Err(Code::InvalidValue.into());
        }
        let mut state = driver.state();
        let handle = state.handle();
        state.pools.insert(handle, Pool::default());
        pool.put(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolDestroy(pool: Handle) -> CUresult {
    call(|driver| {
        let mut state = driver.state();
        if pool == state.default_pool {
            return Err(Code::InvalidValue.because("the default pool cannot be destroyed"));
        }
        find(&state.pools, pool)?;
        state.pools.remove(&pool);
        if state.current_pool == pool {
            state.current_pool = state.default_pool;
        }
        Ok(())
    })
}

fn give(pool: Out<Handle>, device: i32, pick: impl FnOnce(&Driver) -> Handle) -> CUresult {
    call(|driver| {
        check_device(device)?;
        pool.put(pick(driver))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) -> CUresult {
    give(pool, device, |driver| driver.state().default_pool)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) -> CUresult {
    give(pool, device, |driver| driver.state().current_pool)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceSetMemPool(device: i32, pool: Handle) -> CUresult {
    call(|driver| {
        check_device(device)?;
        let mut state = driver.state();
        find(&state.pools, pool)?;
        state.current_pool = pool;
        Ok(())
    })
}

/// Used and reserved bytes of graphs, current and high-water (`CUgraphMem_attribute`). All four are equal here.
#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetGraphMemAttribute(device: i32, attribute: i32, value: Out<u64>) -> CUresult {
    within(|cx| {
        check_device(device)?;
        if !(0..4).contains(&attribute) {
            return Err(Code::InvalidValue.into());
        }
        let state = cx.state();
        let held: u64 = (state.allocations.iter())
            .filter(|(address, a)| a.owner == Owner::Graph && cx.driver.machine.allocation(**address).is_some())
            .map(|(_, a)| a.bytes as u64)
            .sum();
        value.put(held)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGraphMemTrim(device: i32) -> CUresult {
    call(|_| check_device(device))
}
