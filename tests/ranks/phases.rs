//! A rank that dies at each phase of a step, in the evaluation, and in a save: the others end within seconds, and the run goes on to
//! the bits of one that nothing disturbed.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mlpconv::Cpu;
use mlpconv::nn::{Module, Nin};
use mlpconv::train::{Event, Run, TrainConfig, Trainer, restore};
use serde::{Deserialize, Serialize};

use crate::faulty::Faulty;
use crate::processes::{self, Done, Team};
use crate::team::{config, division, loaders};

/// What a rank is to do.
#[derive(Clone, Serialize, Deserialize)]
struct Task {
    folder: PathBuf,
    /// The rank that dies, and where it does.
    death: Option<(usize, Death)>,
}

/// Where a rank dies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Death {
    /// In the third step, at this kernel of it.
    Step(usize),
    /// In the evaluation after the first epoch.
    Evaluation,
    /// While it saves: between the first byte and the rename.
    Save,
}

/// The kernels of a step, in their order.
const KERNELS: [&str; 9] = [
    "conv2d forward",
    "cross_entropy forward",
    "conv2d parameter",
    "shard_pack",
    "all_gather",
    "complete, before",
    "complete, after",
    "shard_count",
    "sgd",
];

#[test]
#[ignore = "a rank, which the other test of this file starts"]
fn rank() {
    let task: Task = processes::task();
    let group = processes::group(None);
    let rank = group.as_ref().map_or(0, |group| group.rank());
    let death = task.death.filter(|(who, _)| *who == rank).map(|(_, death)| death);
    let config = TrainConfig { epochs: 2, shards: 4, ..config() };
    let backend = Faulty::new(Cpu::with_threads(1).unwrap(), false);
    let net = Nin::small(&backend, config.seed).unwrap();
    let mut trainer: Trainer<_, _> = config.trainer(&backend, net).unwrap();
    let path = task.folder.join("run");
    let mut run = (rank == 0).then(|| match path.exists() {
        true => Run::resume(&path).unwrap(),
        false => Run::create(&path, config.clone()).unwrap(),
    });
    if let Some(run) = &mut run {
        run.restore(&mut trainer).unwrap();
        run.save(&trainer).unwrap();
    }
    if let Some(group) = &group {
        let state = run.as_ref().map(|run| run.state_bytes().unwrap().unwrap());
        let state = group.broadcast(state.as_deref()).unwrap();
        restore(&state, "of rank 0", &mut trainer).unwrap();
    }
    trainer.divide(&division(&config), group.as_ref()).unwrap();
    let [train, test] = loaders(&config, group.as_ref());
    let ended = trainer.fit(&train, &test, &config.fit_options(1), &mut |trainer, event| {
        let last = matches!(&event, Event::Step { position, steps, .. } if position.step as usize == *steps);
        match (death, &event) {
            (Some(Death::Step(kernel)), Event::Step { position, .. }) if position.step == 2 => {
                backend.kill(KERNELS[kernel]);
            }
            (Some(Death::Evaluation), Event::Step { .. }) if last => backend.kill("conv2d forward"),
            (Some(Death::Save), Event::Step { position, .. }) if position.step == 2 => die_in_a_save(&path),
            _ => {}
        }
        if let (Some(run), Event::Epoch { metrics, .. }) = (&mut run, &event) {
            run.append(metrics)?;
        }
        if let (Some(run), Event::Step { .. } | Event::Epoch { .. }) = (&mut run, &event) {
            run.save(trainer)?;
        }
        Ok(ControlFlow::Continue(()))
    });
    let error = ended.err().map(|error| error.to_string());
    if let Some(run) = &mut run {
        run.save(&trainer).unwrap();
    }
    let params = trainer.net.params().into_iter();
    let weights = params.flat_map(|(_, param)| param.data().iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    let position = (trainer.position.epoch, trainer.position.step);
    let done = Done { weights: weights.collect(), epochs: Vec::new(), position, error };
    done.write(&task.folder, group.as_deref());
}

/// Ends this process as soon as a part of a file is in the folder.
fn die_in_a_save(folder: &Path) {
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        loop {
            let names = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name());
            if names.into_iter().any(|name| name.to_string_lossy().ends_with(".part")) {
                std::process::abort();
            }
        }
    });
}

#[test]
fn a_rank_that_dies_anywhere_ends_the_others_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let task = |name: &str, death| {
        let folder = folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        Task { folder, death }
    };
    let whole = task("whole", None);
    let whole = Team::start("phases::rank", 1, &whole, &[]).wait(&whole.folder).remove(0).1.unwrap();
    let steps = (0..KERNELS.len()).map(Death::Step);
    // Rank 0 has the run folder, rank 2 is one of those that follow.
    let deaths = steps.chain([Death::Evaluation]).enumerate().map(|(at, death)| (at % 2 * 2, death));
    for (victim, death) in deaths.chain([(0, Death::Save)]) {
        let name = format!("{death:?} of rank {victim}");
        let task = task(&name, Some((victim, death)));
        let began = Instant::now();
        let left = Team::start("phases::rank", 3, &task, &[]).wait(&task.folder);
        // All that is before the death takes less than a second.
        assert!(began.elapsed() < Duration::from_secs(10), "{name}: {:?}", began.elapsed());
        for (rank, (code, done)) in left.iter().enumerate() {
            if rank == victim {
                assert!(done.is_none() && *code != Some(0), "{name}: it lives");
                continue;
            }
            let done = done.as_ref().unwrap_or_else(|| panic!("{name}: rank {rank} ended with {code:?}"));
            let error = done.error.as_deref().unwrap_or("no error");
            assert!(error.starts_with(&format!("rank {victim} is lost")), "{name}: rank {rank}: {error}");
            // A rank that has all that was sent may have done the step.
            let step = done.position.0 * 3 + done.position.1;
            assert!((2..=3).contains(&step), "{name}: rank {rank} at {:?}", done.position);
        }
        let again = Task { death: None, ..task };
        for (_, done) in Team::start("phases::rank", 2, &again, &[]).wait(&again.folder) {
            let done = done.expect("it ends in order");
            assert_eq!(done.error, None, "{name}");
            assert!(done.weights == whole.weights, "{name}");
        }
    }
}
