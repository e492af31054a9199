//! The estimate of a launch: the time of each pipe by itself, of which the longest counts.

use mlpconv::Precision;

use super::gpus::{ALONE, GAP, Gpu};
use super::occupancy::occupancy;
use super::tables::{Code, Launch};
use super::together::{Blocks, together};

/// What a launch may be bound by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pipe {
    /// The tensor cores, or in fp32 the multiply-adds.
    Math,
    /// The schedulers, which issue an instruction a clock each.
    Issue,
    Shared,
    L2,
    Memory,
}

impl Pipe {
    pub const ALL: [Pipe; 5] = [Pipe::Math, Pipe::Issue, Pipe::Shared, Pipe::L2, Pipe::Memory];

    pub fn name(self) -> &'static str {
        match self {
            Pipe::Math => "math",
            Pipe::Issue => "issue",
            Pipe::Shared => "shared",
            Pipe::L2 => "L2",
            Pipe::Memory => "memory",
        }
    }
}

/// A launch's estimate.
#[derive(Debug)]
pub struct Estimate {
    /// Microseconds of each of [`Pipe::ALL`], waves included.
    pub pipes: [f64; 5],
    pub binds: Pipe,
    /// Blocks, over those that run at once.
    pub waves: f64,
    /// Microseconds, with the gap to the next launch: of one that runs beside the launch before it, what it adds to that one's.
    pub time: f64,
    blocks: Blocks,
}

/// Partitions of a multiprocessor, each with a scheduler and a tensor core.
const PARTITIONS: f64 = 4.0;

impl Estimate {
    /// Of a launch on `images` images: what was counted on fewer or more is taken in proportion.
    pub fn of(launch: &Launch, code: &Code, gpu: &Gpu, precision: Precision, images: usize) -> Self {
        let scale = images as f64 / launch.images as f64;
        let blocks = (launch.blocks as f64 * scale).ceil();
        // Whole rounds of the main loop by its `mma`. What is outside of it is taken as executed once by each warp.
        let (instructions, passes) = if code.mma > 0.0 {
            let rounds = launch.mma / code.mma;
            let outside = (code.instructions - code.usual - code.seldom).max(0.0);
            let warps = (launch.blocks * launch.warps) as f64;
            (rounds * code.usual + warps * outside, rounds * code.passes + launch.conflicts)
        } else {
            (launch.instructions, launch.accesses + launch.conflicts)
        };
        let math = match precision {
            _ if launch.by_warpgroups() => launch.flops / gpu.wgmma,
            _ if launch.mma > 0.0 => launch.mma * gpu.mma / PARTITIONS,
            // A warp's multiply-add is 64 operations.
            _ => launch.flops / 64.0 / gpu.fma,
        };
        // Clocks of one multiprocessor that did all by itself.
        let local = [math, instructions / PARTITIONS, passes];
        let clocks = 1e3 * gpu.gigahertz;
        let (at_once, _) = occupancy(launch.warps, code.registers, launch.shared, gpu.limits());
        let at_once = at_once.max(1);
        let (waves, stretch) = waves(blocks, at_once, gpu);
        let balanced = local.map(|alone| scale * alone / gpu.multiprocessors as f64 / clocks);
        let round = balanced.iter().copied().fold(0.0, f64::max) / waves;
        let local = balanced.map(|time| stretch * time);
        let l2 = scale * launch.asked / gpu.l2 / clocks;
        let memory = scale * launch.moved / (gpu.memory * 1e6);
        let pipes = [local[0], local[1], local[2], l2, memory];
        let longest = Pipe::ALL.into_iter().zip(pipes).max_by(|(_, one), (_, other)| one.total_cmp(other));
        let (binds, time) = longest.expect("five pipes");
        let blocks = Blocks { count: blocks as usize, at_once, round };
        Estimate { pipes, binds, waves, time: time + GAP, blocks }
    }

    /// Of the launches of a step, each with its code.
    pub fn of_step(launches: &[(Launch, Code)], gpu: &Gpu, precision: Precision, images: usize) -> Vec<Self> {
        let estimate = |(launch, code): &(Launch, Code)| Estimate::of(launch, code, gpu, precision, images);
        let mut estimates: Vec<Self> = launches.iter().map(estimate).collect();
        for second in 1..launches.len() {
            let [one, other] = [second - 1, second];
            if launches[one].0.beside && !launches[other].0.beside {
                let pair = [&estimates[one], &estimates[other]];
                let local = together(pair.map(|estimate| estimate.blocks), gpu.multiprocessors);
                // What all multiprocessors share is busy for both.
                let sum = |pipe: Pipe| pair.iter().map(|estimate| estimate.pipes[pipe as usize]).sum::<f64>();
                let both = [local, sum(Pipe::L2), sum(Pipe::Memory)].into_iter().fold(0.0, f64::max) + GAP;
                estimates[other].time = (both - estimates[one].time).max(0.0);
            }
        }
        estimates
    }
}

/// The waves of a launch, and how much longer than in perfect balance its multiprocessors take.
fn waves(blocks: f64, at_once: usize, gpu: &Gpu) -> (f64, f64) {
    let at_once = at_once as f64;
    let slots = at_once * gpu.multiprocessors as f64;
    let (waves, whole) = (blocks / slots, (blocks / slots).floor());
    // Blocks of a multiprocessor in the last wave, as a share of those that it holds.
    let share = ((blocks - whole * slots) / gpu.multiprocessors as f64).ceil() / at_once;
    let last = if share > 0.0 { share + (1.0 - share) * ALONE } else { 0.0 };
    (waves, (whole + last) / waves)
}
