//! Promise 1. `kill -9` at any moment loses at most the steps since the last save, and resuming ends with the same bits.
