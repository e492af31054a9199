//! Averages of the weights over a run, beside any optimiser.

use std::fmt;
use std::str::FromStr;

use super::kept::Kept;
use super::{Optimizer, unknown};
use crate::Backend;
use crate::device::{Guard, Real};
use crate::ops::average::Item;
use crate::tape::{Grads, Param, unique};
use crate::text::as_text;
use crate::{Error, Result};

const AVERAGED: &str = "averaged";
const LEFT_OUT: &str = "left out of the average";

/// Which weights are averaged. As text: `none`, `tail:SHARE` or `ema:DECAY`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Average {
    /// The last weights alone.
    #[default]
    None,
    /// The mean of the weights after each update of the last part of the run, this share of its steps, in (0, 1].
    ///
    /// Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging weights leads to wider optima and better
    /// generalization", UAI 2018, <https://arxiv.org/abs/1803.05407>, which averages once an epoch.
    Tail(f64),
    /// The exponential moving average: each update keeps this share of it, in (0, 1). The first `1 / (1 - DECAY)` updates
    /// count alike, so that the initial weights are soon forgotten.
    Exponential(f64),
}

impl Average {
    /// Checks an average that was not read from text.
    ///
    /// # Errors
    /// [`Error::Config`] for a share or a decay out of its range.
    pub fn validate(&self) -> Result<()> {
        let (ok, must) = match *self {
            Average::None => return Ok(()),
            Average::Tail(share) => (share > 0.0 && share <= 1.0, "a share of the run, above 0 and at most 1"),
            Average::Exponential(decay) => (decay > 0.0 && decay < 1.0, "a decay between 0 and 1"),
        };
        if ok { Ok(()) } else { Err(Error::config("average", format!("{self} must have {must}"))) }
    }

    /// The updates at the beginning of a run of `updates` that the average leaves out.
    fn left_out(&self, updates: u64) -> u64 {
        match *self {
            Average::Tail(share) => updates.saturating_sub((share * updates as f64).round() as u64),
            Average::None | Average::Exponential(_) => 0,
        }
    }

    /// The share of the average that an update keeps, by which it is one of `count` weights.
    fn keep(&self, count: u64) -> f64 {
        // A mean has each of its weights with the same share.
        let mean = 1.0 - 1.0 / count.max(1) as f64;
        match *self {
            Average::None => 0.0,
            Average::Tail(_) => mean,
            Average::Exponential(decay) => mean.min(decay),
        }
    }
}

impl fmt::Display for Average {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Average::None => f.write_str("none"),
            Average::Tail(share) => write!(f, "tail:{share}"),
            Average::Exponential(decay) => write!(f, "ema:{decay}"),
        }
    }
}

impl FromStr for Average {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let average = match text.split_once(':') {
            Some(("tail", share)) => share.parse().ok().map(Average::Tail),
            Some(("ema", decay)) => decay.parse().ok().map(Average::Exponential),
            _ => (text == "none").then_some(Average::None),
        };
        average.filter(|average| average.validate().is_ok()).ok_or_else(|| {
            let forms = "none, tail:SHARE (above 0, at most 1) and ema:DECAY (between 0 and 1)";
            Error::config("average", format!("{text:?} is none of {forms}"))
        })
    }
}

as_text!(Average);

/// An optimiser that keeps an average of the weights besides: a state tensor of each parameter, named
/// [`AVERAGE`](Averaging::AVERAGE). Training goes by the weights themselves, as without.
pub struct Averaging<B: Backend> {
    backend: B,
    inner: Box<dyn Optimizer<B>>,
    rule: Average,
    /// Updates of the whole run; 0 if nobody has told.
    updates: u64,
    averages: Kept<B>,
    /// Updates so far.
    averaged: u64,
    /// Of them those at the beginning that the average leaves out, by the run's length at that time. A run that is made
    /// shorter has its tail begin where it stands, not before.
    left_out: u64,
    id: u64,
}

impl<B: Backend> Averaging<B> {
    /// The name of the state tensors.
    pub const AVERAGE: &'static str = "average";

    /// `inner` with averages by `rule`. A tail begins with the first update, until [`Optimizer::set_updates`] has told the
    /// length of the run, as [`Trainer::fit`](crate::train::Trainer::fit) does.
    pub fn new(backend: &B, inner: impl Into<Box<dyn Optimizer<B>>>, rule: Average) -> Self {
        let (backend, inner, averages, id) = (backend.clone(), inner.into(), Kept::new(), unique());
        Averaging { backend, inner, rule, updates: 0, averages, averaged: 0, left_out: 0, id }
    }

    fn count(&mut self) {
        let is_left_out = self.averaged < self.rule.left_out(self.updates);
        self.averaged = self.averaged.saturating_add(1);
        if is_left_out {
            self.left_out = self.averaged;
        }
    }
}

