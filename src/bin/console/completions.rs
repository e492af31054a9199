//! `mlpconv completions`: scripts with which shells complete commands and options.

use clap::Command;
use clap_complete::{Shell, generate};

use super::say;

/// Prints the script for a shell.
pub fn print(shell: Shell, mut program: Command) {
    let mut script = Vec::new();
    let name = program.get_name().to_owned();
    generate(shell, &mut program, name, &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
}
