//! `mlpconv launch`: starts this program several times on this host, as the ranks of one job, and waits for them.

mod forwarding;
mod lines;
mod port;
mod processes;

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use mlpconv::ranks::{Launcher, Place};
use mlpconv::{Error, Result};

use port::Port;
use processes::Processes;

/// The most ranks of one host.
const MOST: usize = 1024;

/// The arguments of `mlpconv launch`.
#[derive(clap::Args)]
pub struct LaunchArgs {
    /// How many ranks to start on this host
    #[arg(short = 'n', long, value_name = "N")]
    ranks: usize,
    /// A command of mlpconv with its options, as in: mlpconv launch -n 4 -- train --preset small
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Starts the ranks. The exit code is that of the first that failed.
///
/// # Errors
/// [`Error::Config`] for a number of ranks that cannot be, within a rank, and for what the system refuses.
pub fn launch(args: &LaunchArgs) -> Result<ExitCode> {
    if !(1..=MOST).contains(&args.ranks) {
        let problem = format!("{} must be between 1 and {MOST}", args.ranks);
        return Err(Error::Config { what: "ranks".into(), problem });
    }
    // The inner shell of an allocation is one rank of Slurm's, and no obstacle.
    if let Some(place) = Place::from_environment()?
        && (place.ranks > 1 || matches!(place.launcher, Launcher::Own | Launcher::Torchrun))
    {
        let Place { rank, ranks, launcher, .. } = place;
        let problem = format!(
            "this process is rank {rank} of {ranks} already, started by {launcher}; start the command itself, or unset RANK and WORLD_SIZE"
        );
        return Err(Error::Config { what: "launch".into(), problem });
    }
    let port = Port::free().map_err(refused("find a free port"))?;
    let program = env::current_exe().map_err(refused("find this program"))?;
    let job = job();
    forwarding::begin();
    let mut processes = Processes::new();
    for rank in 0..args.ranks {
        let mut command = Command::new(&program);
        command.args(&args.command);
        let numbers =
            [("RANK", rank), ("WORLD_SIZE", args.ranks), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", args.ranks)];
        command.envs(numbers.map(|(name, number)| (name, number.to_string())));
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.number().to_string());
        command.env("MLPCONV_LAUNCH", &job);
        if rank > 0 {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        if let Err(error) = processes.start(command) {
            processes.kill();
            return Err(refused("start a rank")(error));
        }
    }
    Ok(ExitCode::from(processes.wait()))
}

/// What tells this job from others.
fn job() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{}", std::process::id(), since.as_nanos())
}

fn refused(action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::Config { what: "launch".into(), problem: format!("cannot {action}: {error}") }
}
