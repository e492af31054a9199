//! Axes: from values to places, and ticks at round numbers.

/// How values are placed along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// By their logarithms. A value that is not positive has no place.
    Log,
}

/// An axis of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
}

/// The part of an axis that a chart shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

/// Ticks on an axis, about.
const TICKS: f64 = 5.0;

impl Span {
    /// The span of the values that have a place: exactly theirs, or, if `rounded`, from a round number to a round number.
    /// Of a single value, or of none, it is a span around it.
    pub fn of(scale: Scale, values: impl Iterator<Item = f64>, rounded: bool) -> Self {
        let places = values.filter(|value| has_place(scale, *value));
        // Numbers beyond these would overflow in differences and quotients.
        let places = places.map(|value| value.clamp(-1e300, 1e300)).map(|value| match scale {
            Scale::Log => value.max(1e-300),
            Scale::Linear => value,
        });
        let (mut whole, mut low, mut high) = (true, f64::INFINITY, f64::NEG_INFINITY);
        for value in places {
            (low, high) = (low.min(value), high.max(value));
            whole &= value.fract() == 0.0;
        }
        if low > high {
            (low, high) = (1.0, 1.0);
        }
        match scale {
            Scale::Linear => Span::linear(low, high, rounded, whole),
            Scale::Log => Span::log(low, high, rounded),
        }
    }

