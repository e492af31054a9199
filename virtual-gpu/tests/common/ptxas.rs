//! NVIDIA's compiler for PTX, which checks without a card that a driver would accept a test's text.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler, from the place where `make test` installs it, or from the search path.
pub fn ptxas() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let installed = std::fs::read_dir(root.join("target/nvcc/lib")).into_iter().flatten().flatten();
    let installed = installed.map(|python| python.path().join("site-packages/nvidia/cu13/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    installed.chain(std::env::split_paths(&path)).map(|folder| folder.join("ptxas")).find(|ptxas| ptxas.exists())
}

/// The compiler's errors, each with the line it refers to.
pub fn complaints(text: &str, log: &[u8]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let with_line = |error: &str| {
        let number: Option<usize> = error
            .split_once("line ")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        format!("{error}\n    {}\n", number.and_then(|n| lines.get(n - 1)).unwrap_or(&""))
    };
    String::from_utf8_lossy(log).lines().map(with_line).collect()
}

/// Checks that ptxas accepts each text for `architecture`.
pub fn accepts(architecture: &str, texts: &[(&str, String)]) {
    let Some(ptxas) = ptxas() else {
        assert!(std::env::var_os("CI").is_none(), "no ptxas: `make test` installs it");
        eprintln!("not tested: there is no ptxas (`make test` installs it)");
        return;
    };
    let folder = std::env::temp_dir().join(format!("virtual-gpu-ptxas-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in texts {
        let path = folder.join(name).with_extension("ptx");
        std::fs::write(&path, text).expect("writes");
        let mut command = Command::new(&ptxas);
        command.args(["-O0", "-arch", architecture, "-o", "/dev/null"]).arg(&path);
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{name} for {architecture}: {}", complaints(text, &output.stderr));
    }
    std::fs::remove_dir_all(&folder).expect("ours");
}
