//! Promise 8. INT, TERM and HUP at any moment: saved and resumable within 2 s of the step's end.
