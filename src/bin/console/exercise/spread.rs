//! What several seeds give: a mean, and how far they lie apart.

use std::cmp::Ordering;
use std::fmt;

/// The values of one quantity, one of each seed. There is at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    values: Vec<f64>,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        (!values.is_empty()).then_some(Spread { values })
    }

    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// The lowest and the highest value.
    pub fn range(&self) -> [f64; 2] {
        let fold = |choose: fn(f64, f64) -> f64| self.values.iter().copied().reduce(choose).unwrap_or(f64::NAN);
        [fold(f64::min), fold(f64::max)]
    }

    /// The number of values.
    pub fn seeds(&self) -> usize {
        self.values.len()
    }

    /// Compares two spreads: equal unless every value of one is above every value of the other, and several seeds have been
    /// tried of both.
    pub fn compare(&self, other: &Spread) -> Ordering {
        let ([low, high], [other_low, other_high]) = (self.range(), other.range());
        match self.seeds().min(other.seeds()) {
            0 | 1 => Ordering::Equal,
            _ if low > other_high => Ordering::Greater,
            _ if high < other_low => Ordering::Less,
            _ => Ordering::Equal,
        }
    }

    /// How this lies beside `other`, in words.
    pub fn beside(&self, other: &Spread) -> String {
        let difference = self.mean() - other.mean();
        let by = format!("{:.4} {}", difference.abs(), if difference < 0.0 { "lower" } else { "higher" });
        match self.compare(other) {
            _ if self.seeds().min(other.seeds()) == 1 => format!("{by} with one seed, which has no spread"),
            Ordering::Equal => format!("no different beyond the spread of the seeds ({by} on average)"),
            _ => format!("{by}, beyond the spread of the seeds"),
        }
    }
}

/// The mean, and of several values the range.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.range();
        match self.seeds() {
            1 => write!(f, "{:.4}", self.mean()),
            _ => write!(f, "{:.4} ({low:.4} to {high:.4})", self.mean()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Spread {
        Spread::of(values.iter().copied()).unwrap()
    }

    #[test]
    fn a_difference_is_one_where_the_ranges_do_not_touch() {
        let (low, high) = (spread(&[0.2, 0.1, 0.3]), spread(&[0.4, 0.5]));
        assert_eq!(low.compare(&high), Ordering::Less);
        assert_eq!(high.compare(&low), Ordering::Greater);
        assert_eq!(low.compare(&spread(&[0.3, 0.9])), Ordering::Equal);
        assert_eq!(low.compare(&spread(&[0.9])), Ordering::Equal, "one seed has no spread");
    }

    #[test]
    fn a_difference_is_told_with_what_it_is_worth() {
        let (low, high) = (spread(&[0.1, 0.3]), spread(&[0.5, 0.7]));
        assert_eq!(low.beside(&high), "0.4000 lower, beyond the spread of the seeds");
        let wide = spread(&[0.2, 0.8]);
        assert_eq!(wide.beside(&low), "no different beyond the spread of the seeds (0.3000 higher on average)");
        assert_eq!(high.beside(&spread(&[0.5])), "0.1000 higher with one seed, which has no spread");
    }

    #[test]
    fn a_spread_is_told_with_its_mean() {
        assert_eq!(spread(&[0.25, 0.75]).to_string(), "0.5000 (0.2500 to 0.7500)");
        assert_eq!(spread(&[0.25]).to_string(), "0.2500");
        assert_eq!(Spread::of([]), None);
    }
}
