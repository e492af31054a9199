//! Promise 15. Embedding is safe: the library never prints, exits, installs handlers, or panics on bad arguments.