    fn linear(mut low: f64, mut high: f64, rounded: bool, whole: bool) -> Self {
        if high - low <= high.abs().max(low.abs()) * 1e-9 {
            // Half of a whole number would be lost in a large one.
            let around = if whole && !rounded && high.abs() < 1e6 { 0.5 } else { (high.abs() * 0.1).max(1e-6) };
            (low, high) = (low - around, high + around);
        }
        let mut step = round_step((high - low) / TICKS);
        if whole && !rounded {
            step = step.max(1.0);
        }
        if rounded {
            (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        }
        let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        // Adding zero makes -0 a 0.
        let ticks = (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step + 0.0).collect();
        Span { scale: Scale::Linear, low, high, ticks }
    }

    fn log(mut low: f64, mut high: f64, rounded: bool) -> Self {
        if high / low < 1.0 + 1e-9 {
            (low, high) = (low / 2.0, high * 2.0);
        }
        let decades = (high / low).log10();
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let every = (decades / TICKS).ceil().max(1.0) as usize;
        let factors: &[f64] = match decades {
            ..1.0 => &[1.0, 2.0, 3.0, 5.0, 7.0],
            ..2.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let round = (first..=last).step_by(every).flat_map(|power| factors.iter().map(move |f| f * 10f64.powi(power)));
        let round: Vec<f64> = round.collect();
        if rounded {
            low = round.iter().copied().rfind(|tick| *tick <= low * (1.0 + 1e-9)).unwrap_or(low);
            high = round.iter().copied().find(|tick| *tick >= high * (1.0 - 1e-9)).unwrap_or(high);
        }
        let within = |tick: &f64| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(tick);
        let mut ticks: Vec<f64> = round.into_iter().filter(within).collect();
        if ticks.len() < 2 {
            ticks = Span::linear(low, high, false, false).ticks.into_iter().filter(|tick| *tick > 0.0).collect();
        }
        Span { scale: Scale::Log, low, high, ticks }
    }

    /// The place of a value, 0 at the low end of the span and 1 at its high end; `None` for a value without one.
    pub fn place(&self, value: f64) -> Option<f64> {
        // What overflows the span lies at its end.
        let within = value.clamp(self.low, self.high);
        has_place(self.scale, value).then(|| match self.scale {
            Scale::Linear => (within - self.low) / (self.high - self.low),
            Scale::Log => (within.ln() - self.low.ln()) / (self.high.ln() - self.low.ln()),
        })
    }

    /// The ticks, each with its label.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let gaps = self.ticks.windows(2).map(|pair| pair[1] - pair[0]);
        let step = gaps.fold(f64::INFINITY, f64::min);
        let largest = self.ticks.iter().fold(0.0, |largest: f64, tick| largest.max(tick.abs()));
        let label = |tick: f64| match self.scale {
            Scale::Linear => label(tick, step, largest),
            Scale::Log => label(tick, tick, tick),
        };
        self.ticks.iter().map(|tick| (*tick, label(*tick))).collect()
    }
}

fn has_place(scale: Scale, value: f64) -> bool {
    value.is_finite() && (scale == Scale::Linear || value > 0.0)
}

/// 1, 2 or 5 times a power of ten: the largest that is not much longer than `step`.
fn round_step(step: f64) -> f64 {
    let step = 1.4 * step;
    let power = 10f64.powf(step.log10().floor());
    [5.0, 2.0].into_iter().map(|factor| factor * power).find(|round| *round <= step).unwrap_or(power)
}

/// The label of a tick, with as many decimals as `step` needs; numbers as large as `largest` have a metric prefix.
fn label(tick: f64, step: f64, largest: f64) -> String {
    const PREFIXES: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")];
    if tick == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e18).contains(&largest) {
        let text = format!("{tick:.1e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return match digits.trim_end_matches(".0") {
            "1" => format!("10^{power}"),
            digits => format!("{digits}·10^{power}"),
        };
    }
    let (unit, prefix) = PREFIXES.into_iter().find(|(from, _)| largest >= *from).unwrap_or((1.0, ""));
    let unit = if prefix == "k" { 1e3 } else { unit };
    let step = if step.is_finite() { step } else { largest };
    let decimals = (-(step / unit).log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
    format!("{:.decimals$}{prefix}", tick / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64], rounded: bool) -> Vec<String> {
        let ticks = Span::of(scale, values.iter().copied(), rounded).ticks();
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(Scale::Linear, &[0.203, 2.317], true), ["0", "0.5", "1.0", "1.5", "2.0", "2.5"]);
        assert_eq!(labels(Scale::Linear, &[0.55, 0.926], true), ["0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]);
        assert_eq!(labels(Scale::Linear, &[1.0, 8.0], false), ["1", "2", "3", "4", "5", "6", "7", "8"]);
        assert_eq!(labels(Scale::Linear, &[2.6, 144.8], false), ["20", "40", "60", "80", "100", "120", "140"]);
        assert_eq!(labels(Scale::Linear, &[1.0, 3.0], false), ["1", "2", "3"], "there is no half of an epoch");
        assert_eq!(labels(Scale::Linear, &[0.0, 4.2e9], true), ["0", "1G", "2G", "3G", "4G", "5G"]);
        assert_eq!(labels(Scale::Log, &[0.001, 0.7], true), ["0.001", "0.01", "0.1", "1"]);
        assert_eq!(labels(Scale::Log, &[0.2, 2.3], true), ["0.2", "0.5", "1", "2", "5"]);
        assert_eq!(labels(Scale::Log, &[48e3, 102e6], true), ["10k", "100k", "1M", "10M", "100M", "1G"]);
        assert_eq!(labels(Scale::Log, &[2e-5, 1e-4], false), ["2·10^-5", "3·10^-5", "5·10^-5", "7·10^-5", "10^-4"]);
    }

    #[test]
    fn every_span_has_a_length_and_ticks_within_it() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1.0, 1.0, 1e-320, f64::MIN, f64::MAX, 7.3];
        let pairs = odd.iter().flat_map(|a| odd.iter().map(|b| vec![*a, *b]));
        for values in pairs.chain([vec![], vec![5.0]]) {
            for (scale, rounded) in
                [(Scale::Linear, true), (Scale::Linear, false), (Scale::Log, true), (Scale::Log, false)]
            {
                let span = Span::of(scale, values.iter().copied(), rounded);
                assert!(span.low < span.high, "{values:?}: {span:?}");
                assert!((1..=16).contains(&span.ticks.len()), "{values:?}: {span:?}");
                for (tick, label) in span.ticks() {
                    assert!((-0.01..=1.01).contains(&span.place(tick).unwrap()), "{values:?}: {label} in {span:?}");
                }
                for value in &values {
                    assert!(span.place(*value).is_none_or(f64::is_finite), "{values:?}: {span:?}");
                }
            }
        }
    }
}
