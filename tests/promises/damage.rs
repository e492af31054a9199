//! Promise 3. A damaged file is refused, or changes nothing.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use mlpconv::optim::OptimizerKind;
use mlpconv::train::{Run, TrainConfig};
use mlpconv::{Result, weights};
use tempfile::TempDir;

use super::chance::Chance;
use super::own_net::{Standing, trainer, write_run};
use super::place::names;
use super::promise::{kept, tries};

/// What a run folder gives to who goes on with it, and to who looks at its last or its best weights.
#[derive(PartialEq)]
struct Given {
    config: TrainConfig,
    standing: Standing,
    /// Without the times, which are not results.
    metrics: Vec<String>,
    weights: Standing,
    best: Standing,
}

fn given(folder: &Path) -> Result<Given> {
    let mut run = Run::resume(folder)?;
    let config = run.config().clone();
    let mut resumed = trainer(&config);
    run.restore(&mut resumed)?;
    let metrics = run.metrics()?.iter().map(|metrics| format!("{metrics:?}")).collect();
    drop(run);
    let run = Run::open(folder)?;
    run.best()?;
    let [weights, best]: [Result<Standing>; 2] = [run.weights(), run.best_weights()].map(|file| {
        let mut evaluated = trainer(run.config());
        weights::load(&evaluated.backend.clone(), &mut evaluated.net, file)?;
        Ok(Standing::of(&evaluated))
    });
    Ok(Given { config, standing: Standing::of(&resumed), metrics, weights: weights?, best: best? })
}

/// The number of damages tried, and of those that were refused.
#[derive(Default)]
struct Tried {
    all: usize,
    refused: usize,
}

impl Tried {
    /// Puts `damaged` in the place of a file, and looks whether the folder is refused or gives the same as before.
    fn damage(
        &mut self,
        folder: &Path,
        expected: &Given,
        good: &[(String, Vec<u8>)],
        name: &str,
        damaged: &[u8],
        what: &str,
    ) {
        fs::write(folder.join(name), damaged).unwrap();
        self.all += 1;
        match catch_unwind(|| given(folder)) {
            Err(_) => panic!("{name} with {what}: a panic"),
            Ok(Err(error)) => {
                let error = error.to_string();
                assert!(error.contains(folder.to_str().unwrap()), "{name} with {what}: {error}");
                self.refused += 1;
            }
            Ok(Ok(given)) => assert!(given == *expected, "{name} with {what} is accepted and changes the result"),
        }
        // A refusal changes nothing; metrics that are written anew are the good ones.
        for (other, bytes) in good.iter().filter(|(other, _)| other != name && other != ".lock") {
            assert!(fs::read(folder.join(other)).unwrap() == *bytes, "{name} with {what} changes {other}");
        }
        let bytes = &good.iter().find(|(other, _)| other == name).unwrap().1;
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Every bit and every length of every file; under the short form one in 41 of them.
#[test]
fn every_damaged_bit_and_every_truncation_is_refused_or_changes_nothing() {
    let (mut bits, mut lengths) = (Tried::default(), Tried::default());
    for kind in OptimizerKind::ALL {
        // In memory where there is such a folder: disks take their time for every file that is overwritten.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let folder = place.path().join("run");
        write_run(&folder, kind);
        let good: Vec<_> =
            names(&folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect();
        let expected = given(&folder).unwrap();
        // A prime, so that the short form meets every place in a byte.
        let step = tries(41, 1);
        for (name, bytes) in &good {
            for bit in (0..8 * bytes.len()).step_by(step) {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                bits.damage(&folder, &expected, &good, name, &damaged, &format!("bit {bit} flipped"));
            }
            for length in (0..bytes.len()).step_by(step) {
                lengths.damage(&folder, &expected, &good, name, &bytes[..length], &format!("{length} bytes"));
            }
        }
    }
    assert!(bits.refused * 2 > bits.all && lengths.refused * 2 > lengths.all, "most of a run's bytes are its state");
    kept(
        3,
        format!(
            "{} flipped bits, {} refused; {} truncations, {} refused; no other result from the rest, 0 panics",
            bits.all, bits.refused, lengths.all, lengths.refused
        ),
    );
}

/// The same by the programs, at random, on a run of theirs.
#[cfg(target_os = "linux")]
#[test]
fn the_programs_refuse_flipped_bits_of_states_and_weights() {
    let tiny = super::tiny::Tiny::new(1);
    let mut chance = Chance::new();
    let flips = tries(4, 100);
    for name in ["state.safetensors", "weights.safetensors", "best.safetensors"] {
        let path = tiny.path("whole").join(name);
        let good = fs::read(&path).unwrap();
        for _ in 0..flips {
            // The header's entries for other loaders may change.
            let bit = 8 * (good.len() / 2 + chance.below(good.len() / 2)) + chance.below(8);
            let mut damaged = good.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, damaged).unwrap();
            let said = match name {
                "state.safetensors" => super::place::Finished::of(&mut tiny.resume("whole")),
                "weights.safetensors" => tiny.place.mlpconv("evaluate whole"),
                _ => tiny.place.mlpconv("evaluate whole --best"),
            };
            said.bad(&[name, "do not match its checksum"]);
        }
        fs::write(&path, good).unwrap();
    }
    kept(
        3,
        format!("{flips} flipped bits each of a state, of the last and of the best weights are named by the programs"),
    );
}
