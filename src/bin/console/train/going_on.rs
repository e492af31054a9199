//! The way to go on with a run that was interrupted.

use std::path::Path;

use super::options::TrainArgs;
use crate::console::saving::SaveEvery;

/// The command that goes on with the run, as a shell takes it: this program, and the options that a run folder does not
/// keep.
pub fn resumption(args: &TrainArgs, folder: &Path) -> String {
    let program = match std::env::var_os("CARGO") {
        Some(_) => ["cargo", "run", "--release", "--bin", "train", "--"].map(str::to_owned).to_vec(),
        None => {
            let mut words = std::env::args();
            let program = words.next().unwrap_or_else(|| "mlpconv".into());
            // `mlpconv` is followed by its command, `train` by options.
            let command = words.next().filter(|word| word == "train");
            [program].into_iter().chain(command).collect()
        }
    };
    let mut words = program;
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [format!("--{name}"), value]));
    };
    option("resume", Some(folder.display().to_string()));
    // Of a new run the folder keeps the device and the precision.
    if args.resume.is_some() {
        option("device", args.device.device.clone());
        option("precision", args.device.precision.map(|precision| precision.to_string()));
    }
    option("threads", args.device.threads.map(|threads| threads.to_string()));
    option("log-every", args.log_every.map(|steps| steps.to_string()));
    option(
        "save-every",
        Some(args.save_every).filter(|every| *every != SaveEvery::default()).map(|every| every.to_string()),
    );
    let quote = |word: &String| shlex::try_quote(word).map_or_else(|_| word.clone(), |quoted| quoted.into_owned());
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
