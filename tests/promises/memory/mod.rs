//! Promise 5. Out of memory is an answer: a typed error, and a batch that fits is named.

mod allocator;
mod programs;
mod steps;
