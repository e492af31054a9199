//! Schedules of the learning rate over a run.

use std::fmt;
use std::str::FromStr;

use crate::text::as_text;
use crate::{Error, Result};

/// A schedule: the factor of the base learning rate at each step of a run with a known number of steps.
///
/// As text: `constant`, `step:EVERY:FACTOR` (EVERY in epochs), `cosine` or `cosine:WARMUP` (WARMUP in epochs), `one-cycle` or
/// `one-cycle:RISE` (RISE a share of the run).
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
    /// Rises along half a cosine from 1/25 to 1 for `rise` of the run, then falls along half a cosine to 4e-6 at its last step:
    /// PyTorch's `OneCycleLR` with its defaults, a rise of 0.3 among them, but for momentum, which stays as it is.
    ///
    /// Source: Smith, Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018,
    /// <https://arxiv.org/abs/1708.07120>.
    OneCycle {
        rise: f64,
    },
}

/// PyTorch's `pct_start`.
const RISE: f64 = 0.3;
/// PyTorch's `div_factor` and `final_div_factor`: the first and the last rate of a cycle.
const FIRST: f64 = 1.0 / 25.0;
const LAST: f64 = FIRST / 1e4;

/// Half a cosine from `from` to `to`, at `progress` from 0 to 1.
fn half_cosine(from: f64, to: f64, progress: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos())
}

impl Schedule {
    /// Checks a schedule that was not read from text.
    ///
    /// # Errors
    /// [`Error::Config`] for a step of 0 epochs, for a factor or a warm-up that is negative or not finite, and for a rise that is
    /// no share.
    pub fn validate(&self) -> Result<()> {
        let ok = match *self {
            Schedule::Constant => true,
            Schedule::Step { every, factor } => every > 0 && factor.is_finite() && factor >= 0.0,
            Schedule::Cosine { warmup } => warmup.is_finite() && warmup >= 0.0,
            Schedule::OneCycle { rise } => (0.0..=1.0).contains(&rise),
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
                half_cosine(1.0, 0.0, (epoch - warmup) / rest)
            }
            Schedule::OneCycle { rise } => {
                let last = (f64::from(epochs) * steps_per_epoch as f64 - 1.0).max(1.0);
                let top = (rise * (last + 1.0) - 1.0).max(0.0);
                match step as f64 {
                    step if step < top => half_cosine(FIRST, 1.0, step / top),
                    step => half_cosine(1.0, LAST, (step - top) / (last - top).max(1.0)),
                }
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
            Schedule::OneCycle { rise } => write!(f, "one-cycle:{rise}"),
        }
    }
}

as_text!(Schedule);

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
            ["one-cycle"] => Some(Schedule::OneCycle { rise: RISE }),
            ["one-cycle", rise] => rise.parse().ok().map(|rise| Schedule::OneCycle { rise }),
            _ => None,
        };
        schedule.filter(|schedule: &Schedule| schedule.validate().is_ok()).ok_or_else(|| {
            let forms = "constant, step:EVERY:FACTOR, cosine, cosine:WARMUP (EVERY and WARMUP in epochs), one-cycle or \
                         one-cycle:RISE (a share of the run)";
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

    /// PyTorch 2.9: `OneCycleLR(optimizer, max_lr=1, total_steps=40)`, steps 0, 5, 11, 12, 25 and 39.
    #[test]
    fn one_cycle_is_pytorchs() {
        let at = |step| "one-cycle".parse::<Schedule>().unwrap().factor(step, 10, 4);
        let wanted = [0.04, 0.451_688_681_5, 1.0, 0.996_856_117_5, 0.500_002, 4e-6];
        for (step, wanted) in [0, 5, 11, 12, 25, 39].into_iter().zip(wanted) {
            assert!((at(step) - wanted).abs() < 1e-5, "step {step}: {} is not {wanted}", at(step));
        }
    }

    #[test]
    fn text_goes_both_ways_and_nonsense_is_refused() {
        for text in ["constant", "step:3:0.1", "cosine:0.5", "one-cycle:0.3"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        for text in
            ["", "cosine:", "cosine:-1", "cosine:nan", "step:0:0.1", "step:1", "step:1:2:3", "linear", "one-cycle:2"]
        {
            let message = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(message.contains("step:EVERY:FACTOR"), "{message}");
        }
    }
}
