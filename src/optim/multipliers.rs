//! Multipliers of the rate and of the weight decay, for parameters by name.

use std::fmt;
use std::str::FromStr;

use crate::Backend;
use crate::device::Real;
use crate::nn::{Module, params_mut};
use crate::text::as_text;
use crate::{Error, Result};

/// A factor of the learning rate for the parameters whose names fit a pattern. As text: `PATTERN=FACTOR`, where `*` in the
/// pattern stands for any characters: `*.bias=2`.
#[derive(Clone, Debug, PartialEq)]
pub struct RateMultiplier {
    pub pattern: String,
    /// Zero or positive, and finite.
    pub factor: f64,
}

impl RateMultiplier {
    /// Whether the parameter of this name has the factor.
    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.pattern.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        // The leftmost place of each part leaves the most for the next.
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for RateMultiplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.factor)
    }
}

impl FromStr for RateMultiplier {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let problem = || format!("{text:?} is not PATTERN=FACTOR with a factor from 0 on, such as '*.bias=2'");
        let parsed = text.rsplit_once('=').and_then(|(pattern, factor)| {
            let factor: f64 = factor.parse().ok()?;
            (super::is_finite_in_f32(factor) && !pattern.is_empty())
                .then(|| RateMultiplier { pattern: pattern.into(), factor })
        });
        parsed.ok_or_else(|| Error::config("rate-multiplier", problem()))
    }
}

as_text!(RateMultiplier);

/// Multiplies the rate of every parameter by the factors of all `rates` that it fits. With `weights_only` parameters of one
/// dimension, the biases, have no weight decay.
///
/// # Errors
/// As [`require_fit`] and [`params_mut`]. Nothing changes then.
pub fn set_multipliers<B: Backend, M: Module<B> + ?Sized>(
    net: &mut M,
    rates: &[RateMultiplier],
    weights_only: bool,
) -> Result<()> {
    require_fit(net, rates)?;
    let params = params_mut(net)?;
    for (name, param) in params {
        let factors = rates.iter().filter(|rate| rate.fits(&name)).map(|rate| rate.factor);
        let own = Real::to_f64(param.rate_multiplier);
        param.rate_multiplier = Real::from_f64(factors.fold(own, |product, factor| product * factor));
        if weights_only && param.shape().dims().len() == 1 {
            param.decay_multiplier = num_traits::Zero::zero();
        }
    }
    Ok(())
}

/// Checks that every pattern fits a parameter of `net`, and that all products of factors can be multiplied with.
///
/// # Errors
/// [`Error::Config`] for a pattern that no parameter fits, or a product that is not finite in f32.
pub fn require_fit<B: Backend, M: Module<B> + ?Sized>(net: &M, rates: &[RateMultiplier]) -> Result<()> {
    let params = net.params();
    if let Some(rate) = rates.iter().find(|rate| !params.iter().any(|(name, _)| rate.fits(name))) {
        let names: Vec<&str> = params.iter().map(|(name, _)| &**name).collect();
        let problem = format!("{:?} fits no parameter; there are {}", rate.pattern, names.join(", "));
        return Err(Error::config("rate-multiplier", problem));
    }
    let factor = |name: &str| rates.iter().filter(|rate| rate.fits(name)).map(|rate| rate.factor).product::<f64>();
    if let Some((name, _)) = params.iter().find(|(name, _)| !super::is_finite_in_f32(factor(name))) {
        let problem = format!("the factors of {name} have the product {}, which is not finite in f32", factor(name));
        return Err(Error::config("rate-multiplier", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::nn::Nin;

    #[test]
    fn patterns_fit_names_as_wildcards_do() {
        let fits = |pattern: &str, name: &str| RateMultiplier { pattern: pattern.into(), factor: 1.0 }.fits(name);
        for (pattern, name) in [
            ("*", ""),
            ("*", "0.0.bias"),
            ("*.bias", "0.0.bias"),
            ("0.*", "0.0.bias"),
            ("0.0.bias", "0.0.bias"),
            ("*.2.*", "0.2.weight"),
            ("*a*ab", "aaab"),
            ("**", "x"),
        ] {
            assert!(fits(pattern, name), "{pattern} fits {name}");
        }
        for (pattern, name) in [
            ("", "0.0.bias"),
            ("bias", "0.0.bias"),
            ("*.bias", "0.0.weight"),
            ("1.*", "0.1.bias"),
            ("ab*ba", "aba"),
            ("0.0.bia", "0.0.bias"),
        ] {
            assert!(!fits(pattern, name), "{pattern} does not fit {name}");
        }
    }

    #[test]
    fn parameters_get_their_factors() {
        let backend = Cpu::<f32>::new();
        let mut net = Nin::small(&backend, 0).unwrap();
        let rates = ["*.bias=2".parse().unwrap(), "0.*=0.5".parse().unwrap()];
        set_multipliers(&mut net, &rates, true).unwrap();
        for (name, param) in net.params() {
            let (bias, first) = (name.ends_with(".bias"), name.starts_with("0."));
            let rate = if bias { 2.0 } else { 1.0 } * if first { 0.5 } else { 1.0 };
            assert_eq!((param.rate_multiplier, param.decay_multiplier), (rate, if bias { 0.0 } else { 1.0 }), "{name}");
        }
        let error = set_multipliers(&mut net, &["*.gamma=2".parse().unwrap()], false).unwrap_err().to_string();
        assert!(
            error.starts_with("rate-multiplier: \"*.gamma\" fits no parameter; there are 0.0.weight, 0.0.bias,"),
            "{error}"
        );
    }

    #[test]
    fn text_goes_both_ways_and_nonsense_is_refused() {
        for text in ["*.bias=2", "0.*=0", "a=b=1.5"] {
            assert_eq!(text.parse::<RateMultiplier>().unwrap().to_string(), text);
        }
        for text in ["", "2", "=2", "*.bias=", "*.bias=-1", "*.bias=nan", "*.bias=1e39"] {
            assert!(text.parse::<RateMultiplier>().is_err(), "{text}");
        }
    }
}
