//! Initialisation, and the context stack of each thread.
//!
//! All contexts share one address space. Destroying a context destroys everything created in it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::mem::ManuallyDrop;

use super::abi::{Handle, In, Out};
use super::boundary::{Outcome, answer, call, say, within};
use super::error::{CUresult, Code};
use super::settings;
use super::state::{Context, Driver, State, driver, initialise, lock};
use super::work::Current;

thread_local! {
    /// Never dropped: the destructor of a program's own thread-local may still free device memory.
    static STACK: RefCell<ManuallyDrop<Vec<Handle>>> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
}

/// The context on top of the calling thread's stack.
pub fn current() -> Option<Handle> {
    STACK.with_borrow(|stack| stack.last().copied())
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: u32) -> CUresult {
    answer(|| if flags == 0 { initialise() } else { Err(Code::InvalidValue.into()) })
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: Out<i32>) -> CUresult {
    answer(|| version.put(settings::driver_version().map_err(|why| Code::InvalidValue.because(why))?))
}

/// Checks a device ordinal, and returns it as an index of the devices.
pub fn check_device(device: i32) -> Outcome<usize> {
    let devices = driver()?.settings.devices;
    usize::try_from(device).ok().filter(|index| *index < devices).ok_or(Code::InvalidDevice.into())
}

impl Current {
    /// The current context's device.
    pub fn device(&self) -> Outcome<usize> {
        Ok(self.state().context(self.context)?.device)
    }

    /// The call in the context of a stream, which need not be the current one: copies, fills and waits may name a stream
    /// of another context, and then belong to that. Launches may not.
    pub fn of(&self, stream: Handle) -> Outcome<Current> {
        let mut state = self.state();
        let context = state.streams.get(&stream).map_or(self.context, |stream| stream.context);
        match state.context(context)?.failure {
            Some(failure) if failure.reported => Err(failure.code.into()),
            _ => Ok(Current { driver: self.driver, context }),
        }
    }
}

pub fn create(state: &mut State, device: usize, primary: bool, flags: u32) -> Handle {
    let handle = state.handle();
    let context = Context {
        id: handle as u64 >> 4,
        device,
        peers: HashSet::new(),
        primary,
        flags,
        cache_config: 0,
        shared_config: 1,
        limits: HashMap::new(),
        failure: None,
    };
    state.contexts.insert(handle, context);
    handle
}

pub fn destroy(driver: &Driver, context: Handle) {
    driver.settle_context(context);
    // Another thread may be executing some work now.
    let _device = lock(&driver.device);
    let mut state = driver.state();
    state.forget_context(context);
    let freed = state.remove_context(context);
    drop(state);
    for address in freed {
        if let Err(error) = driver.machine.free(address) {
            say(error);
        }
    }
}

