//! The tape: reverse-mode differentiation. Each op appends its backward half as it runs, and [`Tape::backward`] runs
//! the backward halves once, from the last to the first. The order of execution is a topological order already, so
//! there is no graph to sort.

mod checks;
mod grads;
mod mode;
mod param;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::device::{Buffer, Device, Guard, Role};
use crate::{Error, Result, Shape};
use checks::Checks;
pub use grads::Grads;
pub use mode::{Mode, Shard};
pub use param::{Param, ParamId};

/// A variable: a value on the tape, with its slot and shared ownership of its data.
pub struct Var<B: Device> {
    pub(crate) slot: Slot,
    pub(crate) data: Arc<B::Buf>,
}

impl<B: Device> Clone for Var<B> {
    fn clone(&self) -> Self {
        Var { slot: self.slot, data: self.data.clone() }
    }
}

impl<B: Device> Var<B> {
    pub fn shape(&self) -> Shape {
        self.slot.shape
    }

    /// The values, in the device's memory order (images NHWC, weights KRSC).
    pub fn data(&self) -> &B::Buf {
        &self.data
    }

    /// For ops: the [`Input`] that the backward half keeps, with the mask of its gradient.
    pub(crate) fn input(&self) -> Input<B> {
        Input { slot: self.slot, mask: self.slot.relu.then(|| self.data.clone()) }
    }
}

/// An op's input as its backward half keeps it: the slot of its gradient, and the mask, which is the value itself if a
/// ReLU computed it.
pub(crate) struct Input<B: Device> {
    slot: Slot,
    mask: Option<Arc<B::Buf>>,
}

impl<B: Device> Input<B> {
    /// An input whose gradient needs no mask, because the op passes the ReLU's mark on to its output: the gradient that
    /// it receives is masked already, and the gradient that it writes is zero at the same elements of the input. Max
    /// pooling, dropout and flatten use it, and so keep no data of their inputs.
    pub(crate) fn masked(slot: Slot) -> Self {
        Input { slot, mask: None }
    }
}

/// The slot of a variable: the index of its gradient in [`Grads`], its shape and flags, without its data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    tape: TapeId,
    id: usize,
    pub(crate) shape: Shape,
    role: Role,
    needs_grad: bool,
    /// The ReLU's mark: a ReLU computed the value, so its gradient is zero where the value is not positive.
    /// [`Grads::open`] and [`Grads::close`] apply the mask, so the op with the ReLU receives a masked gradient.
    pub(crate) relu: bool,
}

impl Slot {
    /// Whether a gradient for this value is wanted.
    pub(crate) fn needs_grad(self) -> bool {
        self.needs_grad
    }

    /// Whether the value is a parameter, or has the role of one.
    pub(crate) fn is_parameter(self) -> bool {
        self.role == Role::Parameter
    }

    /// Whether both are the same variable of the same tape.
    pub(crate) fn is(self, other: Slot) -> bool {
        self.tape == other.tape && self.id == other.id
    }
}

/// The backward half of an op. It owns the buffers that the forward half saved; `backward` consumes it, which frees
/// them.
pub(crate) trait Backward<B: Device>: Send {
    /// Writes or adds to the gradients of its parameters, if it can before it does to those of its other inputs: that work, and an
    /// exchange of them, go on [meanwhile](Grads::fork). Returns whether it has; otherwise [`backward`](Backward::backward) does.
    fn parameters(&mut self, _backend: &B, _grads: &mut Grads<B>) -> Result<bool> {
        Ok(false)
    }

    /// Takes the gradient of its output from `grads`, and writes or adds to the gradients of its inputs.
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()>;
}

/// Identifies a tape, so that variables of another tape are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TapeId(u64);

/// A number that is unique in the process.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A backward half, with the id of its output's slot.
struct Node<B: Device> {
    output: usize,
    half: Box<dyn Backward<B>>,
}

/// A parameter on a tape.
#[derive(Clone, Copy)]
struct Used {
    slot: Slot,
    /// The backward halves that were recorded before its first use: none of them adds to its gradient.
    before: usize,
}

