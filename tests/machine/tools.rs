//! ptxas, which makes machine code of PTX, and nvdisasm, which shows it.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, thread};

use mlpconv::Precision;
use mlpconv::device::cuda::{Ptx, ptx};

use crate::gpus::GPUS;

/// Both programs.
pub struct Tools {
    ptxas: PathBuf,
    nvdisasm: PathBuf,
}

/// PTX, compiled for a GPU.
pub struct Compiled {
    pub ptx: Ptx,
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
        let ptx = ptx(Precision::Fp32).next().expect("modules").text().expect("PTX");
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
        let mut units: Vec<(Ptx, usize)> = Precision::ALL
            .into_iter()
            .flat_map(ptx)
            .flat_map(|ptx| (0..GPUS.len()).map(move |on| (ptx, on)))
            .filter(|(ptx, on)| gpus(*on) && ptx.architecture.runs_on(GPUS[*on].capability))
            .collect();
        units.sort_by_key(|(ptx, _)| ptx.architecture);
        // The largest units take longest and go first.
        let mut order: Vec<usize> = (0..units.len()).collect();
        let texts: Vec<String> = units.iter().map(|(ptx, _)| ptx.text().expect("PTX")).collect();
        order.sort_by_key(|&unit| Reverse(texts[unit].len()));
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(&unit) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (ptx, on) = units[unit];
                done.push((unit, self.unit(ptx, &texts[unit], on)));
            }
            done
        };
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut done: Vec<(usize, Compiled)> = thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("ptxas takes our PTX")).collect()
        });
        done.sort_by_key(|(unit, _)| *unit);
        done.into_iter().map(|(_, compiled)| compiled).collect()
    }

    fn unit(&self, ptx: Ptx, text: &str, on: usize) -> Compiled {
        let Ptx { module, precision, architecture, .. } = ptx;
        let target = if architecture.specific { format!("sm_{architecture}") } else { GPUS[on].name() };
        let cubin = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new(&self.ptxas);
        command.args(["-v", "-arch", &target, "-", "-o"]).arg(cubin.path());
        let output = run(&mut command, text).expect("ptxas starts");
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{module} at {precision} for {target}: {report}");
        let output = Command::new(&self.nvdisasm).arg("-json").arg(cubin.path()).output().expect("nvdisasm starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{module} at {precision} for {target}: {said}");
        let code = serde_json::from_slice(&output.stdout).expect("nvdisasm writes JSON");
        Compiled { ptx, on, report, code }
    }
}

fn run(command: &mut Command, text: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // A write fails if ptxas refuses the text and exits: its report says why.
    let _ = io::Write::write_all(&mut child.stdin.take().expect("a pipe"), text.as_bytes());
    child.wait_with_output()
}

fn find(program: &str) -> Result<PathBuf, String> {
    let beside = env::var_os("NVCC").map(|nvcc| Path::new(&nvcc).with_file_name(program));
    let pythons = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/target/nvcc/lib")).into_iter().flatten().flatten();
    let installed = pythons.map(|python| python.path().join("site-packages/nvidia/cu13/bin").join(program));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join(program)).collect();
    let mut candidates = beside.into_iter().chain(installed).chain(on_path);
    let found = candidates.find(|path| path.is_file() && path.file_name() == Some(OsStr::new(program)));
    found.ok_or_else(|| format!("there is no {program} beside $NVCC, in target/nvcc or on PATH; `make test` gets it"))
}
