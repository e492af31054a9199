//! Promise 14. Kernels touch nothing that is not theirs.
