//! `mlpconv train` as several ranks: by our own launcher, and by the variables that launchers set.

use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

use super::*;

/// Four steps an epoch, the last one of 10 images.
const OPTIONS: &str =
    "--preset small --epochs 2 --train-limit 58 --test-limit 20 --batch-size 16 --shards 4 --seed 4 --log-every 1";

/// The metrics of a run that are no times.
fn metrics(place: &Place, run: &str) -> Vec<[f64; 5]> {
    let of =
        |epoch: &EpochMetrics| [epoch.loss, epoch.train_accuracy, epoch.test_loss, epoch.test_accuracy, epoch.rate];
    Run::open(place.path(run)).unwrap().metrics().unwrap().iter().map(of).collect()
}

/// The command of a rank, with a launcher's variables; all ranks meet at `port`.
fn rank(place: &Place, [rank, ranks]: [usize; 2], port: u16, line: &str) -> Command {
    let mut command = place.command(TRAIN, line);
    let numbers = [("RANK", rank), ("WORLD_SIZE", ranks), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", ranks)];
    command.envs(numbers.map(|(name, number)| (name, number.to_string())));
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn ended(child: Child) -> Finished {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs two ranks with options of their own.
fn two(place: &Place, lines: [&str; 2]) -> [Finished; 2] {
    let port = port();
    let children = [0, 1].map(|at| rank(place, [at, 2], port, lines[at]).spawn().unwrap());
    children.map(ended)
}

#[test]
fn any_number_of_ranks_leaves_the_same_run() {
    let Some(place) = Place::new() else { return };
    place.train(&format!("{OPTIONS} --out one")).good();
    for ranks in [2, 4] {
        let run = format!("of-{ranks}");
        let said = place.mlpconv(&format!("launch -n {ranks} -- train {OPTIONS} --out {run}")).good();
        assert!(said.line("ranks ").contains("4 shards a step"), "{}", said.stdout);
        assert!(!said.stdout.contains("[rank "), "one rank tells of all: {}", said.stdout);
        assert!(place.weights(&run) == place.weights("one"), "weights of {ranks} ranks");
        assert_eq!(metrics(&place, &run), metrics(&place, "one"), "of {ranks} ranks");
        let best = |run: &str| fs::read(place.path(run).join("best.safetensors")).unwrap();
        assert!(best(&run) == best("one"));
    }
    // One shard a rank, unless an option says otherwise.
    let few = "--preset small --epochs 1 --train-limit 16 --test-limit 4 --batch-size 8";
    place.mlpconv(&format!("launch -n 2 -- train {few} --out few")).good();
    assert_eq!(Run::open(place.path("few")).unwrap().config().shards, 2);
}

#[test]
fn a_run_stops_and_goes_on_with_another_number_of_ranks() {
    let Some(place) = Place::new() else { return };
    // Long enough to be stopped twice, after a second each.
    let options = "--preset small --epochs 2 --train-limit 1200 --test-limit 20 --batch-size 8 --shards 4 --seed 4";
    place.train(&format!("{options} --out whole")).good();
    let said = place.mlpconv(&format!("launch -n 3 -- train {options} --time-limit 1s --out parts")).good();
    assert!(said.stdout.contains("go on with: "), "{}", said.stdout);
    let said = place.mlpconv("launch -n 4 -- train --resume parts --time-limit 1s").good();
    assert!(said.line("run ").contains("from epoch 1, after step "), "{}", said.stdout);
    let said = place.mlpconv("launch -n 5 -- train --resume parts");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("shards: 4 cannot be shared by 5 ranks"), "{}", said.stderr);
    place.train("--resume parts --shards 2").bad(&["--shards"]);
    place.mlpconv("launch -n 2 -- train --resume parts").good();
    assert!(place.weights("parts") == place.weights("whole"));
    assert_eq!(metrics(&place, "parts"), metrics(&place, "whole"));
    place.mlpconv("launch -n 2 -- train --resume parts").good().line("all 2 epochs are done");
}

#[test]
fn ranks_that_differ_are_refused_and_told_in_what() {
    let Some(place) = Place::new() else { return };
    let refused = |lines: [&str; 2], says: &[&str]| {
        for done in two(&place, lines) {
            done.bad(says);
        }
        assert!(!place.path("run").exists(), "nothing is begun");
    };
    let with = |more: &str| format!("{OPTIONS} --out run {more}");
    let says = ["differ in settings: learning_rate is 0.1 on rank 0, 0.2 on rank 1"];
    refused([&with("--lr 0.1"), &with("--lr 0.2")], &says);
    refused([&with("--momentum 0.1"), &with("--momentum 0.2")], &["momentum is 0.1 on rank 0, 0.2 on rank 1"]);
    refused([&with(""), &with("--data nowhere")], &["rank 1"]);
    refused([&with("--allreduce nccl"), &with("--allreduce nccl")], &["allreduce: nccl adds on GPUs alone"]);
    let few = with("").replace("--shards 4", "--shards 1");
    refused([&few, &few], &["shards: 1 cannot be shared by 2 ranks"]);

    // The same data set by its name, with other contents on one of the machines.
    for folder in ["here", "there"] {
        other_data::cifar(&place.path(folder));
    }
    let file = place.path("there/test_batch.bin");
    let mut content = fs::read(&file).unwrap();
    content[1] ^= 1;
    fs::write(file, content).unwrap();
    let cifar = "--preset cifar --batch-size 2 --out run";
    let lines = ["here", "there"].map(|folder| format!("{cifar} --data-dir {folder}"));
    refused([&lines[0], &lines[1]], &["differ in data set: test images is "]);

    // Another build of the program.
    let other = place.path("mlpconv");
    let mut program = fs::read(MLPCONV).unwrap();
    program.push(0);
    fs::write(&other, program).unwrap();
    fs::set_permissions(&other, fs::metadata(MLPCONV).unwrap().permissions()).unwrap();
    let port = port();
    let first = rank(&place, [0, 2], port, &with("")).spawn().unwrap();
    let like = rank(&place, [1, 2], port, &with(""));
    let mut second = Command::new(&other);
    second.args(like.get_args()).current_dir(place.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    second.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    for done in [first, second.spawn().unwrap()].map(ended) {
        done.bad(&["differ in settings: program is ", "SHA-256"]);
    }
}

#[test]
fn the_variables_of_a_launcher_have_to_be_complete() {
    let Some(place) = Place::new() else { return };
    let mut command = place.command(TRAIN, OPTIONS);
    Finished::of(command.env("RANK", "1")).bad(&["WORLD_SIZE"]);
    let mut command = place.command(TRAIN, OPTIONS);
    Finished::of(command.env("RANK", "4").env("WORLD_SIZE", "2")).bad(&["RANK", "WORLD_SIZE"]);
}

/// A rank is killed in training; the one with the run folder saves, says which was lost and how to go on.
#[test]
fn a_rank_that_is_killed_ends_the_run_with_a_saved_state() {
    let Some(place) = Place::new() else { return };
    // Long enough to be killed in: two hundred steps an epoch.
    let options = "--preset small --epochs 1 --train-limit 800 --test-limit 20 --batch-size 4 --shards 2 --log-every 1";
    place.train(&format!("{options} --out whole")).good();
    let port = port();
    let line = format!("{options} --out run");
    let mut first = rank(&place, [0, 2], port, &line).spawn().unwrap();
    let mut second = rank(&place, [1, 2], port, &line).spawn().unwrap();
    // Once steps are done.
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(first.stdout.take().unwrap());
    while !said.contains("step 20/200") {
        let read = std::io::BufRead::read_line(&mut lines, &mut said).unwrap();
        assert!(read > 0, "it ended: {said}");
    }
    second.kill().unwrap();
    second.wait().unwrap();
    let killed = Instant::now();
    std::io::Read::read_to_string(&mut lines, &mut said).unwrap();
    let done = ended(first);
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let says = ["a rank was lost in epoch 1, after step ", "saved to ", "--resume run", "error: rank 1 is lost: "];
    assert!(says.iter().all(|what| done.stderr.contains(what)), "{}", done.stderr);
    place.train("--resume run").good();
    assert!(place.weights("run") == place.weights("whole"));
}

/// By `virtual-nccl` between two virtual GPUs, which stand in for those of two hosts.
#[cfg(feature = "cuda")]
#[test]
fn ranks_on_gpus_leave_the_same_run() {
    use crate::gpu;
    let Some(place) = Place::new() else { return };
    if gpu::gpu(mlpconv::Precision::Bf16).is_none() {
        return;
    }
    let options = "train --preset small --device cuda --precision bf16 --epochs 1 --train-limit 28 --test-limit 8 --batch-size 8 --shards 2";
    let on_gpus = |line: &str| {
        let mut command = place.command(MLPCONV, line);
        if !gpu::real() {
            command.env("LD_PRELOAD", gpu::library("libvirtual_gpu.so"));
            command.env("MLPCONV_NCCL", gpu::library("libvirtual_nccl.so"));
        }
        command.env_remove("CUDA_VISIBLE_DEVICES");
        Finished::of(&mut command).good()
    };
    on_gpus(&format!("{options} --out one"));
    on_gpus(&format!("launch -n 2 -- {options} --out two"));
    assert!(place.weights("one") == place.weights("two"));
    assert_eq!(metrics(&place, "one"), metrics(&place, "two"));
}
