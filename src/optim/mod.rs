//! Optimisation: stochastic gradient descent, and how its rate changes over a training run.

mod schedule;
mod sgd;

pub use schedule::Schedule;
pub use sgd::Sgd;
