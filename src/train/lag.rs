//! The lag of readings: the host asks for a reading of the loss and goes on, until the device has computed it.

use crate::Result;

/// The most steps between two readings, reported or not. The host is never more than twice as many steps ahead of the
/// device, so that a stop takes effect soon.
pub(super) const LEAD: usize = 8;

/// The last reading asked for, until it has arrived.
pub(super) struct Lag<P>(Option<Awaited<P>>);

/// A reading under way.
#[derive(Debug, PartialEq)]
pub(super) struct Awaited<P> {
    /// The number of the epoch's steps that it covers.
    pub(super) step: u32,
    /// Whether to report it in an event.
    pub(super) told: bool,
    pub(super) reading: P,
}

impl<P> Lag<P> {
    pub(super) fn new() -> Self {
        Lag(None)
    }

    /// Replaces the awaited reading by `next`. Returns the earlier one if it has not arrived; the caller has to wait
    /// for it now.
    pub(super) fn ask(&mut self, next: Awaited<P>) -> Option<Awaited<P>> {
        self.0.replace(next)
    }

    /// Takes the awaited reading if `is_there` says that it has arrived, or in any case if `now` is set.
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
