//! Promise 4. Hostile input never panics, hangs or swallows memory.
