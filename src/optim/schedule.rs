//! Schedules of the learning rate over a run.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A schedule: the factor of the base learning rate at each step of a run with a known number of steps.
///
/// As text: `constant`, `step:EVERY:FACTOR` (EVERY in epochs), `cosine` or `cosine:WARMUP` (WARMUP in epochs).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    Constant,
    /// Multiplied by `factor` after every `every` epochs.
    Step {
        every: u32,
        factor: f64,
    },
    /// Rises linearly to 1 for `warmup` epochs, then falls along half a cosine to zero at the end of the run.
    Cosine {
        warmup: f64,
    },
}

impl Schedule {
    /// Checks a schedule that was not read from text.
    ///
    /// # Errors
    /// [`Error::Config`] for a step of 0 epochs, and for a factor or a warm-up that is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        let ok = match *self {
            Schedule::Constant => true,
            Schedule::Step { every, factor } => every > 0 && factor.is_finite() && factor >= 0.0,
            Schedule::Cosine { warmup } => warmup.is_finite() && warmup >= 0.0,
        };
        match ok {
            true => Ok(()),
            false => Err(Error::config("schedule", format!("{self} must have numbers that are finite and positive"))),
        }
    }

    /// The factor at step `step` of the run (from 0), for `epochs` epochs of `steps_per_epoch` steps each.
    pub fn factor(&self, step: usize, steps_per_epoch: usize, epochs: u32) -> f64 {
        let epoch = step as f64 / steps_per_epoch as f64;
        match *self {
            Schedule::Constant => 1.0,
            Schedule::Step { every, factor } => factor.powi((epoch / f64::from(every)) as i32),
            // The warm-up begins with one step's share of the rise: a first step at rate zero would be wasted.
            Schedule::Cosine { warmup } if epoch < warmup => {
                (step.saturating_add(1) as f64 / (warmup * steps_per_epoch as f64)).min(1.0)
            }
            Schedule::Cosine { warmup } => {
                let rest = (f64::from(epochs) - warmup).max(f64::MIN_POSITIVE);
                let progress = ((epoch - warmup) / rest).min(1.0);
                0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Constant => write!(f, "constant"),
            Schedule::Step { every, factor } => write!(f, "step:{every}:{factor}"),
            Schedule::Cosine { warmup } => write!(f, "cosine:{warmup}"),
        }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let schedule = match parts[..] {
            ["constant"] => Some(Schedule::Constant),
            ["step", every, factor] => match (every.parse(), factor.parse()) {
                (Ok(every), Ok(factor)) => Some(Schedule::Step { every, factor }),
                _ => None,
            },
            ["cosine"] => Some(Schedule::Cosine { warmup: 0.0 }),
            ["cosine", warmup] => warmup.parse().ok().map(|warmup| Schedule::Cosine { warmup }),
            _ => None,
        };
        schedule.filter(|schedule: &Schedule| schedule.validate().is_ok()).ok_or_else(|| {
            let forms = "constant, step:EVERY:FACTOR, cosine or cosine:WARMUP (EVERY and WARMUP in epochs)";
            Error::config("schedule", format!("{text:?} is none of {forms}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        let at = |text: &str, step| text.parse::<Schedule>().unwrap().factor(step, 10, 4);
        assert_eq!(at("constant", 39), 1.0);
        assert_eq!([0, 19, 20, 39].map(|step| at("step:2:0.5", step)), [1.0, 1.0, 0.5, 0.5]);
        assert_eq!([0, 4, 9].map(|step| at("cosine:1", step)), [0.1, 0.5, 1.0]);
        assert_eq!(at("cosine:1", 10), 1.0);
        assert!((at("cosine:1", 25) - 0.5).abs() < 1e-12);
        assert!(at("cosine:1", 39) < 0.01 && at("cosine:1", 40) == 0.0);
        assert_eq!(at("cosine", 0), 1.0);
    }

    #[test]
    fn text_goes_both_ways_and_nonsense_is_refused() {
        for text in ["constant", "step:3:0.1", "cosine:0.5"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        for text in ["", "cosine:", "cosine:-1", "cosine:nan", "step:0:0.1", "step:1", "step:1:2:3", "linear"] {
            let message = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(message.contains("step:EVERY:FACTOR"), "{message}");
        }
    }
}
