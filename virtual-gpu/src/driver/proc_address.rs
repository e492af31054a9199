//! `cuGetProcAddress`: maps a function's plain name and a CUDA version to the matching variant.

use std::ffi::{CString, c_char};

use super::abi::{In, Out, exported};
use super::boundary::{Outcome, answer};
use super::error::{CUresult, Code};

/// Functions with several variants, each with the first CUDA version that gets it. For every other name the `_v2`
/// variant is used if there is one: those date from CUDA 3.2 to 10.
const FORMS: &[(&str, &[(i32, &str)])] = &[
    ("cuCtxCreate", &[(13000, "cuCtxCreate_v4"), (0, "cuCtxCreate_v2")]),
    ("cuCtxGetDevice", &[(13000, "cuCtxGetDevice_v2"), (0, "cuCtxGetDevice")]),
    ("cuCtxSynchronize", &[(13000, "cuCtxSynchronize_v2"), (0, "cuCtxSynchronize")]),
    ("cuDeviceGetUuid", &[(11040, "cuDeviceGetUuid_v2"), (0, "cuDeviceGetUuid")]),
    ("cuEventElapsedTime", &[(12080, "cuEventElapsedTime_v2"), (0, "cuEventElapsedTime")]),
    ("cuGetProcAddress", &[(12000, "cuGetProcAddress_v2"), (0, "cuGetProcAddress")]),
    ("cuGraphInstantiate", &[(12000, "cuGraphInstantiateWithFlags"), (0, "cuGraphInstantiate_v2")]),
    ("cuMemAdvise", &[(13000, "cuMemAdvise_v2"), (0, "cuMemAdvise")]),
    ("cuMemPrefetchAsync", &[(13000, "cuMemPrefetchAsync_v2"), (0, "cuMemPrefetchAsync")]),
    ("cuStreamBeginCapture", &[(10010, "cuStreamBeginCapture_v2"), (0, "cuStreamBeginCapture")]),
    (
        "cuStreamGetCaptureInfo",
        &[(12030, "cuStreamGetCaptureInfo_v3"), (11030, "cuStreamGetCaptureInfo_v2"), (0, "cuStreamGetCaptureInfo")],
    ),
];

/// The status of a query: `CUdriverProcAddressQueryResult`.
const FOUND: i32 = 0;
const NOT_FOUND: i32 = 1;

/// Per-thread default stream variants are the same functions: the legacy stream, which they use instead, is ordered with
/// more streams and with all that its own thread does.
fn find(name: &str, version: i32) -> Outcome<usize> {
    let get = |name: &str| -> Outcome<usize> { Ok(exported(&CString::new(name).map_err(|_| Code::InvalidValue)?)) };
    if let Some((_, forms)) = FORMS.iter().find(|(plain, _)| *plain == name) {
        return forms.iter().find(|(from, _)| version >= *from).map_or(Ok(0), |(_, form)| get(form));
    }
    match get(&format!("{name}_v2"))? {
        0 => get(name),
        address => Ok(address),
    }
}

fn answer_query(name: In<c_char>, to: Out<usize>, version: i32, status: Out<i32>) -> CUresult {
    answer(|| {
        let name = name.text()?;
        let address = if name.starts_with("cu") { find(name, version)? } else { 0 };
        to.put(address)?;
        if address != 0 {
            status.offer(FOUND);
            return Ok(());
        }
        status.offer(NOT_FOUND);
        Err(Code::NotFound.into())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGetProcAddress_v2(
    name: In<c_char>,
    to: Out<usize>,
    version: i32,
    _flags: u64,
    status: Out<i32>,
) -> CUresult {
    answer_query(name, to, version, status)
}

#[unsafe(no_mangle)]
extern "C" fn cuGetProcAddress(name: In<c_char>, to: Out<usize>, version: i32, _flags: u64) -> CUresult {
    answer_query(name, to, version, Out::nowhere())
}
