//! A training step without its update.

use super::source::Labels;
use crate::nn::Module;
use crate::ops::cross_entropy::Meter;
use crate::tape::{Grads, Tape};
use crate::{Backend, Result, Shape};

/// The gradients of a training step: forward, loss, backward on `tape`. `each` is called as by [`Tape::backward_by`].
pub(super) fn gradients<B: Backend>(
    net: &impl Module<B>,
    mut tape: Tape<B>,
    (x, shape, labels): (B::Buf, Shape, Labels<'_, B>),
    smoothing: f64,
    meter: &mut Meter<B>,
    each: &mut dyn FnMut(&Grads<B>) -> Result<()>,
) -> Result<Grads<B>> {
    let x = tape.constant(x, shape)?;
    let logits = net.forward(&mut tape, x)?;
    let labels = labels.checked(tape.backend(), logits.shape().c())?;
    let loss = tape.smoothed_cross_entropy(&logits, &labels, smoothing, meter)?;
    drop(logits);
    tape.backward_by(loss, each)
}
