//! The guard of an update on the CPU: no number that is not finite is written (`kernels/update.cuh` is its twin).

use crate::device::Real;
use crate::device::cpu::Buf;
use crate::device::guard::{LATE, NOW};

/// Calls `update`, unless `guard` leaves the step out. `update` returns whether it has left out an element, which `guard` is
/// told.
pub(super) fn guarded<T: Real>(guard: Option<&mut Buf<T>>, update: impl FnOnce() -> bool) {
    match guard {
        Some(words) if words[NOW] != T::zero() => {}
        Some(words) => {
            if update() {
                words[LATE] = T::one();
            }
        }
        None => {
            update();
        }
    }
}

/// Replaces the numbers of an element if all new ones are finite. Returns whether the element was left out. Without a branch,
/// so that a loop over it has SIMD instructions.
#[inline(always)]
pub(super) fn replace<T: Real, const N: usize>(old: [&mut T; N], new: [T; N]) -> bool {
    let finite = new.iter().fold(true, |finite, new| finite & new.is_finite());
    for (old, new) in old.into_iter().zip(new) {
        *old = if finite { new } else { *old };
    }
    !finite
}
