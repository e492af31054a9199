//! Promise 3. A damaged file is refused, or changes nothing.