/// A tape: the recorded ops of one forward pass. (A device's [`Recording`](crate::device::Recording) is another thing.)
pub struct Tape<B: Device> {
    id: TapeId,
    backend: B,
    mode: Mode,
    nodes: Vec<Node<B>>,
    /// Slots given out so far.
    slots: usize,
    params: HashMap<ParamId, Used>,
    /// `None` unless the tape is checked.
    checks: Option<Checks>,
    /// `None` for a whole batch.
    shard: Option<Shard>,
    /// Dropouts run so far: the index of the next one's random stream.
    pub(crate) dropouts: u32,
}

impl<B: Device> Tape<B> {
    /// An empty tape.
    pub fn new(backend: &B, mode: Mode) -> Self {
        let (id, backend) = (TapeId(unique()), backend.clone());
        let (nodes, params) = (Vec::new(), HashMap::new());
        Tape { id, backend, mode, nodes, slots: 0, params, checks: None, shard: None, dropouts: 0 }
    }

    /// An empty tape that looks at every value: its inputs and parameters, the output of each op, and each gradient that a
    /// backward half writes. The first values that are not finite end the pass with [`Error::NotFinite`], which names the
    /// op, its layer, and forward or backward. Every value is downloaded, so this is for a step that has gone wrong; the
    /// values have the bits that an unchecked tape gives.
    pub fn checked(backend: &B, mode: Mode) -> Self {
        Tape { checks: Some(Checks::default()), ..Tape::new(backend, mode) }
    }

    /// The same tape for a shard of a batch.
    ///
    /// # Errors
    /// [`Error::Config`] for a shard's number beyond [`Shard::MOST`], and for a batch of no images.
    pub fn of_shard(self, shard: Option<Shard>) -> Result<Self> {
        match shard {
            Some(Shard { index, .. }) if index >= Shard::MOST => {
                Err(Error::config("shard", format!("number {index} must be below {}", Shard::MOST)))
            }
            Some(Shard { batch: 0, .. }) => Err(Error::config("shard", "its batch has no images")),
            _ => Ok(Tape { shard, ..self }),
        }
    }

    /// The shard that the tape is for; `None` for a whole batch.
    pub fn shard(&self) -> Option<Shard> {
        self.shard
    }

    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The purpose of the forward pass.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A variable without a gradient, such as the input of a network. `data` holds `shape` in memory order.
    ///
    /// # Errors
    /// [`Error::Shape`] if the buffer does not have the shape's length; [`Error::NotFinite`] on a checked tape.
    pub fn constant(&mut self, data: B::Buf, shape: Shape) -> Result<Var<B>> {
        self.leaf(data, shape, Role::Activation, false)
    }

    /// A variable with a gradient. `role` is the role that `data` was allocated for, and the gradient gets the same.
    ///
    /// # Errors
    /// As [`Tape::constant`].
    pub fn variable(&mut self, data: B::Buf, shape: Shape, role: Role) -> Result<Var<B>> {
        self.leaf(data, shape, role, true)
    }

    fn leaf(&mut self, data: B::Buf, shape: Shape, role: Role, needs_grad: bool) -> Result<Var<B>> {
        if data.len() != shape.len() {
            let problem = format!("{} elements do not make a {shape}, which has {}", data.len(), shape.len());
            return Err(Error::shape("tape", problem));
        }
        if let Some(checks) = &self.checks {
            checks.input(&self.backend, shape, &data)?;
        }
        let slot = self.slot(shape, role, needs_grad, false);
        Ok(Var { slot, data: Arc::new(data) })
    }

    /// The variable of a parameter. A parameter used twice on one tape has one slot, so its gradients add up.
    pub fn param(&mut self, param: &Param<B>) -> Var<B> {
        let known = self.params.get(&param.id).copied();
        let before = self.nodes.len();
        let used = known.unwrap_or_else(|| Used { slot: self.slot(param.shape, Role::Parameter, true, false), before });
        if let (Some(checks), None) = (&mut self.checks, known) {
            checks.parameter(&self.backend, param.shape, &param.data);
        }
        self.params.insert(param.id, used);
        Var { slot: used.slot, data: param.data.clone() }
    }

