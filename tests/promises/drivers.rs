//! Promise 11. No driver, no GPU, a lacking symbol, an old driver or GPU: a clear word, and the CPU or exit code 2.
