//! Memory that is asked for: a refusal is an answer. Rust's collections end the process instead.

use std::cell::Cell;
use std::collections::TryReserveError;
use std::hint::black_box;

use bytemuck::Zeroable;

thread_local! {
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is asking for memory whose refusal the library answers with an error.
///
/// For global allocators: one that ends the program where there is no memory must return a null pointer while this is set.
pub fn is_asking() -> bool {
    ASKING.get()
}

fn asking<T>(request: impl FnOnce() -> T) -> T {
    ASKING.set(true);
    // The compiler may leave out a request whose memory is not used, as if it had been granted.
    let answer = black_box(request());
    ASKING.set(false);
    answer
}

/// A block of `len` zeros; `None` if the system refuses it.
pub(crate) fn zeroed<T: Zeroable>(len: usize) -> Option<Box<[T]>> {
    asking(|| bytemuck::allocation::try_zeroed_slice_box(len)).ok()
}

/// Makes room for exactly `more` further elements.
pub(crate) fn reserve<T>(vec: &mut Vec<T>, more: usize) -> Result<(), TryReserveError> {
    asking(|| vec.try_reserve_exact(more))
}

/// Makes room for `more` further elements at least, so that adding them little by little stays linear.
pub(crate) fn grow<T>(vec: &mut Vec<T>, more: usize) -> Result<(), TryReserveError> {
    asking(|| vec.try_reserve(more))
}

/// A copy of a slice; `None` if the system refuses the memory.
pub(crate) fn copied<T: Copy>(slice: &[T]) -> Option<Vec<T>> {
    let mut copy = Vec::new();
    reserve(&mut copy, slice.len()).ok()?;
    copy.extend_from_slice(slice);
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused() {
        assert!(zeroed::<u64>(usize::MAX / 8).is_none() && zeroed::<u8>(1 << 62).is_none());
        assert!(reserve(&mut vec![1u8], usize::MAX).is_err() && grow(&mut vec![1u8], 1 << 62).is_err());
        assert!(!is_asking());
        assert_eq!(copied(&[1, 2, 3]), Some(vec![1, 2, 3]));
    }
}
