//! Promise 12. Run files of older versions load, newer ones are refused by name.
