//! A launch: its grid and block, and its arguments in the order of the kernel's parameters.

use std::ffi::c_void;

use bytemuck::NoUninit;
use cudarc::driver::sys::CUdeviceptr;

use super::tiles::THREADS;
use super::{Buf, Bytes};

/// The grid and block of a launch, and its dynamic shared memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) grid: [usize; 3],
    pub(crate) block: [usize; 3],
    pub(crate) shared: usize,
}

impl Geometry {
    /// A grid in one dimension of at least `threads` threads, in blocks of [`THREADS`].
    pub(crate) fn linear(threads: usize) -> Self {
        Geometry { grid: [threads.div_ceil(THREADS).max(1), 1, 1], block: [THREADS, 1, 1], shared: 0 }
    }
}

/// The threads of a kernel over images of `c` channels and `len` elements in all. Where `vector` divides `c` there is
/// one thread for each `vector` channels, for the kernel's form `_packs` (`true`); else one for each element.
pub(crate) fn channel_threads(len: usize, c: usize, vector: usize) -> (usize, bool) {
    if c.is_multiple_of(vector) { (len / vector, true) } else { (len, false) }
}

/// The kernels' `Divisor`: `value`, and the multiplier and shift that divide dividends below 2³¹ by it
/// (`kernels/divide.cuh`).
pub(crate) fn divisor(value: usize) -> [u32; 3] {
    debug_assert!(value > 0 && i32::try_from(value).is_ok(), "{value} divides nothing that kernels divide");
    let shift = value.next_power_of_two().trailing_zeros();
    // With m the next integer above 2^(31+shift) / value, m·value exceeds 2^(31+shift) by at most value ≤ 2^shift,
    // too little to change the quotient of anything below 2³¹.
    let multiplier = (1u64 << (31 + shift)) / value as u64 + 1;
    [value as u32, multiplier as u32, shift]
}

/// The arguments of a launch, each at a multiple of 16 bytes.
#[derive(Default)]
pub(crate) struct Args {
    bytes: Vec<u128>,
    starts: Vec<usize>,
}

impl Args {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A plain value or struct, laid out as the kernel's parameter.
    pub(crate) fn value<T: NoUninit>(mut self, value: T) -> Self {
        let bytes = bytemuck::bytes_of(&value);
        let start = self.bytes.len();
        self.bytes.resize(start + bytes.len().div_ceil(size_of::<u128>()), 0);
        bytemuck::cast_slice_mut(&mut self.bytes[start..])[..bytes.len()].copy_from_slice(bytes);
        self.starts.push(start);
        self
    }

    /// A device address; 0 is null.
    pub(crate) fn address(self, address: CUdeviceptr) -> Self {
        self.value(address)
    }

    /// A buffer to be overwritten.
    pub(crate) fn output(self, buf: &mut Buf) -> Self {
        self.address(buf.overwritten())
    }

    /// A ReLU's output to be overwritten, the kernels' `Rectified`; with its signs if `signed` and the buffer has room
    /// for them.
    pub(crate) fn rectified(self, buf: &mut Buf, signed: bool) -> Self {
        let addresses = if signed { buf.overwritten_with_signs() } else { [buf.overwritten(), 0] };
        self.value(addresses)
    }

    pub(crate) fn bytes(self, bytes: &Bytes) -> Self {
        self.address(bytes.address())
    }

    pub(crate) fn bytes_mut(self, bytes: &mut Bytes) -> Self {
        let address = bytes.address();
        self.address(address)
    }

    /// A buffer to be overwritten, or null.
    pub(crate) fn optional_output(self, buf: Option<&mut Buf>) -> Self {
        self.address(buf.map_or(0, Buf::overwritten))
    }

    pub(crate) fn optional_bytes_mut(self, bytes: Option<&mut Bytes>) -> Self {
        self.address(bytes.map_or(0, |bytes| bytes.address()))
    }

    /// An extent or index, an `int` to the kernel. Tensors have fewer than 2³¹ elements.
    pub(crate) fn int(self, value: usize) -> Self {
        debug_assert!(i32::try_from(value).is_ok(), "{value} does not fit a kernel's int");
        self.value(value as i32)
    }

    pub(crate) fn flag(self, flag: bool) -> Self {
        self.value(i32::from(flag))
    }

    pub(crate) fn float(self, value: f32) -> Self {
        self.value(value)
    }

    /// The pointers for `cuLaunchKernel`, valid until `self` is changed or dropped.
    pub(super) fn pointers(&mut self) -> Vec<*mut c_void> {
        let base = self.bytes.as_mut_ptr();
        // SAFETY: every start is an index of `bytes`.
        self.starts.iter().map(|&start| unsafe { base.add(start) }.cast()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_keep_their_order_and_bytes() {
        let mut args = Args::new().int(7).value([1.5f32; 5]).flag(true).address(1 << 40);
        let pointers = args.pointers();
        assert_eq!(pointers.len(), 4);
        let read = |i: usize| unsafe { pointers[i].cast::<i32>().read() };
        assert_eq!((read(0), read(2)), (7, 1));
        assert_eq!(unsafe { pointers[1].cast::<[f32; 5]>().read() }, [1.5; 5]);
        assert_eq!(unsafe { pointers[3].cast::<u64>().read() }, 1 << 40);
    }

    #[test]
    fn products_divide() {
        let divisors =
            (1..300).chain([1 << 10, 65_535, 65_537, (1 << 30) - 1, 1 << 30, (1 << 30) + 1, i32::MAX as usize]);
        for value in divisors {
            let [same, multiplier, shift] = divisor(value);
            let value = value as u32;
            assert_eq!(same, value);
            let top = i32::MAX as u32;
            let near = |n: u32| [n.saturating_sub(1), n, (n + 1).min(top)];
            let multiples =
                [0, 1, 2, 3, 1000, top / value - 1, top / value].map(|i: u32| i.saturating_mul(value).min(top));
            for n in multiples.into_iter().flat_map(near).chain([top]) {
                let high = ((u64::from(2 * n) * u64::from(multiplier)) >> 32) as u32;
                assert_eq!(high >> shift, n / value, "{n} / {value}");
            }
        }
    }

    #[test]
    fn packs_are_taken_where_channels_are_whole_packs() {
        assert_eq!(channel_threads(2 * 25 * 96, 96, 8), (2 * 25 * 12, true));
        assert_eq!(channel_threads(2 * 25 * 12, 12, 4), (2 * 25 * 3, true));
        assert_eq!(channel_threads(2 * 25 * 12, 12, 8), (2 * 25 * 12, false));
        assert_eq!(channel_threads(7, 1, 4), (7, false));
    }

    #[test]
    fn a_row_of_threads_is_long_enough() {
        for (threads, blocks) in [(0, 1), (1, 1), (THREADS, 1), (THREADS + 1, 2)] {
            assert_eq!(Geometry::linear(threads).grid, [blocks, 1, 1]);
        }
    }
}
