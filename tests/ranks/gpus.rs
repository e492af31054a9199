//! Ranks on GPUs: a process each, with a virtual GPU of its own, joined by `virtual-nccl`. Where `MLPCONV_TESTS=real` they take the
//! machine's GPUs and its NCCL.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mlpconv::data::Share;
use mlpconv::nn::{Module, Nin};
use mlpconv::ops::shards::{AllReduce, Division, Layout, Order};
use mlpconv::optim::{Average, OptimizerKind};
use mlpconv::train::{Event, Resident, Run, TrainConfig, Trainer, restore};
use mlpconv::{Cuda, Device, Precision};
use serde::{Deserialize, Serialize};

use crate::gpu::{library, real};
use crate::processes::{self, Done, Team};
use crate::team::{config, images};

/// The least elements of a bucket: the network here has three, so that a step has as many collectives.
const BUCKET: usize = 900;
const COLLECTIVES: u32 = 3;

/// What a rank is to do.
#[derive(Clone, Serialize, Deserialize)]
struct Task {
    shards: usize,
    /// Whether steps are recorded and replayed.
    record: bool,
    nccl: bool,
    /// The least elements of a bucket.
    bucket: usize,
    /// The step of the first epoch after which rank 1 wishes to stop.
    stop: Option<u32>,
    /// Seconds that a collective may take; rank 1 hangs for longer after the second step.
    patience: Option<u64>,
    /// The state to go on from.
    state: Option<PathBuf>,
    folder: PathBuf,
}

