//! A network of modules that run one after the other.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Layer, Module, Plan, join, layers, plan, within};
use crate::tape::{Param, Tape, Var};
use crate::{Backend, Result, Shape};

/// Modules run one after the other, named by their positions as in PyTorch's `nn.Sequential`.
///
/// Dead pixels, which no later layer reads, are not computed. In an image with even sides, a 3×3 pool at stride 2 does
/// not read the last row and column. In d2l's NiN this happens three times, and leaving them out saves 6.8% of its
/// multiply-adds. The network's output and gradients stay the same, except for the order in which weights' gradients
/// are summed.
pub struct Sequential<B: Backend> {
    modules: Vec<Box<dyn Module<B>>>,
    dead_pixels: bool,
    /// The plans used last, the most recent at the end. A plan does not depend on the backend for its results, so a plan
    /// made for one precision also serves another.
    plans: Mutex<Vec<Arc<Plan>>>,
}

/// The number of plans kept: full and last batches, of training and of evaluation, and some to spare.
const KEPT: usize = 8;

impl<B: Backend> Default for Sequential<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> Sequential<B> {
    /// A network without modules.
    pub fn new() -> Self {
        Sequential { modules: Vec::new(), dead_pixels: false, plans: Mutex::default() }
    }

    /// The network with dead pixels computed too, for comparisons. It holds for the network that runs, not for a part of one.
    pub fn with_dead_pixels(self) -> Self {
        Sequential { dead_pixels: true, plans: Mutex::default(), ..self }
    }

    /// Appends `module`.
    pub fn push(mut self, module: impl Module<B> + 'static) -> Self {
        self.modules.push(Box::new(module));
        Sequential { plans: Mutex::default(), ..self }
    }

    /// The modules in order.
    pub fn modules(&self) -> impl Iterator<Item = &dyn Module<B>> {
        self.modules.iter().map(|module| &**module)
    }

    /// The plan for inputs of shape `input`, from the cache or a new one.
    fn plan(&self, layers: &[Layer<'_, B>], input: Shape, backend: &B) -> Result<Arc<Plan>> {
        // A poisoned lock is harmless: a panic elsewhere leaves complete plans.
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        // A plan of weights that have been replaced by others fits no more.
        if let Some(at) = plans.iter().position(|plan| plan.input() == input && plan.fits(layers)) {
            let plan = plans.remove(at);
            plans.push(plan.clone());
            return Ok(plan);
        }
        let pixels = if self.dead_pixels { plan::Pixels::All } else { plan::Pixels::Read };
        let plan = Arc::new(Plan::with(layers, input, pixels, &|fusion| backend.fuses(fusion))?);
        if plans.len() == KEPT {
            plans.remove(0);
        }
        plans.push(plan.clone());
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
