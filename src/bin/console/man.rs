//! `mlpconv man`: the manual, a page for each command.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use mlpconv::weights::write_whole;
use mlpconv::{Error, Result};

use super::say;

/// Prints all pages, or writes each to a file in `folder`.
///
/// # Errors
/// [`Error::Io`] for a folder or a file that cannot be written.
pub fn man(program: Command, folder: Option<&Path>) -> Result<()> {
    // `help` repeats what the others say.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    collect(&program, &mut pages);
    let Some(folder) = folder else {
        pages.iter().for_each(|(_, page)| say(page.trim_end()));
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|source| Error::Io { action: "create", path: folder.into(), source })?;
    for (name, page) in &pages {
        let path = folder.join(name);
        write_whole(&path, page.as_bytes())?;
        say(path.display());
    }
    Ok(())
}

/// The page of a command and those of the commands below it, each with its file's name.
fn collect(command: &Command, pages: &mut Vec<(String, String)>) {
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text).expect("a vector takes all bytes");
    pages.push((page.get_filename(), String::from_utf8_lossy(&text).into_owned()));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below, pages);
    }
}
