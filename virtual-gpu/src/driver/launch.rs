//! Launches: checks the shape against the device's limits, and collects the arguments.

use super::abi::{Handle, In, argument, array, host};
use super::boundary::{Outcome, within};
use super::device::{BLOCK, GRID, THREADS_PER_BLOCK};
use super::error::{CUresult, Code, Fault};
use super::function::lookup;
use super::state::{Function, find};
use super::work::{Current, LaunchOp, Op};
use crate::machine::Launch;

fn check(function: &Function, launch: &Launch) -> Outcome {
    let name = function.kernel.name();
    let wrong = |what: String| -> Fault { Code::InvalidValue.because(format!("launch of {name}: {what}")) };
    for (what, given, most) in [("grid", launch.grid, GRID), ("block", launch.block, BLOCK)] {
        if given.iter().zip(most).any(|(given, most)| *given == 0 || *given > most) {
            return Err(wrong(format!("a {what} of {given:?}: each must be from 1 to {most:?}")));
        }
    }
    let threads: u64 = launch.block.iter().map(|n| u64::from(*n)).product();
    let most = function.max_threads().min(THREADS_PER_BLOCK);
    if threads > most as u64 {
        return Err(wrong(format!("{threads} threads a block: at most {most}")));
    }
    if launch.dynamic_shared > function.dynamic_shared_limit {
        return Err(wrong(format!(
            "{} bytes of dynamic shared memory: at most {} unless cuFuncSetAttribute allows more",
            launch.dynamic_shared, function.dynamic_shared_limit
        )));
    }
    Ok(())
}

/// Checks that a kernel was loaded on the current context's device.
fn check_device(cx: &Current, function: &Function) -> Outcome {
    let mut state = cx.state();
    let owner = find(&state.modules, function.module)?.context;
    let (loaded, current) = (state.context(owner)?.device, state.context(cx.context)?.device);
    if loaded != current {
        let name = function.kernel.name();
        let why = format!("launch of {name}: it was loaded on device {loaded}, and the context is on device {current}");
        return Err(Code::InvalidHandle.because(why));
    }
    Ok(())
}

const PARAM_END: usize = 0;
const PARAM_BUFFER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

/// The arguments as contiguous bytes, from an array of pointers or from a buffer.
fn gather(function: &Function, params: In<usize>, extra: In<usize>) -> Outcome<Vec<u8>> {
    let kernel = &function.kernel;
    let wrong = |what: &str| -> Fault { Code::InvalidValue.because(format!("launch of {}: {what}", kernel.name())) };
    let mut bytes = vec![0; kernel.param_bytes()];
    match (params.is_null(), extra.is_null()) {
        (true, true) if bytes.is_empty() => {}
        (true, true) => return Err(wrong("the kernel has parameters, and no arguments were passed")),
        (false, false) => return Err(wrong("arguments were passed both as pointers and as a buffer")),
        (false, true) => {
            for (index, param) in kernel.params().iter().enumerate() {
                argument(params, index, &mut bytes[param.offset..param.offset + param.size])?;
            }
        }
        (true, false) => {
            let (mut address, mut size, mut at) = (0, 0, 0);
            loop {
                match extra.at(at)? {
                    PARAM_END => break,
                    PARAM_BUFFER => address = extra.at(at + 1)?,
                    PARAM_BUFFER_SIZE => size = array::<usize>(extra.at(at + 1)?).get()?,
                    _ => return Err(wrong("the list of extra options is malformed")),
                }
                at += 2;
            }
            if size < bytes.len() {
                return Err(wrong(&format!("a buffer of {size} bytes for {} of arguments", bytes.len())));
            }
            let length = bytes.len();
            bytes.copy_from_slice(host(address, length)?);
        }
    }
    Ok(bytes)
}

fn launch(
    cx: &Current,
    function: Handle,
    launch: Launch,
    (stream, programmatic): (Handle, bool),
    params: In<usize>,
    extra: In<usize>,
) -> Outcome {
    let function = lookup(cx, function)?;
    let key = cx.stream(stream)?;
    check_device(cx, &function)?;
    check(&function, &launch)?;
    let params = gather(&function, params, extra)?;
    let programmatic = programmatic && cx.state().after_kernel.contains(&(cx.context, key));
    let op = LaunchOp { kernel: function.kernel, launch, params, context: cx.context, stream: key, programmatic };
    cx.enqueue(stream, Op::Launch(op.into()))
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    dynamic_shared: u32,
    stream: Handle,
    params: In<usize>,
    extra: In<usize>,
) -> CUresult {
    let shape = Launch {
        grid: [grid_x, grid_y, grid_z],
        block: [block_x, block_y, block_z],
        dynamic_shared: dynamic_shared as usize,
    };
    within(|cx| launch(cx, function, shape, (stream, false), params, extra))
}

/// `CUlaunchConfig`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    stream: Handle,
    attributes: usize,
    attribute_count: u32,
}

/// `CUlaunchAttribute`: an id and a 64-byte value.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Attribute {
    id: i32,
    padding: i32,
    value: [u32; 16],
}

/// Attributes without effect here, because every launch satisfies them or they concern only speed: none, caching,
/// waiting policy, priority, memory domains, carveout.
const HARMLESS: [i32; 7] = [0, 1, 3, 8, 9, 10, 14];
/// Programmatic stream serialization: overlap with the kernel before, which the checks of reads know of.
const PROGRAMMATIC: i32 = 6;
const COOPERATIVE: i32 = 2;
const CLUSTER: i32 = 4;

fn check_attribute(attribute: &Attribute) -> Outcome {
    match attribute.id {
        COOPERATIVE if attribute.value[0] == 0 => Ok(()),
        CLUSTER if attribute.value[..3].iter().all(|n| *n <= 1) => Ok(()),
        id if id == PROGRAMMATIC || HARMLESS.contains(&id) => Ok(()),
        id => Err(Code::NotSupported.because(format!("launch attribute {id}"))),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernelEx(config: In<Config>, function: Handle, params: In<usize>, extra: In<usize>) -> CUresult {
    within(|cx| {
        let config = config.get()?;
        let mut programmatic = false;
        for index in 0..config.attribute_count as usize {
            let attribute = array::<Attribute>(config.attributes).at(index)?;
            check_attribute(&attribute)?;
            programmatic |= attribute.id == PROGRAMMATIC && attribute.value[0] != 0;
        }
        let shape = Launch { grid: config.grid, block: config.block, dynamic_shared: config.dynamic_shared as usize };
        launch(cx, function, shape, (config.stream, programmatic), params, extra)
    })
}
