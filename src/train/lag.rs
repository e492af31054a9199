//! Readings of the loss that a device has been asked for and has not come to yet.

use crate::Result;

/// Steps between two readings at most, whether anybody wants them: the host is never further ahead of a device than twice as
/// many, so that it stops soon after it was told to.
pub(super) const LEAD: usize = 8;

/// The last reading asked for, until it is there.
pub(super) struct Lag<P>(Option<Awaited<P>>);

/// A reading, after how many steps of the epoch it was asked for, and whether to tell.
#[derive(Debug, PartialEq)]
pub(super) struct Awaited<P> {
    pub(super) step: u32,
    pub(super) told: bool,
    pub(super) reading: P,
}

impl<P> Lag<P> {
    pub(super) fn new() -> Self {
        Lag(None)
    }

    /// The next reading is asked for. The one before it, if it is still awaited, has to be waited for now.
    pub(super) fn ask(&mut self, next: Awaited<P>) -> Option<Awaited<P>> {
        self.0.replace(next)
    }

    /// The awaited reading, if it is there or has to be.
    pub(super) fn take(&mut self, now: bool, is_there: impl FnOnce(&P) -> Result<bool>) -> Result<Option<Awaited<P>>> {
        match &self.0 {
            Some(awaited) if now || is_there(&awaited.reading)? => Ok(self.0.take()),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(step: u32) -> Awaited<u32> {
        Awaited { step, told: true, reading: step }
    }

    #[test]
    fn a_device_that_is_as_fast_has_none_under_way() {
        let mut lag = Lag::new();
        for step in 1..4 {
            assert_eq!(lag.ask(asked(step)), None);
            assert_eq!(lag.take(false, |_| Ok(true)).unwrap(), Some(asked(step)));
        }
        assert_eq!(lag.take(true, |_| Ok(true)).unwrap(), None);
    }

    #[test]
    fn a_slow_device_is_waited_for_when_the_next_is_asked_for_and_at_the_end() {
        let mut lag = Lag::new();
        assert_eq!(lag.ask(asked(8)), None);
        assert_eq!(lag.take(false, |_| Ok(false)).unwrap(), None);
        assert_eq!(lag.ask(asked(16)), Some(asked(8)));
        assert_eq!(lag.take(false, |_| Ok(false)).unwrap(), None);
        assert_eq!(lag.take(true, |_| unreachable!("it has to be there")).unwrap(), Some(asked(16)));
    }
}
