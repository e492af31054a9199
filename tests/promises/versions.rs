//! Promise 12. Run files of older versions load, newer ones are refused by name.
//!
//! `tests/fixtures/versions/FORMAT/OPTIMIZER` is a run that really was written by the version whose state files have this
//! format. When the format changes, write one more before the change is committed:
//! `MLPCONV_WRITE_VERSION=tests/fixtures/versions/FORMAT cargo test --test promises versions`.

use std::path::Path;
use std::{env, fs};

use mlpconv::nn::Module as _;
use mlpconv::optim::OptimizerKind;
use mlpconv::train::{Position, Run};
use mlpconv::weights::Tensors;
use mlpconv::{Error, weights};
use tempfile::TempDir;

use super::own_net::{Standing, config, go_on, trainer, write_run};
use super::promise::kept;
use super::tiny::copy;

/// The newest format.
const NEWEST: u32 = 3;

#[test]
fn files_of_every_version_go_on_to_the_same_end() {
    if let Some(folder) = env::var_os("MLPCONV_WRITE_VERSION") {
        for kind in OptimizerKind::ALL {
            let folder = Path::new(&folder).join(kind.to_string());
            write_run(&folder, kind);
            fs::remove_file(folder.join(".lock")).unwrap();
        }
        return;
    }
    let versions = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/versions"));
    for (format, kind) in (1..=NEWEST).flat_map(|format| OptimizerKind::ALL.map(|kind| (format, kind))) {
        let place = TempDir::new().unwrap();
        let (whole, old) = (place.path().join("whole"), place.path().join("old"));
        copy(&versions.join(format.to_string()).join(kind.to_string()), &old);

        let config = config(kind);
        let mut expected = trainer(&config);
        go_on(&mut Run::create(whole, config).unwrap(), &mut expected, None).unwrap();

        let mut run = Run::resume(&old).unwrap();
        let warned = run.warnings.iter().any(|warning| warning.contains("no checksum"));
        assert_eq!(warned, format == 1, "{:?}", run.warnings);
        let mut resumed = trainer(run.config());
        run.restore(&mut resumed).unwrap();
        assert_eq!(resumed.position, Position { epoch: 1, step: 1 });
        // The weights file has the same parameters, to the bit.
        let mut evaluated = trainer(run.config());
        weights::load(&evaluated.backend.clone(), &mut evaluated.net, run.weights()).unwrap();
        for ((name, restored), (_, loaded)) in resumed.net.params().into_iter().zip(evaluated.net.params()) {
            assert!(restored.data()[..] == loaded.data()[..], "format {format}, {kind}: {name}");
        }
        go_on(&mut run, &mut resumed, None).unwrap();
        run.save(&resumed).unwrap();

        // The files come from another machine, whose sums of products may round otherwise.
        let (resumed, expected) = (Standing::of(&resumed), Standing::of(&expected));
        for ((name, got), (_, expected)) in resumed.tensors.iter().zip(&expected.tensors) {
            let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            assert_eq!(got.len(), expected.len(), "{name}");
            for (got, expected) in got.iter().zip(expected) {
                assert!(
                    (got - expected).abs() <= 1e-3 * largest,
                    "format {format}, {kind}, {name}: {got}, not {expected}"
                );
            }
        }
        drop(run);
        // Now it is of the newest format.
        let run = Run::resume(&old).unwrap();
        assert_eq!((&run.warnings[..], run.metrics().unwrap().len()), (&[][..], 2));
    }
    kept(
        12,
        format!("{} runs of formats 1 to {NEWEST} go on to the same end", NEWEST as usize * OptimizerKind::ALL.len()),
    );
}

#[test]
fn files_of_a_newer_version_are_refused_by_name() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("run");
    write_run(&folder, OptimizerKind::Sgd);
    let path = folder.join("state.safetensors");
    let mut tensors = Tensors::load(&path).unwrap();
    let newer = NEWEST + 1;
    let (present, newer_note) = (format!("\"format\":{NEWEST}"), format!("\"format\":{newer},\"novel\":[]"));
    let note = tensors.note().unwrap().replacen(&present, &newer_note, 1);
    tensors.set_note(note);
    tensors.save(&path).unwrap();
    match Run::resume(&folder).unwrap_err() {
        Error::Weights { path: named, problem } => {
            assert_eq!(named, path);
            assert!(problem.contains(&format!("format {newer}, of a newer version")), "{problem}");
        }
        error => panic!("{error}"),
    }

    let path = folder.join("config.toml");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "novel = 1\n").unwrap();
    let problem = Run::open(&folder).unwrap_err().to_string();
    assert!(problem.contains("config.toml") && problem.contains("novel"), "{problem}");
}
