//! Promise 16. The learning is real: accuracy does not fall by a point.
