//! Coverage-guided fuzzing (libFuzzer) of every format that this project reads. `$MLPCONV_FORMAT` names the format; the
//! arguments are libFuzzer's. `make fuzz` runs all of them, and `tests/promises/hostile` the corpora alone.

#![no_main]

#[path = "../../tests/promises/hostile/formats.rs"]
mod formats;

use std::cell::RefCell;
use std::env;

use formats::{FORMATS, Reader};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static READER: RefCell<Reader> = RefCell::new(reader());
}

fn reader() -> Reader {
    let name = env::var("MLPCONV_FORMAT").unwrap_or_default();
    let Some(format) = FORMATS.iter().find(|format| format.name == name) else {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        panic!("MLPCONV_FORMAT={name:?} is none of {}", names.join(", "));
    };
    (format.reader)()
}

fuzz_target!(|input: &[u8]| {
    READER.with_borrow_mut(|read| read(input));
});