impl<B: Backend> Optimizer<B> for Averaging<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn step(&mut self, mut params: Vec<(String, &mut Param<B>)>, grads: &Grads<B>, rate: f64) -> Result<()> {
        self.rule.validate()?;
        // Begun with the parameters: an update that is left out leaves them there.
        for (_, param) in &params {
            if self.averages.get(param).is_none() {
                let values = self.backend.download(param.data())?;
                self.averages.set(&self.backend, param, &values, [self.inner.name(), Self::AVERAGE])?;
            }
        }
        let again = params.iter_mut().map(|(name, param)| (name.clone(), &mut **param)).collect();
        self.inner.step(again, grads, rate)?;
        let keep = Real::from_f64(self.keep());
        let mut averages = self.averages.lend();
        let kept = params.iter().filter_map(|(_, param)| {
            let average = averages.remove(&param.id())?;
            Some(Item { param: param.data(), average })
        });
        let mut items: Vec<Item<'_, B>> = kept.collect();
        self.backend.average(keep, &mut items, grads.guard().map(Guard::words).as_deref_mut())?;
        drop(items);
        drop(averages);
        self.count();
        Ok(())
    }

    fn corrections(&self) -> [f32; 2] {
        self.inner.corrections()
    }

    fn set_updates(&mut self, updates: u64) {
        self.inner.set_updates(updates);
        self.updates = updates;
    }

    fn keep(&self) -> f64 {
        let left_out = self.rule.left_out(self.updates).max(self.left_out);
        self.rule.keep(self.averaged.saturating_add(1).saturating_sub(left_out))
    }

    fn count_replay(&mut self) {
        self.inner.count_replay();
        self.count();
    }

    fn uncount(&mut self, updates: u64) {
        self.inner.uncount(updates);
        self.averaged = self.averaged.saturating_sub(updates);
        self.left_out = self.left_out.min(self.averaged);
    }

    fn recording_key(&self) -> Vec<u64> {
        let mut key = self.inner.recording_key();
        key.push(self.id);
        key
    }

    fn tensor_names(&self) -> Vec<&'static str> {
        let mut names = self.inner.tensor_names();
        names.push(Self::AVERAGE);
        names
    }

    fn tensor(&self, name: &str, param: &Param<B>) -> Option<&B::Buf> {
        if name == Self::AVERAGE { self.averages.get(param) } else { self.inner.tensor(name, param) }
    }

    fn set_tensor(&mut self, name: &str, param: &Param<B>, values: &[B::Scalar]) -> Result<()> {
        if name == Self::AVERAGE {
            return self.averages.set(&self.backend, param, values, [self.inner.name(), Self::AVERAGE]);
        }
        self.inner.set_tensor(name, param, values)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.inner.counters();
        counters.extend([(AVERAGED, self.averaged), (LEFT_OUT, self.left_out)]);
        counters
    }

    fn set_counter(&mut self, name: &str, value: u64) -> Result<()> {
        match name {
            AVERAGED => self.averaged = value,
            LEFT_OUT => self.left_out = value,
            _ => return self.inner.set_counter(name, value).map_err(|_| unknown(self.inner.name(), name)),
        }
        Ok(())
    }
}

impl<B: Backend> From<Averaging<B>> for Box<dyn Optimizer<B>> {
    fn from(optimizer: Averaging<B>) -> Self {
        Box::new(optimizer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The average of the numbers 1, 2, 3 ... after `updates` of them.
    fn averages(rule: &str, updates: u64) -> Vec<f64> {
        let rule: Average = rule.parse().unwrap();
        let mut average = 99.0;
        (1..=updates)
            .map(|update| {
                let w = update as f64;
                let keep = rule.keep(update.saturating_sub(rule.left_out(updates)));
                average = w + keep * (average - w);
                average
            })
            .collect()
    }

    #[test]
    fn a_tail_is_the_mean_of_the_last_weights() {
        let found = averages("tail:0.4", 10);
        assert_eq!(found[..6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "the weights themselves before the tail begins");
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(found[6], 7.0) && close(found[7], 7.5) && close(found[9], 8.5), "{found:?}");
        assert!(close(averages("tail:1", 10)[9], 5.5));
        assert!(close(averages("tail:0.001", 10)[9], 10.0), "a tail without an update");
    }

    #[test]
    fn an_exponential_average_begins_as_a_mean() {
        let found = averages("ema:0.75", 6);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(found[0], 1.0) && close(found[1], 1.5) && close(found[3], 2.5), "{found:?}");
        assert!(close(found[4], 0.75 * 2.5 + 0.25 * 5.0) && close(found[5], 0.75 * found[4] + 0.25 * 6.0));
    }

    #[test]
    fn a_run_that_is_made_shorter_or_longer_averages_what_is_left_of_it() {
        let backend = crate::Cpu::<f32>::new();
        let mut averaging = Averaging::new(&backend, crate::optim::Sgd::new(&backend), Average::Tail(0.4));
        averaging.set_updates(10);
        let mut keeps = |updates: u64, many: usize| -> Vec<f64> {
            averaging.set_updates(updates);
            let mut next = || {
                let keep = averaging.keep();
                averaging.count_replay();
                keep
            };
            (0..many).map(|_| next()).collect()
        };
        assert_eq!(keeps(10, 5), [0.0; 5], "before the tail");
        // The tail of five updates would have begun after three.
        assert_eq!(keeps(5, 1), [0.0], "the weights before are no part of it");
        assert_eq!(keeps(5, 1), [0.5]);
        // The tail of twenty has not begun.
        assert_eq!(keeps(20, 5), [0.0; 5]);
        assert_eq!(keeps(20, 3), [0.0, 0.5, 1.0 - 1.0 / 3.0]);
        let saved = averaging.counters();
        averaging.uncount(2);
        assert_eq!(averaging.keep(), 0.5);
        averaging.uncount(9);
        averaging.set_updates(5);
        assert_eq!(averaging.keep(), 0.0, "all that is left was before the tail");
        for (name, value) in saved {
            averaging.set_counter(name, value).unwrap();
        }
        averaging.set_updates(20);
        assert_eq!(averaging.keep(), 0.75);
    }

    #[test]
    fn text_goes_both_ways_and_nonsense_is_refused() {
        for text in ["none", "tail:0.2", "tail:1", "ema:0.999"] {
            assert_eq!(text.parse::<Average>().unwrap().to_string(), text);
        }
        for text in ["", "tail", "tail:0", "tail:1.5", "ema:1", "ema:0", "ema:nan", "mean:2"] {
            let message = text.parse::<Average>().unwrap_err().to_string();
            assert!(message.starts_with("average: "), "{message}");
        }
    }
}
