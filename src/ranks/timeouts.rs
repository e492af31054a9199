//! How long ranks wait, and how waiting is counted.

use std::time::{Duration, Instant};

/// How long ranks wait for each other. All ranks are to have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For all ranks to meet: 60 s.
    pub join: Duration,
    /// Without a sign of life from a rank, until it counts as lost: 8 s. The time in which this process itself is stopped does not
    /// count.
    pub silence: Duration,
    /// For a call to be done: 600 s, likewise.
    pub collective: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            join: Duration::from_secs(60),
            silence: Duration::from_secs(8),
            collective: Duration::from_secs(600),
        }
    }
}

/// The ticks of a silence after which a rank is lost.
pub(super) const TICKS: u32 = 8;

impl Timeouts {
    /// The time between two signs of life, in which waiting is counted: 1 s unless the silence is shorter than 8 s.
    pub(super) fn tick(&self) -> Duration {
        (self.silence / TICKS).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// The ticks without a sign of life after which a rank is lost.
    pub(super) fn silent_ticks(&self) -> u32 {
        let ticks = self.silence.as_millis().div_ceil(self.tick().as_millis().max(1));
        u32::try_from(ticks).unwrap_or(u32::MAX).max(2)
    }
}

/// The end of a time that begins now. Of a time too long for the clock it is some decades away.
pub(super) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(1 << 30))
}

/// A time to wait, counted in waits of about a tick. A wait that took longer, since the process was stopped, counts as two
/// ticks.
pub(super) struct Patience {
    left: Duration,
    tick: Duration,
    last: Instant,
}

impl Patience {
    pub(super) fn new(limit: Duration, tick: Duration) -> Self {
        Patience { left: limit, tick, last: Instant::now() }
    }

    /// Counts the time since the last call. Returns whether some is left.
    pub(super) fn is_left(&mut self) -> bool {
        let now = Instant::now();
        self.left = self.left.saturating_sub((now - self.last).min(2 * self.tick));
        self.last = now;
        !self.left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_of_eight_seconds_is_eight_ticks_of_one() {
        let timeouts = Timeouts::default();
        assert_eq!((timeouts.tick(), timeouts.silent_ticks()), (Duration::from_secs(1), 8));
        let timeouts = Timeouts { silence: Duration::from_millis(400), ..timeouts };
        assert_eq!((timeouts.tick(), timeouts.silent_ticks()), (Duration::from_millis(50), 8));
        let timeouts = Timeouts { silence: Duration::from_secs(60), ..timeouts };
        assert_eq!((timeouts.tick(), timeouts.silent_ticks()), (Duration::from_secs(1), 60));
        let timeouts = Timeouts { silence: Duration::ZERO, ..timeouts };
        assert!(timeouts.silent_ticks() >= 2);
    }

    #[test]
    fn a_time_beyond_the_clock_ends_in_decades() {
        assert!(after(Duration::MAX) > after(Duration::from_secs(1 << 29)));
        assert!(after(Duration::from_secs(1)) < after(Duration::from_secs(60)));
    }
}
