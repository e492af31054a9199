//! Times as options take them: `90s`, `5m`, `1h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A time of whole seconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeSpan(pub Duration);

/// The units, the largest first, with their seconds.
const UNITS: [(char, u64); 3] = [('h', 3600), ('m', 60), ('s', 1)];

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = UNITS.into_iter().find_map(|(unit, seconds)| {
            let number = text.strip_suffix(unit)?.parse::<u32>().ok().filter(|number| *number > 0)?;
            Some(TimeSpan(Duration::from_secs(u64::from(number) * seconds)))
        });
        parsed.ok_or_else(|| format!("{text:?} is not a time (90s, 5m, 1h)"))
    }
}

impl fmt::Display for TimeSpan {
    /// In the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let fits = |(_, unit): &(char, u64)| seconds.is_multiple_of(*unit);
        let (unit, length) = UNITS.into_iter().find(fits).unwrap_or(('s', 1));
        write!(f, "{}{unit}", seconds / length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("2h", 7200)] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!((span, &*span.to_string()), (TimeSpan(Duration::from_secs(seconds)), text));
        }
        assert_eq!("3600s".parse::<TimeSpan>().unwrap().to_string(), "1h");
        for text in ["", "0", "0s", "s", "-5s", "5 m", "1.5m", "10", "never", "99999999999h", "5µ"] {
            assert!(text.parse::<TimeSpan>().unwrap_err().contains("90s"), "{text}");
        }
    }
}
