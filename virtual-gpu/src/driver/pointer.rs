//! The attributes of a pointer: where its memory is, and whose.

use std::ffi::c_void;

use super::abi::{DevicePointer, Handle, In, Out, untyped};
use super::boundary::{Outcome, within};
use super::error::{CUresult, Code};
use super::state::Owner;
use super::work::Current;

const MEMORY_TYPE_HOST: u32 = 1;
const MEMORY_TYPE_DEVICE: u32 = 2;
/// `CU_DEVICE_INVALID`.
const NO_DEVICE: i32 = -2;

const CONTEXT: i32 = 1;
const MEMORY_TYPE: i32 = 2;
const DEVICE_POINTER: i32 = 3;
const HOST_POINTER: i32 = 4;
const BUFFER_ID: i32 = 7;
const IS_MANAGED: i32 = 8;
const DEVICE_ORDINAL: i32 = 9;
const RANGE_START: i32 = 11;
const RANGE_SIZE: i32 = 12;
const MAPPED: i32 = 13;

/// Writes one attribute of an address that the driver knows; `INVALID_VALUE` for another.
fn attribute(cx: &Current, value: Out<c_void>, attribute: i32, address: DevicePointer) -> Outcome {
    let on_device = cx.driver.machine.allocation(address);
    let state = cx.state();
    if on_device.is_none() && !state.pinned.contains(address as usize) {
        return Err(Code::InvalidValue.into());
    }
    let owner = on_device.and_then(|(base, _)| state.allocations.get(&base).copied());
    let context = owner.map(|owner| owner.context).or_else(|| state.pinned.context(address as usize));
    // The memory of a module's variable is in no table, and pinned memory may outlive its context.
    let context = context.filter(|context| state.contexts.contains_key(context)).unwrap_or(cx.context);
    let home = cx.driver.machine.home(address).map(|home| home.device);
    let ordinal = home.or_else(|| state.contexts.get(&context).map(|context| context.device)).unwrap_or(0);
    drop(state);
    let managed = owner.is_some_and(|allocation| allocation.owner == Owner::Managed);
    let device = on_device.ok_or(Code::InvalidValue);
    match attribute {
        CONTEXT => untyped(value).put(context),
        MEMORY_TYPE => untyped(value).put(if on_device.is_some() { MEMORY_TYPE_DEVICE } else { MEMORY_TYPE_HOST }),
        DEVICE_POINTER => device.map_err(Into::into).and_then(|_| untyped(value).put(address)),
        HOST_POINTER if managed || on_device.is_none() => untyped(value).put(address),
        BUFFER_ID | RANGE_START => device.map_err(Into::into).and_then(|(base, _)| untyped(value).put(base)),
        IS_MANAGED => untyped(value).put(u32::from(managed)),
        DEVICE_ORDINAL => untyped(value).put(ordinal as i32),
        RANGE_SIZE => device.map_err(Into::into).and_then(|(_, bytes)| untyped(value).put(bytes)),
        MAPPED => untyped(value).put(1u32),
        HOST_POINTER | 10 | 15 => Err(Code::InvalidValue.into()),
        _ => Err(Code::NotSupported.because(format!("attribute {attribute} of a pointer"))),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuPointerGetAttribute(value: Out<c_void>, number: i32, address: DevicePointer) -> CUresult {
    within(|cx| attribute(cx, value, number, address))
}

/// The attributes that [`attribute`] lacks for this address are written as null, as the manual says.
#[unsafe(no_mangle)]
extern "C" fn cuPointerGetAttributes(
    count: u32,
    attributes: In<i32>,
    values: In<Out<c_void>>,
    address: DevicePointer,
) -> CUresult {
    within(|cx| {
        if attributes.is_null() || values.is_null() {
            return Err(Code::InvalidValue.into());
        }
        for index in 0..count as usize {
            let (number, value) = (attributes.at(index)?, values.at(index)?);
            match attribute(cx, value, number, address) {
                Err(fault) if fault.code == Code::InvalidValue && !value.is_null() => match number {
                    DEVICE_ORDINAL => untyped(value).put(NO_DEVICE)?,
                    MEMORY_TYPE | IS_MANAGED | MAPPED => untyped(value).put(0u32)?,
                    CONTEXT | DEVICE_POINTER | HOST_POINTER | BUFFER_ID | RANGE_START | RANGE_SIZE => {
                        untyped::<Handle>(value).put(0)?;
                    }
                    _ => return Err(fault),
                },
                outcome => outcome?,
            }
        }
        Ok(())
    })
}