#[test]
#[ignore = "a rank, which the other tests of this file start"]
fn rank() {
    let task: Task = processes::task();
    let group = processes::group(task.patience);
    let rank = group.as_ref().map_or(0, |group| group.rank());
    let cuda = crate::gpu::gpu(Precision::Fp32).unwrap();
    let shards = task.shards;
    // Its counters, moments and average are to go back with a step that is lost.
    let adamw = TrainConfig { optimizer: OptimizerKind::AdamW, momentum: 0.0, nesterov: false, ..config() };
    let average = Average::Tail(0.6);
    let config = TrainConfig { batch_size: 8, shards, resize: 67, learning_rate: 0.005, average, ..adamw };
    let net = Nin::d2l_with_channels(&*cuda, 1, [4, 6, 8], 0.5).unwrap();
    let layout = Layout::new(net.params().iter().map(|(_, param)| param.shape().len()));
    assert_eq!(layout.buckets(BUCKET).len(), COLLECTIVES as usize);
    let mut trainer: Trainer<Cuda, _> = config.trainer(&*cuda, net).unwrap();
    trainer.record = task.record;
    if let Some(state) = &task.state {
        restore(&fs::read(state).unwrap(), "of a test", &mut trainer).unwrap();
    }
    // 19 images: two batches of 8, and one of 3, fewer than shards.
    let [train, test] = [images(19), images(12)];
    let train = config.train_loader(train).unwrap();
    let train = match &group {
        // Each rank holds what it has room for: here every other one its share alone.
        Some(group) if rank % 2 == 1 => {
            let own = Order::new(shards, group.ranks(), rank).unwrap().own();
            Resident::of_share(&*cuda, train.with_share(Share::new(own, shards).unwrap())).unwrap()
        }
        _ => Resident::new(&*cuda, train).unwrap(),
    };
    let test = Resident::new(&*cuda, config.test_loader(test).unwrap()).unwrap();
    let mut epochs = Vec::new();
    let all_reduce = if task.nccl { AllReduce::Nccl } else { AllReduce::Tree };
    let ended = trainer.divide(&Division { shards, all_reduce, bucket: task.bucket }, group.as_ref()).and_then(|()| {
        trainer.fit(&train, &test, &config.fit_options(2), &mut |_, event| {
            if let Event::Epoch { metrics, .. } = &event {
                let numbers = [metrics.loss, metrics.train_accuracy, metrics.test_loss, metrics.test_accuracy];
                epochs.push(numbers.map(f64::to_bits));
            }
            if let (Some(seconds), 1, Event::Step { position, .. }) = (task.patience, rank, &event)
                && (position.epoch, position.step) == (0, 2)
            {
                std::thread::sleep(Duration::from_secs(3 * seconds));
            }
            // Once, and not at the step of a vote.
            let at = |step| matches!(&event, Event::Step { position, .. } if position.step == step);
            let stop = task.stop.is_some_and(|step| rank == 1 && at(step));
            Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    });
    let error = ended.err().map(|error| error.to_string());
    if rank == 0 {
        Run::create(task.folder.join("run"), config).unwrap().save(&trainer).unwrap();
    }
    let bits = |buf| cuda.download(buf).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let weights = trainer.net.params().into_iter().flat_map(|(_, param)| bits(param.data())).collect();
    let position = (trainer.position.epoch, trainer.position.step);
    let done = Done { weights, epochs, position, error };
    done.write(&task.folder, group.as_deref());
}

/// Starts the ranks of a task.
fn start(ranks: usize, task: &Task, variables: &[(&str, &str)]) -> Team {
    let nccl = (!real()).then(|| library("libvirtual_nccl.so").into_os_string().into_string().unwrap());
    let nccl = nccl.as_deref().map(|path| ("MLPCONV_NCCL", path));
    Team::start("gpus::rank", ranks, task, &nccl.into_iter().chain(variables.iter().copied()).collect::<Vec<_>>())
}

fn task(folder: &Path, shards: usize) -> Task {
    Task {
        shards,
        record: true,
        nccl: false,
        bucket: BUCKET,
        stop: None,
        patience: None,
        state: None,
        folder: folder.into(),
    }
}

/// What all ranks of a task have left, which is the same of all.
fn together(ranks: usize, task: &Task, variables: &[(&str, &str)]) -> Done {
    fs::create_dir_all(&task.folder).unwrap();
    let mut left = start(ranks, task, variables).wait(&task.folder).into_iter();
    let (code, first) = left.next().unwrap();
    let first = first.unwrap_or_else(|| panic!("rank 0 ended with {code:?}"));
    assert_eq!(first.error, None);
    for (rank, (code, done)) in left.enumerate() {
        assert_eq!(code, Some(0), "rank {}", rank + 1);
        assert!(done.as_ref() == Some(&first), "rank {} has other bits", rank + 1);
    }
    first
}

/// Whether there are kernels to test.
fn kernels() -> bool {
    crate::gpu::gpu(Precision::Fp32).is_some()
}

#[test]
fn gpus_give_the_same_bits_in_any_number_recorded_or_not_and_in_any_order() {
    if !kernels() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| task(&folder.path().join(name), 8);
    let one = together(1, &at("one"), &[]);
    assert_eq!((one.position, one.epochs.len()), ((2, 0), 2));
    let same = |name: &str, ranks: usize, task: Task, variables: &[(&str, &str)]| {
        assert!(together(ranks, &task, variables) == one, "{name}");
    };
    same("two", 2, at("two"), &[]);
    same("eager", 2, Task { record: false, ..at("eager") }, &[]);
    same("shuffled", 4, at("shuffled"), &[("VIRTUAL_NCCL_ORDER", "shuffled:7"), ("VIRTUAL_NCCL_DELAY", "5")]);
    same("eight", 8, at("eight"), &[]);
    same("one bucket", 2, Task { bucket: usize::MAX, ..at("one bucket") }, &[]);
    same("a bucket each", 4, Task { bucket: 1, ..at("a bucket each") }, &[("VIRTUAL_NCCL_DELAY", "5")]);
    // Rank 1 wishes to stop. Other numbers of ranks go on.
    let stopped = together(3, &Task { stop: Some(2), ..at("stopped") }, &[]);
    assert_eq!(stopped.position, (0, 3), "at the next vote, that of the epoch's last step");
    for ranks in [1, 4] {
        let state = Some(folder.path().join("stopped/run/state.safetensors"));
        let name = format!("on {ranks}");
        same(&name, ranks, Task { state, ..at(&name) }, &[]);
    }
}

/// NCCL's own sums are the same on all ranks, and differ from the tree's by rounding.
#[test]
fn nccl_may_add_by_itself() {
    if !kernels() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Three shards a rank, of which each adds its own first.
    let tree = together(1, &task(&folder.path().join("tree"), 6), &[]);
    let by_itself = Task { nccl: true, ..task(&folder.path().join("nccl"), 6) };
    let sums = together(2, &by_itself, &[("VIRTUAL_NCCL_ORDER", "ring")]);
    let loss = |done: &Done| done.epochs.iter().map(|epoch| f64::from_bits(epoch[0])).collect::<Vec<_>>();
    let close = |a: &f64, b: &f64| (a - b).abs() < 1e-3 * a;
    assert!(loss(&tree).iter().zip(loss(&sums)).all(|(a, b)| close(a, &b)), "{:?} {:?}", loss(&tree), loss(&sums));
}

/// A process that dies in a collective, an error that NCCL reports, and ranks that do not make the same calls: the others end in
/// seconds, with the weights after the last complete step, from which the run goes on to the same bits.
#[test]
fn a_rank_that_fails_ends_the_others_with_the_last_complete_step() {
    if !kernels() || real() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let whole = together(1, &task(&folder.path().join("whole"), 2), &[]);
    // In the second bucket of the last step, in the first of another, and in the last.
    let faults = [("VIRTUAL_NCCL_DIE", "1:16"), ("VIRTUAL_NCCL_ERROR", "1:6"), ("VIRTUAL_NCCL_MISMATCH", "1:11")];
    for (variable, value) in faults {
        let task = task(&folder.path().join(variable), 2);
        fs::create_dir_all(&task.folder).unwrap();
        let began = Instant::now();
        let left = start(2, &task, &[(variable, value)]).wait(&task.folder);
        let done = left[0].1.as_ref().unwrap_or_else(|| panic!("{variable}: rank 0 ended with {:?}", left[0].0));
        let error = done.error.as_ref().unwrap_or_else(|| panic!("{variable}: no error"));
        assert!(error.contains("rank 1") || error.contains("nccl"), "{variable}: {error}");
        // The collective that failed was of the step after the last complete one.
        let steps = value.rsplit(':').next().unwrap().parse::<u32>().unwrap() / COLLECTIVES;
        assert_eq!(done.position, (steps / 3, steps % 3), "{variable}: {error}");
        assert!(began.elapsed() < Duration::from_secs(30), "{variable}: {:?}", began.elapsed());
        let state = Some(task.folder.join("run/state.safetensors"));
        let resumed = together(1, &Task { state, folder: task.folder.join("again"), ..task }, &[]);
        assert!(resumed.weights == whole.weights, "{variable}");
    }
}

/// A rank that lives and does not go on: the others' GPUs wait for it, and their hosts for their GPUs.
#[test]
fn a_rank_that_hangs_ends_all() {
    if !kernels() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let task = Task { patience: Some(4), ..task(folder.path(), 2) };
    for (rank, (_, done)) in start(2, &task, &[]).wait(&task.folder).into_iter().enumerate() {
        let done = done.expect("it ends in order");
        let error = done.error.expect("it is an error");
        assert!(error.contains("no step was done within 4 s"), "rank {rank}: {error}");
        assert_eq!(done.position, (0, 2), "rank {rank}");
    }
}

#[test]
fn a_machine_without_nccl_is_told_what_to_do() {
    if !kernels() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let task = task(folder.path(), 2);
    for (_, done) in start(2, &task, &[("MLPCONV_NCCL", "/nowhere/libnccl.so.2")]).wait(&task.folder) {
        let error = done.expect("it ends in order").error.expect("it is an error");
        assert!(error.contains("NCCL") && error.contains("/nowhere/libnccl.so.2"), "{error}");
        assert!(error.contains("libnccl2") && error.contains("$MLPCONV_NCCL"), "{error}");
    }
}

/// NVIDIA's own library: it has every function that is called, takes our configuration, and its refusal of a GPU that is none is told.
#[test]
#[ignore = "needs NCCL's library, which `make nccl-check` gets"]
fn nccls_own_library_is_understood() {
    use mlpconv::device::cuda::nccl::{FUNCTIONS, Nccl, VARIABLE};
    let path = std::env::var(VARIABLE).expect("the library's path");
    let version = Nccl::load().unwrap().version();
    assert!(version.starts_with("2."), "{version}");
    // SAFETY: NCCL's library runs no code that could do harm when it is loaded.
    let library = unsafe { libloading::Library::new(&path) }.unwrap();
    for function in FUNCTIONS {
        // SAFETY: the function is only looked up.
        let found = unsafe { library.get::<unsafe extern "C" fn()>(function.as_bytes()) };
        assert!(found.is_ok(), "{function} is not in NCCL {version}");
    }
    if !kernels() || real() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let task = task(folder.path(), 2);
    for (_, done) in Team::start("gpus::rank", 2, &task, &[(VARIABLE, &path)]).wait(&task.folder) {
        let error = done.expect("it ends in order").error.expect("the virtual GPU is none of NCCL's");
        assert!(error.contains("failed: ") && !error.contains("not found"), "{error}");
    }
}
