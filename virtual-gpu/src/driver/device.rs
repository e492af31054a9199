//! The devices, all of one kind: names, limits and attributes.

use std::ffi::c_char;

use super::abi::{In, Out};
use super::boundary::{Outcome, call};
use super::context::check_device;
use super::error::{CUresult, Code};
use super::state::Driver;
use crate::machine::most_shared;

/// The name of a device. A program that knows one device finds the name that it always had.
fn name(device: usize) -> String {
    match device {
        0 => "Virtual GPU (PTX interpreter)".into(),
        _ => format!("Virtual GPU {device} (PTX interpreter)"),
    }
}

/// The PCI address of a device: domain, bus, device, function. Each has a bus of its own.
fn pci(device: usize) -> [u32; 4] {
    [0, device as u32, 0, 0]
}

/// Parses `domain:bus:device.function`, `domain:bus:device` or `bus:device.function`, in hexadecimal.
fn parse_pci(text: &str) -> Option<[u32; 4]> {
    let (place, function) = text.split_once('.').map_or((text, None), |(place, function)| (place, Some(function)));
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let parts: Vec<u32> = place.split(':').map(number).collect::<Option<_>>()?;
    match (&parts[..], function) {
        (&[domain, bus, device], None) => Some([domain, bus, device, 0]),
        (&[domain, bus, device], Some(function)) => Some([domain, bus, device, number(function)?]),
        (&[bus, device], Some(function)) => Some([0, bus, device, number(function)?]),
        _ => None,
    }
}

/// The limits of a compute capability (CUDA programming guide, "Compute capabilities"). The number of multiprocessors
/// is that of the largest card of this capability, for programs that fill the card.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub threads_per_sm: usize,
    pub blocks_per_sm: usize,
    pub shared_per_sm: usize,
    /// The largest shared memory of one block, after `cuFuncSetAttribute`.
    pub shared_per_block_optin: usize,
    pub reserved_shared: usize,
    pub sms: usize,
    pub l2: usize,
}

pub const THREADS_PER_BLOCK: usize = 1024;
pub const BLOCK: [u32; 3] = [1024, 1024, 64];
pub const GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];
pub const SHARED_PER_BLOCK: usize = 48 << 10;
pub const REGISTERS_PER_SM: usize = 65536;
pub const WARP: usize = 32;

pub fn limits(capability: (u32, u32)) -> Limits {
    // For each multiprocessor: threads, blocks, shared memory in KB, reserved bytes. Then the number of SMs, and L2 in
    // MB.
    let (threads, blocks, shared, reserved, sms, l2) = match capability {
        (7, 5) => (1024, 16, 64, 0, 72, 6),
        (7, _) => (2048, 32, 96, 0, 80, 6),
        (8, 0) => (2048, 32, 164, 1024, 108, 40),
        (8, 7) => (1536, 16, 164, 1024, 16, 4),
        (8, 9) => (1536, 24, 100, 1024, 128, 72),
        (8, _) => (1536, 16, 100, 1024, 84, 6),
        (9, _) => (2048, 32, 228, 1024, 132, 50),
        (10, _) => (2048, 32, 228, 1024, 148, 126),
        (11, _) => (1536, 24, 228, 1024, 20, 32),
        _ => (1536, 24, 100, 1024, 170, 96),
    };
    Limits {
        threads_per_sm: threads,
        blocks_per_sm: blocks,
        shared_per_sm: shared << 10,
        shared_per_block_optin: most_shared(capability),
        reserved_shared: reserved,
        sms,
        l2: l2 << 20,
    }
}

impl Driver {
    pub fn limits(&self) -> Limits {
        let limits = limits(self.settings.compute_capability);
        Limits { sms: self.settings.multiprocessors.unwrap_or(limits.sms), ..limits }
    }
}

