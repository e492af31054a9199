//! Promise 13. A download that is cut off, wrong, endless or slow is refused, and nothing of it stays.
