//! Modules: loading PTX, and looking up its functions and global variables.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::sync::Arc;

use super::abi::{DevicePointer, Handle, In, Out, buffer};
use super::boundary::{Outcome, within};
use super::device::SHARED_PER_BLOCK;
use super::error::{CUresult, Code};
use super::settings::{driver_version, newest_ptx};
use super::state::{Function, Loaded, State, find, find_mut};
use super::work::Current;

/// The head of a PTX text: the ISA version, and the number of the target (80 for `sm_80a`).
pub struct Head {
    pub version: (u32, u32),
    pub target: Option<u32>,
}

/// Parses `.version` and `.target`, which only comments may precede.
pub fn head(ptx: &str) -> Option<Head> {
    let mut rest = ptx;
    let mut words = Vec::new();
    while words.len() < 4 {
        rest = rest.trim_start();
        rest = if rest.starts_with("//") {
            rest.split_once('\n')?.1
        } else if rest.starts_with("/*") {
            rest.split_once("*/")?.1
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || c == ',' || c == '/').unwrap_or(rest.len());
            if end == 0 {
                break;
            }
            words.push(&rest[..end]);
            &rest[end..]
        };
    }
    let version = match words[..] {
        [".version", version, ..] => version.split_once('.')?,
        _ => return None,
    };
    let target = match words[..] {
        [_, _, ".target", target] => target.strip_prefix("sm_"),
        _ => None,
    };
    Some(Head {
        version: (version.0.parse().ok()?, version.1.parse().ok()?),
        target: target.and_then(|number| number.trim_end_matches(char::is_alphabetic).parse().ok()),
    })
}

/// The log options of a load (`CUjit_option`): buffers for messages, as (address, size).
#[derive(Default)]
pub struct Logs {
    info: (usize, usize),
    error: (usize, usize),
    /// The options that hold the sizes. The numbers of bytes written replace them.
    sizes: [Option<Out<usize>>; 2],
}

const INFO_LOG_BUFFER: i32 = 3;
const INFO_LOG_BUFFER_SIZE: i32 = 4;
const ERROR_LOG_BUFFER: i32 = 5;
const ERROR_LOG_BUFFER_SIZE: i32 = 6;

impl Logs {
    /// Reads the log options. Other options concern generated code and have no effect here.
    pub fn read(count: u32, options: In<i32>, values: Out<usize>) -> Outcome<Logs> {
        let mut logs = Logs::default();
        for index in 0..count as usize {
            let value = values.nth(index);
            match options.at(index)? {
                INFO_LOG_BUFFER => logs.info.0 = value.get()?,
                INFO_LOG_BUFFER_SIZE => (logs.info.1, logs.sizes[0]) = (value.get()? as u32 as usize, Some(value)),
                ERROR_LOG_BUFFER => logs.error.0 = value.get()?,
                ERROR_LOG_BUFFER_SIZE => (logs.error.1, logs.sizes[1]) = (value.get()? as u32 as usize, Some(value)),
                _ => {}
            }
        }
        Ok(logs)
    }

    /// Writes a log, zero-terminated and truncated to its buffer, and the number of bytes written.
    fn write((address, room): (usize, usize), size: Option<Out<usize>>, text: &str) -> Outcome {
        let mut written = 0;
        if address != 0 && room > 0 {
            let cut = &text.as_bytes()[..text.len().min(room - 1)];
            buffer(address).put_all(cut.iter().copied().chain([0u8]))?;
            written = cut.len() + usize::from(!cut.is_empty());
        }
        size.map_or(Ok(()), |size| size.put(written))
    }

    fn tell(&self, error: &str) -> Outcome {
        Logs::write(self.info, self.sizes[0], "")?;
        Logs::write(self.error, self.sizes[1], error)
    }
}