/// The value of a `CUdevice_attribute`. An attribute not listed is a feature or a size that the device lacks: zero.
fn attribute(driver: &Driver, number: i32, device: usize) -> Outcome<i32> {
    let (major, minor) = driver.settings.compute_capability;
    let limits = driver.limits();
    let value = match number {
        1 => THREADS_PER_BLOCK,
        2..=4 => BLOCK[number as usize - 2] as usize,
        5..=7 => GRID[number as usize - 5] as usize,
        8 => SHARED_PER_BLOCK,
        9 => 64 << 10, // constant memory
        10 => WARP,
        11 => i32::MAX as usize, // pitch of a copy
        12 | 82 => REGISTERS_PER_SM,
        13 => 1_410_000, // kHz
        14 => 512,       // texture alignment
        15 => 1,         // copies and kernels overlap
        16 => limits.sms,
        31 => 1, // concurrent kernels
        33 => pci(device)[1] as usize,
        36 => 1_215_000, // kHz of the memory
        37 => 5120,      // bits of its bus
        38 => limits.l2,
        39 => limits.threads_per_sm,
        40 => 1,  // copy engines
        41 => 1,  // one address space: `cuMemcpy` tells host from device
        51 => 32, // texture pitch alignment
        75 => major as usize,
        76 => minor as usize,
        78 => 1,      // stream priorities
        79 | 80 => 1, // L1 caches global and local memory
        81 => limits.shared_per_sm,
        83 => 1, // managed memory
        87 => 2, // single to double precision
        89 => 1, // the host may access managed memory while kernels run
        90 => 1, // preemption
        97 => limits.shared_per_block_optin,
        99 => 1,  // host memory can be registered
        101 => 1, // there is no other copy of managed memory
        106 => limits.blocks_per_sm,
        111 => limits.reserved_shared,
        115 => 1,                             // memory pools
        120 | 127 => usize::from(major >= 9), // clusters, tensor maps
        134 => return Ok(-1),                 // no NUMA node
        known if (1..=161).contains(&known) => 0,
        _ => return Err(Code::InvalidValue.into()),
    };
    Ok(value as i32)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: Out<i32>, ordinal: i32) -> CUresult {
    call(|_| {
        check_device(ordinal)?;
        device.put(ordinal)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: Out<i32>) -> CUresult {
    call(|driver| count.put(driver.settings.devices as i32))
}

/// Writes a string into a buffer, truncated and zero-terminated.
fn put_text(buffer: Out<c_char>, length: i32, text: &str) -> Outcome {
    let room = usize::try_from(length).ok().and_then(|length| length.checked_sub(1)).ok_or(Code::InvalidValue)?;
    buffer.put_all(text.bytes().take(room).chain([0]).map(|byte| byte as c_char))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(to: Out<c_char>, length: i32, device: i32) -> CUresult {
    call(|_| put_text(to, length, &name(check_device(device)?)))
}

fn uuid(uuid: Out<[u8; 16]>, device: i32) -> CUresult {
    call(|_| {
        let mut value = *b"virtual-gpu-ptx0";
        value[15] += check_device(device)? as u8;
        uuid.put(value)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid(to: Out<[u8; 16]>, device: i32) -> CUresult {
    uuid(to, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(to: Out<[u8; 16]>, device: i32) -> CUresult {
    uuid(to, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) -> CUresult {
    call(|driver| bytes.put(driver.machine.memory(check_device(device)?).1))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: Out<i32>, number: i32, device: i32) -> CUresult {
    call(|driver| value.put(attribute(driver, number, check_device(device)?)?))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) -> CUresult {
    call(|driver| {
        check_device(device)?;
        major.put(driver.settings.compute_capability.0 as i32)?;
        minor.put(driver.settings.compute_capability.1 as i32)
    })
}

/// `CUdevprop`, the oldest query. Its fields are attributes 1 to 14 in order.
#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetProperties(properties: Out<i32>, device: i32) -> CUresult {
    call(|driver| {
        let device = check_device(device)?;
        let values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14].map(|number| attribute(driver, number, device));
        properties.put_all(values.into_iter().collect::<Outcome<Vec<i32>>>()?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetPCIBusId(id: Out<c_char>, length: i32, device: i32) -> CUresult {
    call(|_| {
        let [domain, bus, device, function] = pci(check_device(device)?);
        put_text(id, length, &format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetByPCIBusId(device: Out<i32>, id: In<c_char>) -> CUresult {
    call(|driver| {
        let wanted = parse_pci(id.text()?).ok_or(Code::InvalidValue)?;
        let found = (0..driver.settings.devices).find(|index| pci(*index) == wanted);
        device.put(found.ok_or(Code::InvalidDevice)? as i32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_read_in_each_of_their_forms() {
        for text in ["0000:01:00.0", "0:1:0", "01:00.0"] {
            assert_eq!(parse_pci(text), Some(pci(1)), "{text}");
        }
        assert_eq!(parse_pci("ABCD:Ef:1F.7"), Some([0xabcd, 0xef, 0x1f, 7]));
        for text in ["", ":", "1", "1:2", "1:2:3:4", "0:1:0.", "0:1:x.0", "01:00.0.0", "é:1:0"] {
            assert_eq!(parse_pci(text), None, "{text}");
        }
    }
}
