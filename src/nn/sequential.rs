//! Modules one after the other.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Layer, Module, Plan, join, layers, plan, within};
use crate::tape::{Param, Tape, Var};
use crate::{Backend, Result, Shape};

/// Modules run one after the other, named by their positions as in PyTorch's `nn.Sequential`.
///
/// Pixels that no later layer reads are not computed. A 3×3 pool at stride 2 leaves out the last row and column of
/// an image with even sides, as d2l's NiN has them three times; a network's output and gradients are the same
/// without them (but for the order in which a weight's gradient is summed), and 6.8% of its multiply-adds are saved.
pub struct Sequential<B: Backend> {
    modules: Vec<Box<dyn Module<B>>>,
    dead_pixels: bool,
    /// Plans of the shapes seen last. A backend of another precision than theirs runs them too, with the same results.
    plans: Mutex<Vec<(Shape, Arc<Plan>)>>,
}

/// Shapes whose plans are kept: batches and last batches, of training and of evaluation.
const KEPT: usize = 8;

impl<B: Backend> Default for Sequential<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> Sequential<B> {
    pub fn new() -> Self {
        Sequential { modules: Vec::new(), dead_pixels: false, plans: Mutex::default() }
    }

    /// Computing every pixel, read or not, to compare.
    pub fn with_dead_pixels(self) -> Self {
        Sequential { dead_pixels: true, plans: Mutex::default(), ..self }
    }

    /// With `module` at the end.
    pub fn push(mut self, module: impl Module<B> + 'static) -> Self {
        self.modules.push(Box::new(module));
        Sequential { plans: Mutex::default(), ..self }
    }

    /// The modules in order.
    pub fn modules(&self) -> impl Iterator<Item = &dyn Module<B>> {
        self.modules.iter().map(|module| &**module)
    }

    /// The plan for inputs of shape `input`, made when the shape first comes.
    fn plan(&self, layers: &[Layer<'_, B>], input: Shape, backend: &B) -> Result<Arc<Plan>> {
        // A panic elsewhere leaves whole plans.
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = plans.iter().find(|(shape, _)| *shape == input) {
            return Ok(plan.clone());
        }
        let pixels = if self.dead_pixels { plan::Pixels::All } else { plan::Pixels::Read };
        let plan = Arc::new(Plan::with(layers, input, pixels, &|fusion| backend.fuses(fusion))?);
        if plans.len() == KEPT {
            plans.remove(0);
        }
        plans.push((input, plan.clone()));
        Ok(plan)
    }
}

impl<B: Backend> Module<B> for Sequential<B> {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        for (i, module) in self.modules.iter().enumerate() {
            module.layers(&join(path, &i.to_string()), layers);
        }
    }

    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        let (layers, backend) = (layers(self), tape.backend().clone());
        self.plan(&layers, x.shape(), &backend)?.run(&layers, tape, x)
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
