//! The primary context of each device, which its users share.

use super::abi::{Handle, Out};
use super::boundary::call;
use super::context::{check_device, create, destroy};
use super::error::{CUresult, Code};

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: i32) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        if context.is_null() {
            return Err(Code::InvalidValue.into());
        }
        // Locked throughout: threads that retain at the same time must all get the same context.
        let mut state = driver.state();
        let (known, flags) = (state.devices[device].primary, state.devices[device].primary_flags);
        let (handle, count) = known.unwrap_or_else(|| (create(&mut state, device, true, flags), 0));
        state.devices[device].primary = Some((handle, count + 1));
        context.put(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: i32) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        let mut state = driver.state();
        let primary = &mut state.devices[device].primary;
        let (handle, count) = primary.ok_or(Code::InvalidContext)?;
        *primary = (count > 1).then_some((handle, count - 1));
        drop(state);
        if count == 1 {
            destroy(driver, handle);
        }
        Ok(())
    })
}

/// Destroys the contents of the primary context. The context stays, empty and under the same handle, as on a card.
#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxReset_v2(device: i32) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        let known = driver.state().devices[device].primary;
        if let Some((handle, _)) = known {
            destroy(driver, handle);
            let mut state = driver.state();
            let flags = state.devices[device].primary_flags;
            let fresh = create(&mut state, device, true, flags);
            if let Some(context) = state.contexts.remove(&fresh) {
                state.contexts.insert(handle, context);
            }
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        driver.state().devices[device].primary_flags = flags;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        let state = driver.state();
        flags.put(state.devices[device].primary_flags)?;
        active.put(state.devices[device].primary.is_some() as i32)
    })
}

#[cfg(test)]
mod tests {
    use super::super::state::initialise;
    use super::*;

    #[test]
    fn concurrent_retains_of_the_primary_context_return_one_handle() {
        assert!(initialise().is_ok());
        let retain = || {
            let mut handle: Handle = 0;
            let place = super::super::abi::buffer((&raw mut handle).expose_provenance());
            assert_eq!(cuDevicePrimaryCtxRetain(place, 0), 0);
            handle
        };
        let threads: Vec<_> = (0..16).map(|_| std::thread::spawn(retain)).collect();
        let handles: Vec<Handle> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
        assert!(handles.len() == 16 && handles.iter().all(|handle| *handle == handles[0]), "{handles:?}");
        assert!((0..16).all(|_| cuDevicePrimaryCtxRelease_v2(0) == 0));
        assert_eq!(cuDevicePrimaryCtxRelease_v2(0), Code::InvalidContext as CUresult);
    }
}
