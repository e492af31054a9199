//! Promise 10. No leak, on the host or on the device.

use std::{env, fs};

use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, MaxPool, Sequential};
use mlpconv::optim::AdamW;
use mlpconv::train::Trainer;
use mlpconv::{Backend, Cpu, Device as _, Shape};

use crate::place::Finished;
use crate::promise::kept;
#[cfg(feature = "cuda")]
use crate::promise::tries;

/// Set in the process that a test starts to be measured alone: other tests' memory is not in it.
const ALONE: &str = "MLPCONV_LEAKS_ALONE";

fn trainer<B: Backend<Scalar = f32>>(backend: &B) -> Trainer<B, Sequential<B>> {
    let mut build = Builder::new(backend, Init::He, 1);
    let net = Sequential::new()
        .push(build.nin_block(1, 4, 5, 2, 2).unwrap())
        .push(MaxPool { window: 3, stride: 2 })
        .push(build.nin_block(4, 3, 3, 1, 1).unwrap().with_linear_output())
        .push(GlobalAvgPool)
        .push(Flatten);
    Trainer::new(backend, net, AdamW::new(backend), 1).unwrap()
}

fn step<B: Backend<Scalar = f32>>(trainer: &mut Trainer<B, Sequential<B>>) {
    trainer.step(&[0.5; 2 * 81], Shape::image(2, 1, 9, 9), &[0, 2], 1e-3).unwrap();
}

/// The bytes in use on glibc's heap, the process's threads and its open files. Resident memory would also hold the gaps
/// between the heap's blocks, which come and go with the threads' timing.
fn held() -> [usize; 3] {
    let entries = |folder: &str| fs::read_dir(folder).unwrap().count();
    // SAFETY: `mallinfo2` only reads.
    let heap = unsafe { libc::mallinfo2() };
    [heap.uordblks + heap.hblkhd, entries("/proc/self/task"), entries("/proc/self/fd")]
}

/// glibc keeps the stacks of ended threads for the next ones, and a block of the heap with each: how many varies.
const CACHED: usize = 16 << 10;

/// Runs `work` after half of it as a warm-up, and asserts that it grows the heap by less than 1 % or [`CACHED`], and the
/// threads and open files not at all. Returns the figure.
fn grows(times: usize, mut work: impl FnMut()) -> String {
    (0..times.div_ceil(2)).for_each(|_| work());
    let [heap, threads, files] = held();
    (0..times).for_each(|_| work());
    let [after, threads_after, files_after] = held();
    assert!(after < heap + (heap / 100).max(CACHED), "the heap grows from {heap} to {after} bytes in {times}");
    assert_eq!((threads_after, files_after), (threads, files), "threads and files");
    let growth = (after as f64 / heap as f64 - 1.0) * 100.0;
    format!("{growth:+.2} % of {} KiB of heap; {threads} threads and {files} files before and after", heap / 1024)
}

/// Runs this test in a process of its own, where `work` gives the figure, or `None` if there is nothing to measure. Returns
/// it here.
fn alone(test: &str, work: impl FnOnce() -> Option<String>) -> Option<String> {
    if env::var_os(ALONE).is_some() {
        println!("figure: {}", work().unwrap_or_default());
        return None;
    }
    let mut command = std::process::Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, "1");
    // glibc counts the freed blocks in a thread's cache as in use.
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    let said = Finished::of(&mut command).good().stdout;
    let figure = said.split("figure: ").nth(1).expect("the process has run the test").lines().next().unwrap();
    (!figure.is_empty()).then(|| figure.to_owned())
}

/// Steps of one trainer. The device's bytes are constant.
fn steps<B: Backend<Scalar = f32>>(backend: &B, times: usize) -> String {
    let mut trainer = trainer(backend);
    let mut settled = None;
    let mut done = 0;
    grows(times, || {
        step(&mut trainer);
        done += 1;
        // The optimiser's tensors exist from the second step on.
        if done > 2 {
            assert_eq!(backend.memory(), *settled.get_or_insert(backend.memory()), "step {done}");
        }
    })
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn steps_on_a_cpu_keep_nothing() {
    let figure = alone("leaks::steps_on_a_cpu_keep_nothing", || Some(steps(&Cpu::<f32>::new(), 10_000)));
    if let Some(figure) = figure {
        kept(10, format_args!("10,000 steps on a CPU: {figure}"));
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn trainers_and_cpus_that_are_dropped_leave_nothing() {
    let cycle = || {
        let cpu = Cpu::<f32>::with_threads(2).unwrap();
        let mut trainer = trainer(&cpu);
        (0..3).for_each(|_| step(&mut trainer));
        drop(trainer);
        assert_eq!(cpu.memory().in_use, 0);
    };
    // A pool's threads end a moment after it is dropped.
    let settled = || {
        for _ in 0..100 {
            cycle();
        }
        let begun = std::time::Instant::now();
        while held()[1] > 2 && begun.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    let figure = alone("leaks::trainers_and_cpus_that_are_dropped_leave_nothing", || Some(grows(2, settled)));
    if let Some(figure) = figure {
        kept(10, format_args!("200 CPUs and trainers made, trained and dropped: {figure}"));
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu", feature = "cuda"))]
#[test]
fn a_gpu_keeps_nothing() {
    use mlpconv::{Cuda, Precision};
    let (number, cycles) = (tries(300, 10_000), tries(10, 200));
    let figure = alone("leaks::a_gpu_keeps_nothing", || {
        let gpu = crate::gpu::gpu(Precision::Tf32)?;
        let steps = steps(&*gpu, number);
        let idle = gpu.free_memory().unwrap();
        let cycles = grows(cycles, || {
            let cuda = Cuda::new(0, Precision::Tf32).unwrap();
            let mut trainer = trainer(&cuda);
            (0..3).for_each(|_| step(&mut trainer));
            drop(trainer);
            drop(cuda);
            assert_eq!(gpu.free_memory().unwrap(), idle, "the device has less memory than before");
        });
        Some(format!("steps {steps}; backends {cycles}"))
    });
    if let Some(figure) = figure {
        kept(10, format_args!("{number} steps and {cycles} backends on a virtual GPU: {figure}"));
    }
}
