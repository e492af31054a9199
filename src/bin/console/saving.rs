//! How often a run is saved.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::time_span::TimeSpan;

/// The interval between two saves: a time, or a number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SaveEvery {
    Time(Duration),
    Steps(u32),
}

impl Default for SaveEvery {
    fn default() -> Self {
        SaveEvery::Time(Duration::from_secs(5 * 60))
    }
}

impl FromStr for SaveEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(TimeSpan(time)) = text.parse() {
            return Ok(SaveEvery::Time(time));
        }
        let steps = text.parse().ok().filter(|steps| *steps > 0);
        steps
            .map(SaveEvery::Steps)
            .ok_or_else(|| format!("{text:?} is neither a time (90s, 5m, 1h) nor a number of steps, at least 1"))
    }
}

impl fmt::Display for SaveEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaveEvery::Time(time) => TimeSpan(*time).fmt(f),
            SaveEvery::Steps(steps) => write!(f, "{steps}"),
        }
    }
}

/// Decides after each step whether to save.
pub struct Saving {
    every: SaveEvery,
    /// The end of the last save.
    last: Instant,
    /// The time that the last save took.
    cost: Duration,
    steps: u32,
}

impl Saving {
    pub fn new(every: SaveEvery) -> Self {
        Saving { every, last: Instant::now(), cost: Duration::ZERO, steps: 0 }
    }

    /// Counts a step. Returns whether to save now. However slow the disk is, saving by time takes at most a hundredth
    /// of it.
    pub fn is_due(&mut self) -> bool {
        self.steps += 1;
        match self.every {
            SaveEvery::Steps(steps) => self.steps >= steps,
            SaveEvery::Time(time) => self.last.elapsed() >= time.max(100 * self.cost),
        }
    }

    /// Runs `save`, and begins a new interval.
    pub fn save<E>(&mut self, save: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let began = Instant::now();
        save()?;
        (self.last, self.steps) = (Instant::now(), 0);
        self.cost = self.last - began;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_time_or_a_number_of_steps() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("2h", 7200)] {
            let every: SaveEvery = text.parse().unwrap();
            assert_eq!(every, SaveEvery::Time(Duration::from_secs(seconds)));
            assert_eq!(every.to_string().parse(), Ok(every));
        }
        assert_eq!("250".parse(), Ok(SaveEvery::Steps(250)));
        for text in ["", "0", "0s", "s", "-5", "5 m", "1.5m", "never", "99999999999", "5µ"] {
            assert!(text.parse::<SaveEvery>().unwrap_err().contains("90s"), "{text}");
        }
    }

    #[test]
    fn a_slow_disk_takes_a_hundredth_of_the_time() {
        let mut saving = Saving::new(SaveEvery::Time(Duration::from_nanos(1)));
        assert!(saving.is_due());
        saving.cost = Duration::from_secs(3600);
        assert!(!saving.is_due());
    }

    #[test]
    fn steps_are_counted_from_the_last_save() {
        let mut saving = Saving::new(SaveEvery::Steps(2));
        assert_eq!([saving.is_due(), saving.is_due()], [false, true]);
        saving.save(|| Ok::<(), ()>(())).unwrap();
        assert_eq!([saving.is_due(), saving.is_due()], [false, true]);
        assert!(saving.save(|| Err(())).is_err());
        assert!(saving.is_due(), "a save that failed is still due");
    }
}
