//! Promise 4. Hostile input never panics, hangs or swallows memory.
//!
//! Each format is read in a process of its own: an abort, an overflow of the stack and a hang are then failures of a
//! format that is named, and its memory is the process's. The inputs are the fuzzer's corpus (`fuzz/corpus/FORMAT`) and
//! mutations of it that are the same on every run; `make fuzz` looks for new ones.

mod formats;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use crate::place::Place;
use crate::promise::{kept, tries};
use formats::{FORMATS, Format};

/// The variable that names the format which a process reads.
const FORMAT: &str = "MLPCONV_HOSTILE_FORMAT";
/// The memory that an input may take beside twice its size: it may be compressed, or a kernel with its threads' memory.
const ROOM: usize = 256 << 20;
/// The time that an input may take. Most take less than a millisecond, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn no_corpus_nor_its_mutations_panic_hang_or_swallow_memory() {
    let mut figures = Vec::new();
    for Format { name, .. } in &FORMATS {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "hostile::a_format_that_is_asked_for", "--nocapture", "--test-threads=1"]);
        let output = child.env(FORMAT, name).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {}\n{text}{problems}", output.status);
        let counts = text.lines().find_map(|line| line.split_once("inputs and accepted: ")).expect("the counts").1;
        let (inputs, accepted) = counts.split_once(' ').expect("two counts");
        assert_ne!(accepted, "0", "{name}: every input is refused, so that the format is hardly read");
        figures.push(inputs.parse::<usize>().unwrap());
    }
    let (inputs, formats) = (figures.iter().sum::<usize>(), figures.len());
    kept(4, format_args!("0 panics, hangs and floods in {inputs} inputs of {formats} formats"));
}

/// The work of a process that the test above starts; otherwise nothing.
#[test]
fn a_format_that_is_asked_for() {
    let Ok(name) = env::var(FORMAT) else { return };
    let format = FORMATS.iter().find(|format| format.name == name).expect("a format's name");
    let (entries, mut read) = (corpus(&name), (format.reader)());
    let mutations = tries(3000, 60_000) / entries.len();
    let (mut inputs, mut accepted) = (0, 0);
    thread::spawn(watch);
    for (path, entry) in &entries {
        for number in 0..=mutations {
            let input = if number == 0 { entry.clone() } else { mutated(entry, number as u64) };
            let what = format!("{}, mutation {number}", path.display());
            *NOW.lock().unwrap() = Some((Instant::now(), what.clone()));
            let before = resident("VmRSS:");
            // Resets the peak. Where that is not allowed, the peak is of all inputs so far, and the check is stricter.
            let _ = fs::write("/proc/self/clear_refs", "5");
            let outcome = catch_unwind(AssertUnwindSafe(|| read(&input)));
            let taken = resident("VmHWM:").saturating_sub(before);
            match outcome {
                Ok(read) => accepted += usize::from(read),
                Err(_) => panic!("{what}: a panic; {}", kept_input(&input)),
            }
            let most = 2 * input.len() + ROOM;
            assert!(taken <= most, "{what}: {taken} bytes of memory, more than {most}; {}", kept_input(&input));
            inputs += 1;
        }
    }
    *NOW.lock().unwrap() = None;
    println!("inputs and accepted: {inputs} {accepted}");
}

/// The input being read, and since when.
static NOW: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// Ends the process when an input takes too long.
fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        if let Some((since, what)) = &*NOW.lock().unwrap()
            && since.elapsed() > PATIENCE
        {
            eprintln!("{what}: still being read after {PATIENCE:?}");
            process::exit(3);
        }
    }
}

/// A line of the process's status, in bytes; 0 where the system has none.
fn resident(line: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    found.and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok()).map_or(0, |kib| kib << 10)
}

/// The input as a file for `fuzz/`, and where it lies.
fn kept_input(input: &[u8]) -> String {
    let path = env::temp_dir().join(format!("mlpconv-hostile-{}", process::id()));
    match fs::write(&path, input) {
        Ok(()) => format!("the input is {}", path.display()),
        Err(error) => format!("the input cannot be kept: {error}"),
    }
}

/// The committed inputs of a format, in the order of their names.
fn corpus(format: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(format);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Numbers that lengths, counts and offsets go wrong at.
const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX];

/// A few changes of an input, chosen by `seed` alone: bits, bytes, numbers of both byte orders and in decimal, and
/// pieces that are cut out, repeated or moved.
fn mutated(entry: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut below = |bound: usize| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound.max(1) as u64) as usize
    };
    let mut input = entry.to_vec();
    for _ in 0..=below(4) {
        let at = below(input.len() + 1);
        let end = (at + 1 + below(16)).min(input.len());
        let number = NUMBERS[below(NUMBERS.len())];
        match below(8) {
            0 if at < input.len() => input[at] ^= 1 << below(8),
            1 if at < input.len() => input[at] = below(256) as u8,
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                let to = below(input.len() + 1);
                drop(input.splice(to..to, piece));
            }
            5 => {
                let size = [1, 2, 4, 8][below(4)];
                let bytes = if below(2) == 0 {
                    number.to_le_bytes()[..size].to_vec()
                } else {
                    number.to_be_bytes()[8 - size..].to_vec()
                };
                let end = (at + size).min(input.len());
                drop(input.splice(at..end, bytes));
            }
            6 => {
                // The next decimal number becomes another.
                let digit = |byte: &u8| byte.is_ascii_digit();
                let start = at + input[at..].iter().position(digit).unwrap_or(input.len() - at);
                let end = start + input[start..].iter().take_while(|byte| digit(byte)).count();
                drop(input.splice(start..end, number.to_string().into_bytes()));
            }
            _ => drop(input.splice(at..at, vec![below(256) as u8; 1 + below(64)])),
        }
    }
    input
}

#[test]
fn hostile_values_of_options_are_refused() {
    let Some(place) = Place::new() else { return };
    for line in [
        "--epochs 4294967296",
        "--epochs -1",
        "--batch-size 18446744073709551616",
        "--batch-size 18446744073709551615",
        "--resize 18446744073709551615",
        "--lr 1e999",
        "--lr -0",
        "--seed -1",
        "--threads 18446744073709551615",
        "--train-limit -5",
        "--schedule step:0:1",
        "--schedule step:1:nan",
        "--schedule cosine:inf",
        "--schedule step:99999999999:1",
        "--data /dev/null",
        "--data /proc/self/mem",
        "--data-dir /dev/zero",
        "--resume /dev/null",
        "--device cuda:99999999999999999999",
    ] {
        place.train(line).bad(&[]);
    }
}