    fn slot(&mut self, shape: Shape, role: Role, needs_grad: bool, relu: bool) -> Slot {
        let id = self.slots;
        self.slots += 1;
        Slot { tape: self.id, id, shape, role, needs_grad: needs_grad && self.mode != Mode::Inference, relu }
    }

    /// For ops: the output variable of `op` with data `data`, computed from `inputs`; `relu` if its values went through a
    /// ReLU.
    ///
    /// # Errors
    /// [`Error::Shape`] if an input belongs to another tape; [`Error::NotFinite`] on a checked tape.
    pub(crate) fn output(
        &mut self,
        op: &'static str,
        shape: Shape,
        data: B::Buf,
        inputs: impl IntoIterator<Item = Slot>,
        relu: bool,
    ) -> Result<Var<B>> {
        let slot = self.unstored(op, shape, inputs, relu)?;
        if let Some(checks) = &self.checks {
            checks.output(&self.backend, slot.id, &data)?;
        }
        Ok(Var { slot, data: Arc::new(data) })
    }

    /// For ops: a buffer for an output of shape `shape`. If `relu` is set and a gradient is wanted, it is a rectified
    /// buffer ([`Device::alloc_rectified`]).
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has too little free memory.
    pub(crate) fn room(&self, shape: Shape, inputs: impl IntoIterator<Item = Slot>, relu: bool) -> Result<B::Buf> {
        let needs_grad = inputs.into_iter().any(|input| input.needs_grad);
        match relu && needs_grad {
            true => self.backend.alloc_rectified(shape.len()),
            false => self.backend.alloc(Role::Activation, shape.len()),
        }
    }

    /// For ops: the slot of a value that `op` computes from `inputs` and never stores: a gradient without data.
    ///
    /// # Errors
    /// As [`Tape::output`].
    pub(crate) fn unstored(
        &mut self,
        op: &'static str,
        shape: Shape,
        inputs: impl IntoIterator<Item = Slot>,
        relu: bool,
    ) -> Result<Slot> {
        let mut needs_grad = false;
        for input in inputs {
            self.require_own(input)?;
            needs_grad |= input.needs_grad;
        }
        let slot = self.slot(shape, Role::Activation, needs_grad, relu);
        if let Some(checks) = &mut self.checks {
            checks.made(slot.id, op)?;
        }
        Ok(slot)
    }

