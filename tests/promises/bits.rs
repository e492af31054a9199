//! Promise 7. The same seed, program, device and precision give the same bits, with any number of threads and on every run.
