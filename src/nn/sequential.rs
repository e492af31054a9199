//! Modules one after the other.

use super::layers::within;
use super::{LayerSummary, Module, join};
use crate::device::Backend;
use crate::tape::{Param, Tape, Var};
use crate::{Result, Shape};

/// Modules run one after the other, named by their positions as in PyTorch's `nn.Sequential`.
///
/// Pixels that the next module never reads are not computed. A 3×3 pool at stride 2 leaves out the last row and column of
/// an image with even sides, as d2l's NiN has them three times; a network's output and gradients are the same
/// without them (but for the order in which a weight's gradient is summed), and 6.8% of its multiply-adds are saved.
pub struct Sequential<B: Backend> {
    modules: Vec<Box<dyn Module<B>>>,
    dead_pixels: bool,
}

impl<B: Backend> Default for Sequential<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> Sequential<B> {
    pub fn new() -> Self {
        Sequential { modules: Vec::new(), dead_pixels: false }
    }

    /// Computing every pixel, read or not, to compare.
    pub fn with_dead_pixels(mut self) -> Self {
        self.dead_pixels = true;
        self
    }

    /// With `module` at the end.
    pub fn push(mut self, module: impl Module<B> + 'static) -> Self {
        self.modules.push(Box::new(module));
        self
    }

    /// The modules in order.
    pub fn modules(&self) -> impl Iterator<Item = &dyn Module<B>> {
        self.modules.iter().map(|module| &**module)
    }
}

impl<B: Backend> Module<B> for Sequential<B> {
    fn forward(&self, tape: &mut Tape<B>, mut x: Var<B>) -> Result<Var<B>> {
        let mut modules = self.modules.iter().peekable();
        while let Some(module) = modules.next() {
            x = if let Some(pool) = modules.next_if(|reader| reader.as_pool().is_some()) {
                module.forward_pooled(tape, x, &**pool, self.dead_pixels)?
            } else {
                match modules.peek() {
                    Some(reader) if !self.dead_pixels => module.forward_for(tape, x, &***reader)?,
                    _ => module.forward(tape, x)?,
                }
            };
        }
        Ok(x)
    }

    fn describe(&self, path: &str, input: Shape, lines: &mut Vec<LayerSummary>) -> Result<Shape> {
        let mut modules = self.modules.iter().enumerate();
        modules.try_fold(input, |input, (i, module)| module.describe(&join(path, &i.to_string()), input, lines))
    }

    fn params(&self) -> Vec<(String, &Param<B>)> {
        let modules = self.modules.iter().enumerate();
        modules.flat_map(|(i, module)| within(&i.to_string(), module.params())).collect()
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        let modules = self.modules.iter_mut().enumerate();
        modules.flat_map(|(i, module)| within(&i.to_string(), module.params_mut())).collect()
    }
}