    /// For losses: looks at the gradient that `op` computes of its input, if the tape is checked.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub(crate) fn require_finite_loss(&mut self, op: &'static str, gradient: &B::Buf) -> Result<()> {
        let slot = self.slots;
        let Some(checks) = &mut self.checks else { return Ok(()) };
        self.slots += 1;
        checks.layer = None;
        checks.made(slot, op)?;
        checks.output(&self.backend, slot, gradient)
    }

    /// For plans: the layers that the next ops belong to, by which a checked tape names them; `None` after the last.
    pub(crate) fn enter(&mut self, layers: Option<&dyn Fn() -> String>) {
        if let Some(checks) = &mut self.checks {
            checks.layer = layers.map(|layers| layers());
        }
    }

    fn require_own(&self, slot: Slot) -> Result<()> {
        if slot.tape == self.id {
            return Ok(());
        }
        Err(Error::shape("tape", format!("a variable of shape {} belongs to another tape", slot.shape)))
    }

    /// For ops: `input` under another shape of the same length, sharing data and slot.
    pub(crate) fn view(&mut self, input: &Var<B>, shape: Shape) -> Var<B> {
        debug_assert_eq!(input.slot.shape.len(), shape.len());
        Var { slot: Slot { shape, ..input.slot }, data: input.data.clone() }
    }

    /// For ops: appends the backward half that `node` makes, if `output` needs a gradient.
    pub(crate) fn record<N: Backward<B> + 'static>(&mut self, output: Slot, node: impl FnOnce() -> N) {
        if output.needs_grad {
            self.nodes.push(Node { output: output.id, half: Box::new(node()) });
        }
    }

    /// The gradients of a loss with respect to every parameter and [variable](Tape::variable) that it depends on.
    ///
    /// Consumes the tape: each op frees its saved buffers as soon as its backward half has run.
    ///
    /// # Errors
    /// As [`Tape::backward_from`], and as the kernels.
    pub fn backward(self, loss: Loss<B>) -> Result<Grads<B>> {
        self.backward_by(loss, &mut |_| Ok(()))
    }

    /// [`Tape::backward`] that calls `each` after every backward half, and once a half has the gradients of its parameters, with the
    /// gradients so far: some may be [complete](Grads::is_complete). [`Grads::backend`] is what to use them with.
    pub(crate) fn backward_by(self, loss: Loss<B>, each: &mut dyn FnMut(&Grads<B>) -> Result<()>) -> Result<Grads<B>> {
        let grads = self.run_back(&loss.logits, loss.gradient, each)?;
        Ok(Grads { guard: Some(loss.guard), ..grads })
    }

    /// The gradients of `Σ seed·y`: reverse-mode differentiation from any variable. `seed` has `y`'s shape and memory
    /// order.
    ///
    /// # Errors
    /// [`Error::Shape`] if `seed` has another length than `y`, or `y` belongs to another tape; [`Error::NotFinite`] on a
    /// checked tape.
    pub fn backward_from(self, y: &Var<B>, seed: B::Buf) -> Result<Grads<B>> {
        self.run_back(y, seed, &mut |_| Ok(()))
    }

    fn run_back(self, y: &Var<B>, mut seed: B::Buf, each: &mut dyn FnMut(&Grads<B>) -> Result<()>) -> Result<Grads<B>> {
        self.require_own(y.slot)?;
        if seed.len() != y.data.len() {
            let problem = format!("a seed of {} elements for an output of shape {}", seed.len(), y.slot.shape);
            return Err(Error::shape("backward", problem));
        }
        if y.slot.relu {
            self.backend.relu_mask(&y.data, &mut seed)?;
        }
        let mut slots = Vec::new();
        slots.resize_with(self.slots, || None);
        slots[y.slot.id] = Some(seed);
        let written = self.checks.is_some().then(Vec::new);
        let (tape, backend, params, left) = (self.id, self.backend.clone(), self.params, self.nodes.len());
        let mut grads = Grads { tape, backend, slots, params, left, guard: None, written, beside: None };
        for (before, Node { output, mut half }) in self.nodes.into_iter().enumerate().rev() {
            if half.parameters(&self.backend, &mut grads)? {
                grads.left = before;
                each(&grads)?;
            }
            half.backward(&self.backend, &mut grads)?;
            grads.join()?;
            grads.left = before;
            if let Some(checks) = &self.checks {
                checks.gradients(&self.backend, output, &grads.slots, grads.written.replace(Vec::new()))?;
            }
            each(&grads)?;
        }
        Ok(grads)
    }
}

/// A loss as [`Tape::backward`] takes it: the logits, the loss's gradient with respect to them, and the guard of the update.
pub struct Loss<B: Device> {
    pub(crate) logits: Var<B>,
    pub(crate) gradient: B::Buf,
    pub(crate) guard: Guard<B>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::ops::Affine;
    use crate::shape::Window;

    /// An op that copies its input and never takes the mask of its input's gradient.
    struct Forgetful {
        x: Input<Cpu<f32>>,
        y: Slot,
    }

    impl Backward<Cpu<f32>> for Forgetful {
        fn backward(self: Box<Self>, _: &Cpu<f32>, grads: &mut Grads<Cpu<f32>>) -> Result<()> {
            let Some(dy) = grads.take(self.y) else { return Ok(()) };
            grads.update(&self.x, |dx| {
                let write = dx.write;
                dx.buf.iter_mut().zip(dy.iter()).for_each(|(dx, &dy)| *dx = write.onto(*dx, dy));
                Ok(())
            })
        }
    }

