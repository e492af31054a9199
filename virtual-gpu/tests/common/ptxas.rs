//! NVIDIA's compiler for PTX, which checks without a card that a driver would accept a test's text.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The compiler, from the place where `make test` installs it, or from the search path.
fn ptxas() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let installed = std::fs::read_dir(root.join("target/nvcc/lib")).into_iter().flatten().flatten();
    let installed = installed.map(|python| python.path().join("site-packages/nvidia/cu13/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    installed.chain(std::env::split_paths(&path)).map(|folder| folder.join("ptxas")).find(|ptxas| ptxas.exists())
}

/// The compiler's errors, each with the line it refers to.
fn complaints(text: &str, log: &[u8]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let with_line = |error: &str| {
        let number: Option<usize> = error
            .split_once("line ")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        format!("{error}\n    {}\n", number.and_then(|n| lines.get(n - 1)).unwrap_or(&""))
    };
    String::from_utf8_lossy(log).lines().map(with_line).collect()
}

/// A text for the compiler.
pub struct Text<'a> {
    pub name: &'a str,
    pub architecture: &'a str,
    pub ptx: &'a str,
    /// Whether the compiler has to accept it, or else to refuse it.
    pub accepted: bool,
}

/// Checks that ptxas accepts each text for `architecture`.
pub fn accepts(architecture: &str, texts: &[(&str, String)]) {
    let texts = texts.iter().map(|(name, ptx)| Text { name, architecture, ptx, accepted: true });
    judges(&texts.collect::<Vec<_>>());
}

/// Checks that ptxas accepts and refuses the texts as it has to. It compiles all of them at a time. Without ptxas nothing is
/// checked, and under CI that is a failure.
pub fn judges(texts: &[Text<'_>]) {
    let Some(ptxas) = ptxas() else {
        assert!(std::env::var_os("CI").is_none(), "no ptxas: `make test` installs it");
        eprintln!("not tested: there is no ptxas (`make test` installs it)");
        return;
    };
    let folder = std::env::temp_dir().join(format!("virtual-gpu-ptxas-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut running = Vec::new();
    for text in texts {
        let path = folder.join(format!("{}-{}.ptx", text.name, text.architecture));
        std::fs::write(&path, text.ptx).expect("writes");
        let mut command = Command::new(&ptxas);
        command.args(["-O0", "-arch", text.architecture, "-o", "/dev/null"]).arg(&path).stderr(Stdio::piped());
        running.push((text, command.spawn().expect("runs")));
    }
    let mut wrong = Vec::new();
    for (&Text { name, architecture, ptx, accepted }, compiler) in running {
        let output = compiler.wait_with_output().expect("ends");
        match (output.status.success(), accepted) {
            (true, false) => wrong.push(format!("{name} for {architecture} is accepted\n{ptx}")),
            (false, true) => wrong.push(format!("{name} for {architecture}: {}", complaints(ptx, &output.stderr))),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    std::fs::remove_dir_all(&folder).expect("ours");
}
