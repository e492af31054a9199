//! ptxas, which makes machine code of PTX, and nvdisasm, which shows it.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs, io};

use mlpconv::Precision;
use mlpconv::device::cuda::{Unit, units};
use rayon::iter::{ParallelBridge as _, ParallelIterator as _};

use crate::gpus::{GPUS, HOPPER};

/// The programs.
pub struct Tools {
    ptxas: PathBuf,
    nvdisasm: PathBuf,
}

/// A kernel file at one precision.
type Part = (Unit, Precision);

fn parts() -> impl Iterator<Item = Part> {
    let all = Precision::ALL.into_iter().flat_map(|precision| units().map(move |unit| (unit, precision)));
    all.filter(|(unit, precision)| unit.precisions.contains(precision))
}

/// What a unit is compiled for, for one of [`GPUS`].
fn target(unit: &Unit, on: usize) -> String {
    if unit.architecture.specific { format!("sm_{}", unit.architecture) } else { GPUS[on].name() }
}

fn text((unit, precision): &Part) -> String {
    unit.ptx(*precision).expect("PTX")
}

/// PTX, compiled for a GPU.
pub struct Compiled {
    pub unit: Unit,
    pub precision: Precision,
    /// The index in [`GPUS`].
    pub on: usize,
    /// What `ptxas -v` says.
    pub report: String,
    /// What `nvdisasm -json` says.
    pub code: serde_json::Value,
}

impl Tools {
    /// The programs beside `$NVCC`, else where `make test` installs them, else on PATH; the error names what is missing.
    pub fn find() -> Result<Self, String> {
        Ok(Tools { ptxas: find("ptxas")?, nvdisasm: find("nvdisasm")? })
    }

    /// The versions of ptxas and of the nvcc that made the PTX.
    pub fn versions(&self) -> String {
        let ptx = units().next().expect("modules").ptx(Precision::Fp32).expect("PTX");
        let nvcc = ptx.lines().find_map(|line| line.split_once(", V")).expect("nvcc tells its version").1.to_owned();
        format!("ptxas {}, of PTX by nvcc {nvcc}.", self.ptxas())
    }

    fn ptxas(&self) -> String {
        let output = Command::new(&self.ptxas).arg("--version").output().expect("ptxas starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find_map(|line| line.split_once(", V")).expect("ptxas tells its version").1.to_owned()
    }

    /// This build's PTX, compiled for the chosen of [`GPUS`], as many units at a time as there are cores. If several
    /// architectures have a kernel, the GPU prefers the last one.
    pub fn compile(&self, gpus: impl Fn(usize) -> bool) -> Vec<Compiled> {
        let mut parts: Vec<(Part, usize)> = parts()
            .flat_map(|part| (0..GPUS.len()).map(move |on| (part, on)))
            .filter(|((unit, _), on)| gpus(*on) && unit.architecture.runs_on(GPUS[*on].capability))
            .collect();
        parts.sort_by_key(|((unit, _), _)| unit.architecture);
        let texts: Vec<String> = parts.iter().map(|(part, _)| text(part)).collect();
        let mut done = side_by_side(&texts, |index| {
            let (part, on) = parts[index];
            self.compile_part(part, &texts[index], on)
        });
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, compiled)| compiled).collect()
    }

    /// What the ptxas of CUDA 12.0 has against the PTX, each in a line. It does not survive the lines of inlined
    /// functions on sm_90 (that of 12.1 does), so it gets the PTX as a release build has it, without lines.
    pub fn refused_by_oldest(ptxas: &Path) -> Vec<String> {
        let parts: Vec<Part> = parts().collect();
        let without_lines = |text: String| -> String {
            text.split_inclusive('\n').filter(|line| !line.trim_start().starts_with(".loc")).collect()
        };
        let texts: Vec<String> = parts.iter().map(|part| without_lines(text(part))).collect();
        let refused = side_by_side(&texts, |index| {
            let mut command = Command::new(ptxas);
            let (unit, precision) = parts[index];
            command.args(["-arch", &target(&unit, HOPPER), "-", "-o", "/dev/null"]);
            let output = run(&mut command, &texts[index]).expect("ptxas starts");
            let module = unit.module;
            let said = String::from_utf8_lossy(&output.stderr);
            (!output.status.success()).then(|| format!("{module} at {precision}: {}, {said}", output.status))
        });
        refused.into_iter().filter_map(|(_, refused)| refused).collect()
    }

    fn compile_part(&self, (unit, precision): Part, text: &str, on: usize) -> Compiled {
        let (module, target) = (unit.module, target(&unit, on));
        let cubin = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new(&self.ptxas);
        command.args(["-v", "-arch", &target, "-", "-o"]).arg(cubin.path());
        let output = run(&mut command, text).expect("ptxas starts");
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{module} at {precision} for {target}: {report}");
        // Where it cannot follow the products of warpgroups, ptxas adds fences and waits, or lets each wait for the one before.
        let repaired = ["wgmma", "warpgroup", "GMMA"].iter().any(|word| report.contains(word));
        assert!(!repaired, "{module} at {precision} for {target}: {report}");
        let output = Command::new(&self.nvdisasm).arg("-json").arg(cubin.path()).output().expect("nvdisasm starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{module} at {precision} for {target}: {said}");
        let code = serde_json::from_slice(&output.stdout).expect("nvdisasm writes JSON");
        Compiled { unit, precision, on, report, code }
    }
}

/// Does `work` for the index of each text, as many at a time as there are cores. The largest take longest and go first.
fn side_by_side<T: Send>(texts: &[String], work: impl Fn(usize) -> T + Sync) -> Vec<(usize, T)> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&index| Reverse(texts[index].len()));
    // Threads take the indices from the bridge one by one: splitting the list would begin in its middle as well.
    order.into_iter().par_bridge().map(|index| (index, work(index))).collect()
}

fn run(command: &mut Command, text: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // A write fails if ptxas refuses the text and exits: its report says why.
    let _ = io::Write::write_all(&mut child.stdin.take().expect("a pipe"), text.as_bytes());
    child.wait_with_output()
}

fn find(program: &str) -> Result<PathBuf, String> {
    let beside = env::var_os("NVCC").map(|nvcc| Path::new(&nvcc).with_file_name(program));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join(program)).collect();
    let mut candidates = beside.into_iter().chain(installed("cu13", program)).chain(on_path);
    let found = candidates.find(|path| path.is_file() && path.file_name() == Some(OsStr::new(program)));
    found.ok_or_else(|| format!("there is no {program} beside $NVCC, in target/nvcc or on PATH; `make test` gets it"))
}

/// A program of one of NVIDIA's packages that `make test` installs.
pub fn installed(package: &str, program: &str) -> Option<PathBuf> {
    let pythons = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/target/nvcc/lib")).into_iter().flatten().flatten();
    let folder = |python: fs::DirEntry| python.path().join("site-packages/nvidia").join(package).join("bin");
    pythons.map(|python| folder(python).join(program)).find(|path| path.is_file())
}
