//! Promise 2. A full disk or an I/O error at any call of a save leaves the previous state usable, names path and cause, and leaves nothing behind.
