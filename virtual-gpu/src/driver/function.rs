//! The attributes of a function, to read and to set.

use std::ffi::c_char;

use super::abi::{Handle, Out};
use super::boundary::{Outcome, within};
use super::context::check_device;
use super::device::THREADS_PER_BLOCK;
use super::error::{CUresult, Code};
use super::state::{Function, find, find_mut};
use super::work::Current;

const MAX_DYNAMIC_SHARED: i32 = 8;
const CARVEOUT: i32 = 9;

impl Function {
    /// The registers of a thread. PTX registers are unlimited; a compiler would fit them into 255, or into what the kernel's bounds
    /// leave, and spill the rest.
    pub fn registers(&self) -> usize {
        self.kernel.registers().clamp(16, 255)
    }

    /// The largest number of threads in a block (`.maxntid`).
    pub fn max_threads(&self) -> usize {
        match self.kernel.max_threads() {
            0 => THREADS_PER_BLOCK,
            threads => threads.min(THREADS_PER_BLOCK),
        }
    }
}

pub fn lookup(cx: &Current, function: Handle) -> Outcome<Function> {
    find(&cx.state().functions, function).cloned()
}

fn get(cx: &Current, function: Handle, attribute: i32) -> Outcome<i32> {
    let function = lookup(cx, function)?;
    let (major, minor) = cx.driver.settings.compute_capability;
    Ok(match attribute {
        0 => function.max_threads() as i32,
        1 => function.kernel.static_shared() as i32,
        3 => function.kernel.local_bytes() as i32,
        4 => function.registers() as i32,
        5 => {
            let version = find(&cx.state().modules, function.module)?.ptx_version;
            (version.0 * 10 + version.1) as i32
        }
        6 => (major * 10 + minor) as i32,
        MAX_DYNAMIC_SHARED => function.dynamic_shared_limit as i32,
        CARVEOUT => function.carveout,
        // Constant memory, caching mode, clusters: none.
        2 | 7 | 10..=15 => 0,
        _ => return Err(Code::InvalidValue.into()),
    })
}

fn set(cx: &Current, function: Handle, attribute: i32, value: i32) -> Outcome {
    let limits = cx.driver.limits();
    let mut state = cx.state();
    let function = find_mut(&mut state.functions, function)?;
    let most = limits.shared_per_block_optin.saturating_sub(function.kernel.static_shared());
    match attribute {
        MAX_DYNAMIC_SHARED => match usize::try_from(value) {
            Ok(bytes) if bytes <= most => function.dynamic_shared_limit = bytes,
            _ => {
                let why =
                    format!("{value} bytes of dynamic shared memory for {}: at most {most}", function.kernel.name());
                return Err(Code::InvalidValue.because(why));
            }
        },
        CARVEOUT if (-1..=100).contains(&value) => function.carveout = value,
        _ => return Err(Code::InvalidValue.into()),
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(value: Out<i32>, attribute: i32, function: Handle) -> CUresult {
    within(|cx| value.put(get(cx, function, attribute)?))
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: Handle, attribute: i32, value: i32) -> CUresult {
    within(|cx| set(cx, function, attribute, value))
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetAttribute(value: Out<i32>, attribute: i32, kernel: Handle, device: i32) -> CUresult {
    within(|cx| {
        check_device(device)?;
        value.put(get(cx, kernel, attribute)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelSetAttribute(attribute: i32, value: i32, kernel: Handle, device: i32) -> CUresult {
    within(|cx| {
        check_device(device)?;
        set(cx, kernel, attribute, value)
    })
}

/// Checks and ignores a cache or bank preference, which has no effect here.
fn prefer(function: Handle, config: i32, choices: i32) -> CUresult {
    within(|cx| {
        lookup(cx, function)?;
        if (0..choices).contains(&config) { Ok(()) } else { Err(Code::InvalidValue.into()) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetCacheConfig(function: Handle, config: i32) -> CUresult {
    prefer(function, config, 4)
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelSetCacheConfig(kernel: Handle, config: i32, _device: i32) -> CUresult {
    prefer(kernel, config, 4)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetSharedMemConfig(function: Handle, config: i32) -> CUresult {
    prefer(function, config, 3)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetModule(module: Out<Handle>, function: Handle) -> CUresult {
    within(|cx| module.put(lookup(cx, function)?.module))
}

/// The function's name. The string lives as long as the function.
fn name(to: Out<*const c_char>, function: Handle) -> CUresult {
    within(|cx| to.put(lookup(cx, function)?.name.as_ptr()))
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetName(to: Out<*const c_char>, function: Handle) -> CUresult {
    name(to, function)
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetName(to: Out<*const c_char>, kernel: Handle) -> CUresult {
    name(to, kernel)
}

fn param_info(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) -> CUresult {
    within(|cx| {
        let function = lookup(cx, function)?;
        let param = function.kernel.params().get(index).ok_or(Code::InvalidValue)?;
        size.offer(param.size);
        offset.put(param.offset)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) -> CUresult {
    param_info(function, index, offset, size)
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetParamInfo(kernel: Handle, index: usize, offset: Out<usize>, size: Out<usize>) -> CUresult {
    param_info(kernel, index, offset, size)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetParamCount(function: Handle, count: Out<usize>) -> CUresult {
    within(|cx| count.put(lookup(cx, function)?.kernel.params().len()))
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetParamCount(kernel: Handle, count: Out<usize>) -> CUresult {
    within(|cx| count.put(lookup(cx, kernel)?.kernel.params().len()))
}

/// Does nothing: functions are decoded with their module.
#[unsafe(no_mangle)]
extern "C" fn cuFuncLoad(function: Handle) -> CUresult {
    within(|cx| lookup(cx, function).map(|_| ()))
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncIsLoaded(state: Out<i32>, function: Handle) -> CUresult {
    within(|cx| {
        lookup(cx, function)?;
        state.put(1)
    })
}
