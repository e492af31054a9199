//! Promise 9. Of two processes on one run folder the second is refused by name.
