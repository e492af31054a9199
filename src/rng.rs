//! Counter-based random numbers: Philox4x32-10.
//!
//! Every random number of a training run is a pure function of *(seed, purpose, epoch, step, element)*. No generator
//! advances, so there is no state to save, resuming is bit-exact, and dropout needs no stored mask. A CPU and a GPU
//! produce the same numbers in any order of their threads.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

use std::convert::Infallible;

use rand::TryRng;

/// The use of a random number. Streams of different purposes have different counters, so they never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial values of the `index`-th parameter of a network, below 2^24.
    Init { index: u32 },
    /// The order in which an epoch visits the training images.
    Shuffle,
    /// The mask of the `index`-th dropout of a network, for a shard of a batch, both below 2^12.
    Dropout { index: u32, shard: u32 },
    /// What becomes of the training images of an epoch.
    Augment,
}

impl Purpose {
    /// The counter's upper word: a tag in the top 8 bits, the index in the lower 24; for dropouts the shard in 12 of them.
    fn word(self) -> u32 {
        let (tag, index) = match self {
            Purpose::Init { index } => (1, index),
            Purpose::Shuffle => (2, 0),
            Purpose::Dropout { index, shard } => {
                assert!(index < 1 << 12, "dropout {index}: a network has fewer than 2^12");
                assert!(shard < 1 << 12, "shard {shard}: a batch has fewer than 2^12");
                (3, shard << 12 | index)
            }
            Purpose::Augment => (4, 0),
        };
        assert!(index < 1 << 24, "parameter {index}: a network has fewer than 2^24");
        (tag << 24) | index
    }
}

/// One family of random words, addressed by element: `stream.word(i)` for `i` in `0..2^34`.
///
/// Philox's 64-bit key is the seed; its 128-bit counter is `[element / 4, step, epoch, purpose]`, and the element's
/// word is number `element % 4` of the four words that this counter yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    step: u32,
    epoch: u32,
    purpose: u32,
}

impl Stream {
    /// The stream of one purpose in one step of an epoch.
    ///
    /// # Panics
    /// Where a number is beyond the bound that [`Purpose`] states: the stream would be another one's.
    pub fn new(seed: u64, purpose: Purpose, epoch: u32, step: u32) -> Self {
        Stream { key: [seed as u32, (seed >> 32) as u32], step, epoch, purpose: purpose.word() }
    }

    /// The key, and the counter's words `[step, epoch, purpose]`: a kernel draws the same numbers from them.
    pub fn words(&self) -> ([u32; 2], [u32; 3]) {
        (self.key, [self.step, self.epoch, self.purpose])
    }

    /// The four words of elements `4 * block .. 4 * block + 4`.
    #[inline]
    pub fn block(&self, block: u32) -> [u32; 4] {
        philox4x32_10([block, self.step, self.epoch, self.purpose], self.key)
    }

    /// The word of one element, below 2³⁴.
    #[inline]
    pub fn word(&self, element: usize) -> u32 {
        debug_assert!(element < 1 << 34);
        self.block((element / 4) as u32)[element % 4]
    }

    /// A generator that reads the stream from element 0, for the `rand` crate's distributions and shuffles.
    pub fn rng(self) -> StreamRng {
        StreamRng { stream: self, element: 0 }
    }
}

/// A [`Stream`] as a sequential generator of the `rand` crate.
#[derive(Clone, Debug)]
pub struct StreamRng {
    stream: Stream,
    element: usize,
}

impl TryRng for StreamRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let word = self.stream.word(self.element);
        self.element += 1;
        Ok(word)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = self.try_next_u32()?;
        let high = self.try_next_u32()?;
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            let word = self.try_next_u32()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

/// Ten rounds of Philox on four 32-bit words.
#[inline]
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    const W0: u32 = 0x9E37_79B9;
    const W1: u32 = 0xBB67_AE85;
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
        }
        let p0 = M0 * u64::from(counter[0]);
        let p1 = M1 * u64::from(counter[2]);
        counter =
            [(p1 >> 32) as u32 ^ counter[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ counter[3] ^ key[1], p0 as u32];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::seq::SliceRandom;

    /// The known-answer vectors that Random123 publishes for philox4x32-10.
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32_10([!0; 4], [!0; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32_10([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn streams_differ_in_every_coordinate() {
        let base = Stream::new(1, Purpose::Shuffle, 2, 3);
        let others = [
            Stream::new(2, Purpose::Shuffle, 2, 3),
            Stream::new(1 << 32, Purpose::Shuffle, 2, 3),
            Stream::new(1, Purpose::Init { index: 0 }, 2, 3),
            Stream::new(1, Purpose::Dropout { index: 0, shard: 0 }, 2, 3),
            Stream::new(1, Purpose::Dropout { index: 1, shard: 0 }, 2, 3),
            Stream::new(1, Purpose::Augment, 2, 3),
            Stream::new(1, Purpose::Shuffle, 3, 3),
            Stream::new(1, Purpose::Shuffle, 2, 4),
        ];
        for other in others {
            assert_ne!(base.block(0), other.block(0), "{other:?}");
        }
    }

    #[test]
    fn numbers_beyond_their_bounds_give_no_stream() {
        let stream = |purpose: Purpose| std::panic::catch_unwind(|| Stream::new(1, purpose, 2, 3));
        assert!(stream(Purpose::Init { index: (1 << 24) - 1 }).is_ok());
        assert!(stream(Purpose::Dropout { index: 4095, shard: 4095 }).is_ok());
        for purpose in [
            Purpose::Init { index: 1 << 24 },
            Purpose::Dropout { index: 1 << 12, shard: 0 },
            Purpose::Dropout { index: 0, shard: 1 << 12 },
        ] {
            assert!(stream(purpose).is_err(), "{purpose:?}");
        }
    }

    #[test]
    fn sequential_reading_visits_the_elements_in_order() {
        let stream = Stream::new(7, Purpose::Shuffle, 0, 0);
        let mut rng = stream.rng();
        for element in 0..11 {
            assert_eq!(rng.try_next_u32(), Ok(stream.word(element)));
        }
        let mut order: Vec<u32> = (0..100).collect();
        order.shuffle(&mut stream.rng());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_ne!(order, sorted);
        assert_eq!(sorted, (0..100).collect::<Vec<u32>>());
    }
}