fn create_and_push(context: Out<Handle>, flags: u32, device: i32) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        if context.is_null() {
            return Err(Code::InvalidValue.into());
        }
        let handle = create(&mut driver.state(), device, false, flags);
        STACK.with_borrow_mut(|stack| stack.push(handle));
        context.put(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxCreate_v2(context: Out<Handle>, flags: u32, device: i32) -> CUresult {
    create_and_push(context, flags, device)
}

/// The form with execution affinities, which this device does not have.
#[unsafe(no_mangle)]
extern "C" fn cuCtxCreate_v3(
    context: Out<Handle>,
    affinities: In<u8>,
    count: i32,
    flags: u32,
    device: i32,
) -> CUresult {
    if !affinities.is_null() || count != 0 {
        return answer(|| Err(Code::NotSupported.because("contexts with execution affinity")));
    }
    create_and_push(context, flags, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxCreate_v4(context: Out<Handle>, params: In<u8>, flags: u32, device: i32) -> CUresult {
    if !params.is_null() {
        return answer(|| Err(Code::NotSupported.because("contexts with creation parameters")));
    }
    create_and_push(context, flags, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxDestroy_v2(context: Handle) -> CUresult {
    call(|driver| {
        if driver.state().context(context)?.primary {
            return Err(Code::InvalidContext.because("a primary context is released, not destroyed"));
        }
        destroy(driver, context);
        STACK.with_borrow_mut(|stack| {
            if stack.last() == Some(&context) {
                stack.pop();
            }
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPushCurrent_v2(context: Handle) -> CUresult {
    call(|driver| {
        driver.state().context(context)?;
        STACK.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPopCurrent_v2(context: Out<Handle>) -> CUresult {
    call(|_| {
        let popped = STACK.with_borrow_mut(|stack| stack.pop()).ok_or(Code::InvalidContext)?;
        context.offer(popped);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: Handle) -> CUresult {
    call(|driver| {
        if context != 0 {
            driver.state().context(context)?;
        }
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            if context != 0 {
                stack.push(context);
            }
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: Out<Handle>) -> CUresult {
    call(|_| context.put(current().unwrap_or(0)))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetDevice(device: Out<i32>) -> CUresult {
    within(|cx| device.put(cx.device()? as i32))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> CUresult {
    within(|cx| {
        cx.state().wait_for_context(cx.context)?;
        cx.wait()
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetFlags(flags: Out<u32>) -> CUresult {
    within(|cx| flags.put(cx.state().context(cx.context)?.flags))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetFlags(flags: u32) -> CUresult {
    within(|cx| {
        cx.state().context(cx.context)?.flags = flags;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetId(context: Handle, id: Out<u64>) -> CUresult {
    call(|driver| {
        let context = if context == 0 { current().ok_or(Code::InvalidContext)? } else { context };
        id.put(driver.state().context(context)?.id)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetApiVersion(context: Handle, version: Out<u32>) -> CUresult {
    call(|driver| {
        let context = if context == 0 { current().ok_or(Code::InvalidContext)? } else { context };
        driver.state().context(context)?;
        version.put(3020)
    })
}

/// The limits that can be read, with their defaults (`CUlimit`): stack, printf buffer, heap, depth and pending launches
/// of device-side launches, fetch granularity, persisting cache.
const LIMITS: [usize; 7] = [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0];

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetLimit(value: Out<usize>, limit: i32) -> CUresult {
    within(|cx| {
        let default = usize::try_from(limit).ok().and_then(|index| LIMITS.get(index));
        let default = default.ok_or(Code::UnsupportedLimit)?;
        value.put(*cx.state().context(cx.context)?.limits.get(&limit).unwrap_or(default))
    })
}

/// Stores a limit. It has no effect: local memory and the printf buffer are as large as they need to be.
#[unsafe(no_mangle)]
extern "C" fn cuCtxSetLimit(limit: i32, value: usize) -> CUresult {
    within(|cx| {
        if !(0..LIMITS.len() as i32).contains(&limit) {
            return Err(Code::UnsupportedLimit.into());
        }
        cx.state().context(cx.context)?.limits.insert(limit, value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCacheConfig(config: Out<i32>) -> CUresult {
    within(|cx| config.put(cx.state().context(cx.context)?.cache_config))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCacheConfig(config: i32) -> CUresult {
    within(|cx| {
        if !(0..4).contains(&config) {
            return Err(Code::InvalidValue.into());
        }
        cx.state().context(cx.context)?.cache_config = config;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetSharedMemConfig(config: Out<i32>) -> CUresult {
    within(|cx| config.put(cx.state().context(cx.context)?.shared_config))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetSharedMemConfig(config: i32) -> CUresult {
    within(|cx| {
        if !(0..3).contains(&config) {
            return Err(Code::InvalidValue.into());
        }
        // Banks are four bytes wide on every device since 2014; a card accepts and ignores the setting too.
        cx.state().context(cx.context)?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) -> CUresult {
    within(|_| {
        least.offer(super::stream::PRIORITIES.1);
        greatest.offer(super::stream::PRIORITIES.0);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxResetPersistingL2Cache() -> CUresult {
    within(|_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn cuProfilerStart() -> CUresult {
    within(|_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn cuProfilerStop() -> CUresult {
    within(|_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_stack_outlives_other_thread_locals() {
        struct Late(std::sync::mpsc::Sender<Option<Handle>>);
        impl Drop for Late {
            fn drop(&mut self) {
                let _ = self.0.send(current());
            }
        }
        thread_local! {
            static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // Created before the stack is first used, so destroyed after the stack would be.
            LATE.with_borrow_mut(|late| *late = Some(Late(sender)));
            STACK.with_borrow_mut(|stack| stack.push(7));
        });
        assert!(thread.join().is_ok());
        assert_eq!(receiver.recv(), Ok(Some(7)));
    }
}
