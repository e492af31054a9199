//! `train`: `mlpconv train` as a program of its own, for `cargo run --bin train`. A package of its own keeps the name, which
//! is a word, out of `cargo install`.

// Of the other commands only parts are used here.
#![allow(dead_code)]

#[path = "../../src/bin/console/mod.rs"]
mod console;

use std::process::ExitCode;

use clap::Parser;

/// Trains Network in Network on Fashion-MNIST, CIFAR-10 or another data set.
///
/// Without options: preset `small` on a CPU, preset `d2l` on a GPU, on Fashion-MNIST, which is found on this machine or
/// fetched.
#[derive(Parser)]
#[command(name = "train", version)]
struct Program {
    #[command(flatten)]
    args: console::train::TrainArgs,
}

fn main() -> ExitCode {
    let args = Program::parse().args;
    console::ended(console::limits::respect().and_then(|()| console::train::train(args)))
}