fn check_head(cx: &Current, image: &[u8]) -> Outcome<(String, Head)> {
    const ELF: &[u8] = b"\x7fELF";
    const FATBIN: &[u8] = &[0x50, 0xed, 0x55, 0xba];
    // The header that nvcc embeds in a program; it points to a fat binary.
    const WRAPPER: &[u8] = &[0xb1, 0x43, 0x62, 0x46];
    if [ELF, FATBIN, WRAPPER].iter().any(|magic| image.starts_with(magic)) {
        return Err(Code::NoBinaryForGpu.because("machine code cannot be executed here: load PTX (nvcc --ptx)"));
    }
    let text = std::str::from_utf8(image).map_err(|_| Code::InvalidImage)?;
    let Some(head) = head(text) else {
        // The driver distinguishes PTX with errors from an image that is not PTX at all.
        let code = if text.contains(".version") { Code::InvalidPtx } else { Code::InvalidImage };
        return Err(code.because("the image does not begin with a .version directive"));
    };
    let driver = driver_version().map_err(|why| Code::InvalidValue.because(why))?;
    let (newest, (major, minor)) = (newest_ptx(driver), head.version);
    if head.version > newest {
        return Err(Code::UnsupportedPtxVersion.because(format!(
            "PTX ISA {major}.{minor} is newer than {}.{}, the newest of a driver for CUDA {}.{}",
            newest.0,
            newest.1,
            driver / 1000,
            driver % 1000 / 10
        )));
    }
    let (sm_major, sm_minor) = cx.driver.settings.compute_capability;
    if let Some(target) = head.target.filter(|target| *target > sm_major * 10 + sm_minor) {
        return Err(Code::InvalidPtx
            .because(format!("PTX for sm_{target} on a device of compute capability {sm_major}.{sm_minor}")));
    }
    Ok((text.to_owned(), head))
}

/// Loads an image and returns the handle of the module.
pub fn load(cx: &Current, image: &[u8], logs: &Logs, library: bool) -> Outcome<Handle> {
    cx.unsafe_while_capturing()?;
    let checked = check_head(cx, image);
    let (text, head) = match checked {
        Ok(checked) => checked,
        Err(fault) => {
            logs.tell(fault.why.as_deref().unwrap_or("the image is not PTX"))?;
            return Err(fault);
        }
    };
    match cx.driver.machine.load_on(cx.device()?, &text) {
        Ok(module) => {
            logs.tell("")?;
            let names = module.kernels().map(str::to_owned).collect();
            let loaded = Loaded {
                context: cx.context,
                module,
                ptx_version: head.version,
                library,
                functions: HashMap::new(),
                names,
            };
            let mut state = cx.state();
            let handle = state.handle();
            state.modules.insert(handle, loaded);
            Ok(handle)
        }
        Err(error) => {
            logs.tell(&error.to_string())?;
            Err(Code::InvalidPtx.because(error.to_string()))
        }
    }
}

