//! Dropout without a stored mask. Whether an element is dropped is a pure function of (seed, layer, epoch, step,
//! element), which the backward pass evaluates again.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Buffer, Device, Grad, Role};
use crate::rng::{Purpose, Stream};
use crate::tape::{Backward, Grads, Input, Mode, Shard, Slot, Tape, Var};
use crate::{Error, Result};

/// The mask of a dropout: which elements are dropped, and the factor of the others.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// Element `i`, in memory order, draws `stream.word(i)`.
    pub stream: Stream,
    /// An element whose word is below this is dropped: ⌊probability · 2³²⌋.
    pub threshold: u32,
    /// 1 / (1 − probability), which keeps the expected value.
    pub scale: f64,
}

/// The kernels of dropout.
pub trait Dropout: Device {
    /// `y[i] = 0` if element `i` is dropped, else `x[i] · scale`.
    fn dropout_fprop(&self, mask: &Mask, x: &Self::Buf, y: &mut Self::Buf) -> Result<()>;

    /// `dx[i] = 0` if element `i` was dropped, else `dy[i] · scale`.
    fn dropout_dgrad(&self, mask: &Mask, dy: &Self::Buf, dx: &mut Grad<Self::Buf>) -> Result<()>;
}

/// # Errors
/// [`Error::Config`] unless 0 ≤ `probability` < 1.
pub(crate) fn require_probability(probability: f64) -> Result<()> {
    if (0.0..1.0).contains(&probability) {
        return Ok(());
    }
    Err(Error::config("dropout", format!("probability {probability} is not in [0, 1)")))
}

impl<B: Dropout> Tape<B> {
    /// Zeroes each element of `x`, of any shape, with probability `probability` and multiplies the others by
    /// `1 / (1 − probability)`. In inference, or for a probability of 0, the result is `x` itself.
    ///
    /// # Errors
    /// [`Error::Config`] unless 0 ≤ `probability` < 1, and for more dropouts than [`Shard::MOST`].
    pub fn dropout(&mut self, x: &Var<B>, probability: f64) -> Result<Var<B>> {
        require_probability(probability)?;
        let index = self.dropouts;
        if index >= Shard::MOST {
            return Err(Error::config("dropout", format!("a network has {} at most", Shard::MOST)));
        }
        self.dropouts += 1;
        let Mode::Training { seed, epoch, step } = self.mode() else { return Ok(x.clone()) };
        if probability == 0.0 {
            return Ok(x.clone());
        }
        let shard = self.shard().map_or(0, |shard| shard.index);
        let mask = Mask {
            stream: Stream::new(seed, Purpose::Dropout { index, shard }, epoch, step),
            threshold: (probability * 2f64.powi(32)) as u32,
            scale: 1.0 / (1.0 - probability),
        };
        let backend = self.backend().clone();
        let mut y = backend.alloc(Role::Activation, x.data.len())?;
        backend.dropout_fprop(&mask, &x.data, &mut y)?;
        let output = self.output("dropout", x.shape(), y, [x.slot], x.slot.relu)?;
        self.record(output.slot, || Node { mask, x: Input::masked(x.slot), y: output.slot });
        Ok(output)
    }
}

struct Node<B: Device> {
    mask: Mask,
    x: Input<B>,
    y: Slot,
}

impl<B: Dropout> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        grads.update(&self.x, |dx| backend.dropout_dgrad(&self.mask, &dy, dx))
    }
}
