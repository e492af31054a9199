//! The way to go on with a run that was interrupted.

use std::path::Path;

use super::options::TrainArgs;

/// The command that goes on with the run, as a shell takes it: this program, and the options that a run folder does not
/// keep, as they were given.
pub fn resumption(args: &TrainArgs, folder: &Path) -> String {
    let mut words = match std::env::var_os("CARGO") {
        Some(_) => ["cargo", "run", "--release", "--bin", "train", "--"].map(str::to_owned).to_vec(),
        None => {
            // The command is text: what is not UTF-8 has U+FFFD in its place.
            let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
            let program = words.next().unwrap_or_else(|| "mlpconv".into());
            // `mlpconv` is followed by its command, `train` by options.
            let command = words.next().filter(|word| word == "train");
            [program].into_iter().chain(command).collect()
        }
    };
    words.extend(["--resume".into(), folder.display().to_string()]);
    // Of a new run the folder keeps the device and the precision.
    let resumed = args.run.resume.is_some();
    words.extend(args.device.words(|option| resumed || option == "threads"));
    words.extend(args.process.words(|_| true));
    let quote = |word: &String| shlex::try_quote(word).map_or_else(|_| word.clone(), |quoted| quoted.into_owned());
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