pub fn read_file(name: In<c_char>) -> Outcome<Vec<u8>> {
    let name = name.text()?;
    let mut image = std::fs::read(name).map_err(|e| Code::FileNotFound.because(format!("{name}: {e}")))?;
    // In memory a PTX string ends at its zero, which may be in the file as well.
    if let Some(end) = image.iter().position(|byte| *byte == 0).filter(|_| !image.starts_with(b"\x7fELF")) {
        image.truncate(end);
    }
    Ok(image)
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoad(module: Out<Handle>, name: In<c_char>) -> CUresult {
    within(|cx| {
        if module.is_null() {
            return Err(Code::InvalidValue.into());
        }
        module.put(load(cx, &read_file(name)?, &Logs::default(), false)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(module: Out<Handle>, image: In<u8>) -> CUresult {
    within(|cx| {
        if module.is_null() {
            return Err(Code::InvalidValue.into());
        }
        module.put(load(cx, image.as_chars().bytes()?, &Logs::default(), false)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadDataEx(
    module: Out<Handle>,
    image: In<u8>,
    count: u32,
    options: In<i32>,
    values: Out<usize>,
) -> CUresult {
    within(|cx| {
        if module.is_null() {
            return Err(Code::InvalidValue.into());
        }
        let logs = Logs::read(count, options, values)?;
        module.put(load(cx, image.as_chars().bytes()?, &logs, false)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadFatBinary(module: Out<Handle>, image: In<u8>) -> CUresult {
    cuModuleLoadData(module, image)
}

/// Unloads a module and its functions. Captured graphs keep the kernels that they launch.
pub fn unload(cx: &Current, module: Handle, library: bool) -> Outcome {
    cx.unsafe_while_capturing()?;
    cx.driver.settle_context(cx.context);
    let mut state = cx.state();
    if find(&state.modules, module)?.library != library {
        return Err(Code::InvalidHandle.into());
    }
    let removed = state.modules.remove(&module);
    state.functions.retain(|_, function| function.module != module);
    drop(state);
    drop(removed);
    cx.report()
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: Handle) -> CUresult {
    within(|cx| unload(cx, module, false))
}

/// The handle of the function of this name, the same at each call.
pub fn function(state: &mut State, module: Handle, name: &str) -> Outcome<Handle> {
    let loaded = find(&state.modules, module)?;
    if let Some(handle) = loaded.functions.get(name) {
        return Ok(*handle);
    }
    let kernel = loaded.module.kernel(name).ok_or(Code::NotFound)?;
    let handle = state.handle();
    let function = Function {
        module,
        name: Arc::new(CString::new(name).map_err(|_| Code::NotFound)?),
        dynamic_shared_limit: SHARED_PER_BLOCK.saturating_sub(kernel.static_shared()),
        carveout: -1,
        kernel,
    };
    state.functions.insert(handle, function);
    find_mut(&mut state.modules, module)?.functions.insert(name.to_owned(), handle);
    Ok(handle)
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunction(to: Out<Handle>, module: Handle, name: In<c_char>) -> CUresult {
    within(|cx| {
        let name = name.text()?;
        to.put(function(&mut cx.state(), module, name)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunctionCount(count: Out<u32>, module: Handle) -> CUresult {
    within(|cx| count.put(find(&cx.state().modules, module)?.names.len() as u32))
}

/// Writes the handles of a module's functions, at most `room`.
pub fn enumerate(cx: &Current, to: Out<Handle>, room: u32, module: Handle) -> Outcome {
    let mut state = cx.state();
    let names: Vec<String> = find(&state.modules, module)?.names.iter().take(room as usize).cloned().collect();
    let handles: Outcome<Vec<Handle>> = names.iter().map(|name| function(&mut state, module, name)).collect();
    to.put_all(handles?)
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleEnumerateFunctions(to: Out<Handle>, room: u32, module: Handle) -> CUresult {
    within(|cx| enumerate(cx, to, room, module))
}

pub fn global(
    cx: &Current,
    address: Out<DevicePointer>,
    bytes: Out<usize>,
    module: Handle,
    name: In<c_char>,
) -> Outcome {
    let name = name.text()?;
    let (at, size) = find(&cx.state().modules, module)?.module.global(name).ok_or(Code::NotFound)?;
    address.offer(at);
    bytes.offer(size);
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetGlobal_v2(
    address: Out<DevicePointer>,
    bytes: Out<usize>,
    module: Handle,
    name: In<c_char>,
) -> CUresult {
    within(|cx| global(cx, address, bytes, module, name))
}

/// `CU_MODULE_EAGER_LOADING`: a module is decoded when it is loaded.
#[unsafe(no_mangle)]
extern "C" fn cuModuleGetLoadingMode(mode: Out<i32>) -> CUresult {
    within(|_| mode.put(1))
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn head_is_parsed_after_comments_and_malformed_heads_are_refused() {
        let both =
            head("// made by hand\n/* and\nfoot */ .version 8.7\n.target sm_90a, debug\n.address_size 64").unwrap();
        assert_eq!((both.version, both.target), ((8, 7), Some(90)));
        let alone = head(".version 6.0").unwrap();
        assert_eq!((alone.version, alone.target), ((6, 0), None));
        for text in ["", "//", "/*", ".version", ".version x.y", ".target sm_80", "garbage", ".version 8"] {
            assert!(head(text).is_none(), "{text}");
        }
    }
}
