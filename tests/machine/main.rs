//! The kernels' machine code: what ptxas makes of this build's PTX. That of sm_90 is compared with the committed
//! `kernels/measured/sass.csv`; `make sass` writes this table, `SASS.md` and `RESOURCES.md`, for all GPUs.
#![cfg(feature = "cuda")]

/// Instructions, and the pipe of each.
mod code;
/// The GPUs of the tables.
mod gpus;
/// Loops in machine code.
mod main_loop;
/// The blocks of a multiprocessor.
#[path = "../../src/bin/console/model/occupancy.rs"]
mod occupancy;
/// What may be skipped.
#[path = "../required/mod.rs"]
mod required;
/// Registers, shared memory, occupancy.
mod resources;
/// The tables of main loops.
mod sass;
/// ptxas and nvdisasm.
mod tools;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{env, fs};

use mlpconv::device::cuda::missing;

use gpus::HOPPER;
use resources::Resources;
use sass::Row;
use tools::Tools;

const MEASURED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/measured");

/// The compiler's tools. `None` in a build without kernels, or where they are missing, with a note on standard error.
///
/// # Panics
/// As [`required::skip_kernels`] if there are none.
fn found<T>(find: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let tools = match missing() {
        Some(why) => Err(why.to_owned()),
        None => find(),
    };
    let skip = |why: &String| required::skip_kernels(&format!("the machine code cannot be looked at: {why}"));
    tools.inspect_err(skip).ok()
}

#[test]
fn no_kernel_spills_and_no_main_loop_grows() {
    let Some(tools) = found(Tools::find) else { return };
    // The folder that the tables are written to, which are of all GPUs.
    let folder = env::var_os("MLPCONV_SASS").map(PathBuf::from);
    let compiled = tools.compile(|gpu| folder.is_some() || gpu == HOPPER);
    let resources = Resources::of(&compiled);
    let spills = resources.spills();
    assert!(spills.is_empty(), "{}", spills.join("\n"));
    let (rows, version) = (Row::all(&compiled), tools.versions());
    if let Some(folder) = folder {
        let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("the table can be written");
        write("RESOURCES.md", resources.markdown(&version));
        write("SASS.md", sass::markdown(&version, &rows));
        write("sass.csv", sass::csv(&rows));
        return;
    }
    let committed = |name: &str| fs::read_to_string(Path::new(MEASURED).join(name)).expect("a committed table");
    if !committed("SASS.md").contains(&version) {
        let _ = writeln!(io::stderr(), "main loops are not compared: kernels/measured/SASS.md is of another compiler");
        return;
    }
    let grown = sass::grown(&committed("sass.csv"), &rows);
    assert!(grown.is_empty(), "{}\n`make sass` renews kernels/measured", grown.join("\n"));
}

#[test]
fn a_driver_of_cuda_12_0_takes_the_ptx() {
    let ptxas =
        || tools::installed("cuda_nvcc", "ptxas").ok_or("there is no ptxas of CUDA 12.0; `make test` gets it".into());
    let Some(ptxas) = found(ptxas) else { return };
    let refused = Tools::refused_by_oldest(&ptxas);
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