    #[test]
    fn the_tape_applies_a_mask_that_the_op_did_not_take() {
        let cpu = Cpu::<f32>::new();
        let mut tape = Tape::new(&cpu, Mode::Training { seed: 0, epoch: 0, step: 0 });
        let x = cpu.upload(Role::Activation, &[-1.0, 2.0, 0.0, 3.0]).unwrap();
        let x = tape.variable(x, Shape::image(1, 1, 2, 2), Role::Activation).unwrap();
        let one = cpu.upload(Role::Parameter, &[1.0]).unwrap();
        let w = tape.constant(one, Shape::weight(1, 1, 1, 1)).unwrap();
        let h = tape.conv2d(&x, Affine { w: &w, bias: None, relu: true }, Window::default()).unwrap();
        let copy = cpu.upload(Role::Activation, h.data()).unwrap();
        let y = tape.output("forgetful", h.shape(), copy, [h.slot], false).unwrap();
        tape.record(y.slot, || Forgetful { x: h.input(), y: y.slot });
        let seed = cpu.upload(Role::Activation, &[5.0; 4]).unwrap();
        let grads = tape.backward_from(&y, seed).unwrap();
        assert_eq!(grads.of(&x).unwrap().to_vec(), [0.0, 5.0, 0.0, 5.0]);
    }

    /// Whether a parameter's gradient was complete, each time that the backward pass told of gradients.
    fn completed(
        param: &Param<Cpu<f32>>,
        run: impl FnOnce(&mut Tape<Cpu<f32>>) -> Var<Cpu<f32>>,
    ) -> (Vec<bool>, Grads<Cpu<f32>>) {
        let cpu = Cpu::<f32>::new();
        let mut tape = Tape::new(&cpu, Mode::Training { seed: 0, epoch: 0, step: 0 });
        let y = run(&mut tape);
        let seed = cpu.upload(Role::Activation, &vec![1.0; y.shape().len()]).unwrap();
        let mut told = Vec::new();
        let grads = tape.run_back(&y, seed, &mut |grads| {
            told.push(grads.is_complete(param));
            Ok(())
        });
        (told, grads.unwrap())
    }

    #[test]
    fn a_gradient_is_complete_once_nothing_adds_to_it_any_more() {
        let cpu = Cpu::<f32>::new();
        let param = |shape, values: &[f32]| Param::new(&cpu, shape, values).unwrap();
        let [image, filter] = [Shape::image(1, 1, 2, 2), Shape::weight(1, 1, 1, 1)];
        let convolve = |tape: &mut Tape<_>, x: &Var<_>, w: &Var<_>| {
            tape.conv2d(x, Affine { w, bias: None, relu: false }, Window::default()).unwrap()
        };
        // The filter of two convolutions: not after the last one's gradients, which come first. Each tells of its filter's gradient
        // before it has that of its input.
        let twice = param(filter, &[3.0]);
        let (told, grads) = completed(&twice, |tape| {
            let x = cpu.upload(Role::Activation, &[1.0, 2.0, 3.0, 4.0]).unwrap();
            let x = tape.variable(x, image, Role::Activation).unwrap();
            let w = tape.param(&twice);
            let h = convolve(tape, &x, &w);
            let w = tape.param(&twice);
            convolve(tape, &h, &w)
        });
        assert_eq!(told, [false, false, true, true]);
        assert_eq!(grads.of_param(&twice).unwrap().to_vec(), [2.0 * 3.0 * 10.0]);
        // A parameter that is convolved: not before the gradient of the input, which is its own.
        let convolved = param(image, &[1.0; 4]);
        let (told, grads) = completed(&convolved, |tape| {
            let (x, w) = (tape.param(&convolved), param(filter, &[2.0]));
            let w = tape.param(&w);
            convolve(tape, &x, &w)
        });
        assert_eq!(told, [true]);
        assert_eq!(grads.of_param(&convolved).unwrap().to_vec(), [2.0; 4]);
    }
}
