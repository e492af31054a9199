//! Accesses of the driver to global memory: copies, fills and releases.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::memory::{Allocation, Memory, MemoryError};
use super::order::{Operation, Touch, Witness, raced};

impl Memory {
    /// The place of an access by the operation, after its check against those of other streams.
    fn place(
        &self,
        address: u64,
        bytes: usize,
        by: &Operation,
        (touch, verb): (Touch, &str),
    ) -> Result<(Arc<Allocation>, usize), MemoryError> {
        let (found, offset) = self.locate(address, bytes)?;
        let checked = Witness::of(by).check(&found, offset, bytes, touch);
        checked.map_err(|race| MemoryError::StreamRace(raced(verb, (&found, offset), bytes, race)))?;
        Ok((found, offset))
    }

    pub fn read(&self, address: u64, into: &mut [u8], by: &Operation) -> Result<(), MemoryError> {
        if into.is_empty() {
            return Ok(());
        }
        let (found, offset) = self.place(address, into.len(), by, (Touch::Read, "read"))?;
        found.read(offset, into);
        Ok(())
    }

    pub fn write(&self, address: u64, from: &[u8], by: &Operation) -> Result<(), MemoryError> {
        if from.is_empty() {
            return Ok(());
        }
        let (found, offset) = self.place(address, from.len(), by, (Touch::Write, "write"))?;
        found.write(offset, from, by.number);
        Ok(())
    }

    /// Checks the release of an allocation against the operations that used it.
    pub fn releasable(&self, address: u64, by: &Operation) -> Result<(), MemoryError> {
        match self.find(address) {
            Some(found) => self.place(found.base, found.size, by, (Touch::Free, "release")).map(drop),
            None => Ok(()),
        }
    }

    pub fn fill(&self, address: u64, pattern: &[u8], count: usize, by: &Operation) -> Result<(), MemoryError> {
        let bytes = pattern.len().saturating_mul(count);
        if bytes == 0 {
            return Ok(());
        }
        let (found, offset) = self.place(address, bytes, by, (Touch::Write, "fill"))?;
        // Written in pieces of a few pages, so that a large fill needs no buffer of its size.
        let piece = pattern.repeat((16384 / pattern.len()).clamp(1, count));
        let mut done = 0;
        while done < bytes {
            let now = piece.len().min(bytes - done);
            found.write(offset + done, &piece[..now], by.number);
            done += now;
        }
        Ok(())
    }

    /// Copies as `memmove` does. Bytes that were never written stay unwritten at the destination.
    pub fn copy(&self, to: u64, from: u64, bytes: usize, by: &Operation) -> Result<(), MemoryError> {
        if bytes == 0 {
            return Ok(());
        }
        let (source, at) = self.place(from, bytes, by, (Touch::Read, "read"))?;
        let (target, into) = self.place(to, bytes, by, (Touch::Write, "write"))?;
        let mut data = vec![0; bytes];
        source.read(at, &mut data);
        // Looked up before the write, for the ranges may overlap.
        let unwritten =
            |i: &usize| source.shadow(at + i).is_some_and(|word| word.load(Relaxed) >> ((at + i) % 4) & 1 == 0);
        let unwritten: Vec<usize> = (0..bytes).filter(unwritten).collect();
        target.write(into, &data, by.number);
        for i in unwritten.into_iter().filter(|_| !target.managed) {
            if let Some(word) = target.shadow(into + i) {
                word.fetch_and(!(1 << ((into + i) % 4)), Relaxed);
            }
        }
        Ok(())
    }
}
