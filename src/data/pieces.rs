//! A vector of unknown length, in memory that follows what arrives.

use std::collections::TryReserveError;

use crate::system::allocation::{grow, reserve};

/// Values that arrive in pieces. Memory holds the values that have arrived, and twice as many while
/// [`joined`](Self::joined) copies them; a vector that doubles would hold up to three times as many.
#[derive(Debug)]
pub(super) struct Pieces<T> {
    pieces: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Pieces { pieces: Vec::new(), len: 0 }
    }
}

impl<T: Copy + Default> Pieces<T> {
    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A new piece of `count` values at the end, to be written.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub(super) fn grow(&mut self, count: usize) -> Result<&mut [T], TryReserveError> {
        let mut piece = Vec::new();
        reserve(&mut piece, count)?;
        piece.resize(count, T::default());
        grow(&mut self.pieces, 1)?;
        self.len += count;
        self.pieces.push(piece);
        Ok(self.pieces.last_mut().map_or(&mut [], Vec::as_mut_slice))
    }

    /// Moves the values of `other` to the end.
    pub(super) fn append(&mut self, other: Self) {
        self.len += other.len;
        self.pieces.extend(other.pieces);
    }

    /// All values.
    ///
    /// # Errors
    /// Where there is no memory for a vector of them.
    pub(super) fn joined(self) -> Result<Vec<T>, TryReserveError> {
        let mut all = Vec::new();
        reserve(&mut all, self.len)?;
        self.pieces.into_iter().for_each(|piece| all.extend_from_slice(&piece));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_order() {
        let of = |values: &[u8]| {
            let mut pieces = Pieces::default();
            for piece in values.chunks(3) {
                pieces.grow(piece.len()).unwrap().copy_from_slice(piece);
            }
            pieces
        };
        let mut pieces = of(&[1, 2, 3, 4]);
        pieces.append(of(&[]));
        pieces.append(of(&[5]));
        assert_eq!(pieces.len(), 5);
        assert_eq!(pieces.joined().unwrap(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_piece_that_no_memory_holds_is_refused() {
        let mut pieces = Pieces::<u64>::default();
        assert!(pieces.grow(usize::MAX / 16).is_err());
        assert_eq!(pieces.joined().unwrap(), [0; 0]);
    }
}
