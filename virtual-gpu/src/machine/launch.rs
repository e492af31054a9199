//! Launches: the checks of their shape, the distribution of blocks over host threads, and the turns of a block's warps.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::barrier::{Barrier, ClusterBarrier};
use super::counts::Counts;
use super::exec::Env;
use super::footprint::Footprint;
use super::memory::tag;
use super::order::{Operation, Witness};
use super::program::*;
use super::reach::Reach;
use super::registers::Pool;
use super::shared::{Fault, Shared};
use super::trap::{Trap, TrapKind};
use super::warp::{State, Wait, Warp};
use super::{Kernel, Launch, Machine};

/// The largest shared memory of a block in bytes, with the opt-in (CUDA programming guide, "Compute capabilities").
pub(crate) fn most_shared(capability: (u32, u32)) -> usize {
    match capability {
        (..=6, _) => 48 << 10,
        (7, 5) => 64 << 10,
        (7, _) => 96 << 10,
        (8, 0 | 7) => 163 << 10,
        (8, _) | (12.., _) => 99 << 10,
        _ => 227 << 10,
    }
}

/// Numbers the launches and copies, so that shadow words of one are not mistaken for another's.
static LAUNCHES: AtomicU64 = AtomicU64::new(1);

/// The number of a launch to come.
pub fn launch_number() -> u64 {
    LAUNCHES.fetch_add(1, Relaxed)
}

impl Machine {
    /// Executes a kernel to its end and returns its counters.
    pub fn launch(&self, kernel: &Kernel, launch: &Launch, params: &[u8]) -> Result<Counts, Trap> {
        self.launch_as(&Operation::numbered(launch_number()), &Reach::default(), kernel, launch, params)
    }

    /// The same, as an operation among others. `reach` is what it may access of several devices' memory.
    pub fn launch_as(
        &self,
        operation: &Operation,
        reach: &Reach,
        kernel: &Kernel,
        launch: &Launch,
        params: &[u8],
    ) -> Result<Counts, Trap> {
        check_shape(kernel, launch, params, most_shared(self.config.compute_capability))
            .map_err(|(kind, message)| unlocated(kernel, kind, message))?;
        let [gx, gy, gz] = launch.grid.map(u64::from);
        let blocks = gx * gy * gz;
        let allocations = self.memory.snapshot(reach);
        let footprint = self.config.count.then(|| Footprint::new(allocations.len()));
        let next = AtomicU64::new(0);
        // Of several trapped blocks the one of the lowest number is reported, in whichever order they were found.
        let first_trap = AtomicU64::new(u64::MAX);
        let outcome = Mutex::new((Counts::default(), None::<(u64, Trap)>));
        let work = || {
            let mut counts = Counts::default();
            let mut worker = Worker::default();
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= blocks || number > first_trap.load(Relaxed) {
                    break;
                }
                let block = [number % gx, number / gx % gy, number / gx / gy].map(|at| at as u32);
                let mut env = Env {
                    program: &kernel.program,
                    params,
                    memory: &self.memory,
                    allocations: &allocations,
                    last: 0,
                    tag: tag(operation.number, number),
                    witness: Witness::of(operation),
                    acquired: false,
                    ahead: operation.ahead.map_or(0, |ahead| tag(ahead, 0)),
                    unwaited: 0,
                    checks: self.config.checks,
                    sums: self.config.sums(),
                    footprint: footprint.as_ref(),
                    count: self.config.count,
                    counts: std::mem::take(&mut counts),
                    shared: std::mem::take(&mut worker.shared),
                    barriers: vec![Barrier::default(); 16],
                    cluster: ClusterBarrier::default(),
                    pool: Pool::of(&kernel.program),
                    polled: false,
                    threads: launch.block.iter().product::<u32>() as usize,
                    local_bytes: kernel.local_bytes,
                    executed: 0,
                    reusable: std::mem::take(&mut worker.reusable),
                };
                let result = run_block(&mut env, self.instruction_limit, &mut worker.warps, kernel, launch, block);
                env.counts.warp_instructions += env.executed;
                counts = env.counts;
                worker.shared = env.shared;
                worker.reusable = env.reusable;
                if let Err(trap) = result {
                    first_trap.fetch_min(number, Relaxed);
                    if let Ok(mut outcome) = outcome.lock()
                        && outcome.1.as_ref().is_none_or(|(other, _)| number < *other)
                    {
                        outcome.1 = Some((number, *trap));
                    }
                }
            }
            if let Ok(mut outcome) = outcome.lock() {
                outcome.0.add(&counts);
            }
        };
        // Blocks start in the order of their numbers: some kernels wait for earlier blocks.
        let workers = (rayon::current_num_threads() as u64).min(blocks);
        rayon::scope(|scope| (0..workers).for_each(|_| scope.spawn(|_| work())));
        let (counts, trap) = outcome.into_inner().unwrap_or_default();
        match trap {
            Some((_, trap)) => Err(trap),
            None => Ok(counts),
        }
    }
}

/// Buffers that a host thread reuses from block to block.
#[derive(Default)]
struct Worker {
    warps: Vec<Warp>,
    shared: Shared,
    reusable: Vec<u64>,
}

fn unlocated(kernel: &Kernel, kind: TrapKind, message: String) -> Trap {
    let kernel = kernel.name.clone();
    Trap { kind, kernel, block: [0; 3], thread: [0; 3], ptx_line: 0, source: None, message }
}

fn check_shape(kernel: &Kernel, launch: &Launch, params: &[u8], most: usize) -> Result<(), (TrapKind, String)> {
    let Launch { grid, block, dynamic_shared } = *launch;
    let threads = block.iter().fold(1u64, |threads, extent| threads.saturating_mul((*extent).into()));
    let shared = kernel.static_shared.saturating_add(dynamic_shared);
    let invalid = TrapKind::InvalidLaunch;
    if grid.contains(&0) || block.contains(&0) {
        return Err((invalid, format!("grid {grid:?} of blocks {block:?} is empty")));
    }
    if grid[0] > i32::MAX as u32 || grid[1] > 65_535 || grid[2] > 65_535 {
        return Err((invalid, format!("grid {grid:?} is too large")));
    }
    if threads > 1024 || block[2] > 64 {
        return Err((invalid, format!("block {block:?} is too large")));
    }
    if threads > kernel.max_threads as u64 {
        let most = kernel.max_threads;
        return Err((
            TrapKind::LaunchOutOfResources,
            format!("{threads} threads in a block, where the kernel allows {most}"),
        ));
    }
    if shared > most {
        return Err((TrapKind::LaunchOutOfResources, format!("{shared} bytes of shared memory, more than {most}")));
    }
    if params.len() < kernel.param_bytes() {
        return Err((invalid, format!("{} bytes of parameters, {} expected", params.len(), kernel.param_bytes())));
    }
    Ok(())
}

fn run_block(
    env: &mut Env,
    limit: u64,
    warps: &mut Vec<Warp>,
    kernel: &Kernel,
    launch: &Launch,
    block: [u32; 3],
) -> Result<(), Box<Trap>> {
    let count = env.threads.div_ceil(32);
    while warps.len() < count {
        warps.push(Warp::new(warps.len()));
    }
    let warps = &mut warps[..count];
    env.shared.reset(kernel.static_shared + launch.dynamic_shared, env.checks);
    for warp in warps.iter_mut() {
        let threads = (env.threads - warp.index * 32).min(32);
        warp.reset(&kernel.program, u32::MAX >> (32 - threads), kernel.local_bytes);
        for (special, row) in &kernel.program.specials {
            let at = |lane: usize| special_value(*special, warp.index, lane, count, launch, block, env.shared.size());
            warp.registers[*row as usize] = std::array::from_fn(at);
        }
    }
    let trap = |warp: &Warp, fault: Fault| locate(kernel, launch, block, warp, fault);
    // The mbarriers' events when no warp could go on the last time, and how often in a row that was.
    let mut stalled = (0, 0);
    loop {
        let mut progressed = false;
        for warp in warps.iter_mut().filter(|warp| warp.state == State::Ready) {
            progressed = true;
            env.run(warp).map_err(|fault| trap(warp, *fault))?;
        }
        release(env, warps);
        resume(env, warps);
        multiply(env, warps).map_err(|(index, fault)| trap(&warps[index], *fault))?;
        if warps.iter().all(|warp| warp.state == State::Done) {
            let ended = env.mbarriers_at_end(warps).and_then(|()| env.registers_at_end(warps));
            return if env.checks { ended.map_err(|(index, fault)| trap(&warps[index], fault)) } else { Ok(()) };
        }
        if !progressed && !time_out(env, warps, &mut stalled) {
            // What lacks something that only its own kind can give is the cause; who waits for a barrier may wait for these.
            let first = |wait| warps.iter().find(|warp| warp.state == State::Waiting(wait));
            let cause = first(Wait::Registers).or_else(|| first(Wait::Warpgroup));
            let waiting = cause.or_else(|| warps.iter().find(|warp| matches!(warp.state, State::Waiting(_))));
            let warp = waiting.unwrap_or(&warps[0]);
            return Err(trap(warp, stuck(env, warps, warp)));
        }
        if env.executed > limit {
            let message = format!("{} instructions executed, more than the limit of {limit} for a block", env.executed);
            let warp = warps.iter().find(|warp| warp.state == State::Ready).unwrap_or(&warps[0]);
            return Err(trap(warp, *Fault::new(TrapKind::Deadlock, 0, message)));
        }
    }
}

/// Lets warps go on whose wait is over.
fn resume(env: &mut Env, warps: &mut [Warp]) {
    let freed = env.pool.take_freed();
    let met = env.cluster.settle(warps, &mut env.shared.generation);
    for warp in warps.iter_mut() {
        let goes_on = match warp.state {
            State::Waiting(Wait::Mbarrier) => env.is_over(warp),
            // Whether there are enough, the instruction finds out.
            State::Waiting(Wait::Registers) => freed,
            State::Waiting(Wait::Cluster) => met,
            _ => false,
        };
        if goes_on {
            warp.state = State::Ready;
        }
    }
}

/// Executes the `wgmma` at which whole warpgroups have met.
fn multiply(env: &mut Env, warps: &mut [Warp]) -> Result<(), (usize, Box<Fault>)> {
    for (number, warpgroup) in warps.chunks_mut(4).enumerate() {
        let waits = |warp: &Warp| warp.state == State::Waiting(Wait::Warpgroup);
        if !warpgroup.iter().all(waits) {
            continue;
        }
        let at = warpgroup[0].at;
        let wrong = |index: usize, message: String| Err((number * 4 + index, Fault::new(TrapKind::Wgmma, 0, message)));
        if warpgroup.len() < 4 {
            return wrong(0, format!("a wgmma by {} warps, where a warpgroup has four", warpgroup.len()));
        }
        if let Some(other) = warpgroup.iter().position(|warp| warp.at != at) {
            let line = env.program.code[at as usize].line;
            return wrong(other, format!("the first warp of the warpgroup is at another wgmma, at PTX line {line}"));
        }
        let Op::Wgmma(wgmma) = kernel_op(env, &warpgroup[0]) else { continue };
        env.wgmma(warpgroup, wgmma).map_err(|(index, fault)| (number * 4 + index, fault))?;
        warpgroup.iter_mut().for_each(|warp| warp.state = State::Ready);
    }
    Ok(())
}

/// Lets the waits for mbarriers return false, as their time limit does, where no warp can go on otherwise. `false`: there are
/// none, or this did not help before.
fn time_out(env: &mut Env, warps: &mut [Warp], stalled: &mut (u64, usize)) -> bool {
    /// A kernel may look at several mbarriers in turn.
    const MOST: usize = 16;
    let events = env.shared.mbarriers.events;
    // Who looks at global memory in between may wait for another block.
    let again = !std::mem::take(&mut env.polled) && stalled.0 == events;
    *stalled = (events, if again { stalled.1 + 1 } else { 0 });
    let mut waiting = warps.iter_mut().filter(|warp| warp.state == State::Waiting(Wait::Mbarrier)).peekable();
    if stalled.1 > MOST || waiting.peek().is_none() {
        return false;
    }
    for warp in waiting {
        (warp.state, warp.timed_out) = (State::Ready, true);
        if warp.parked().is_some() {
            warp.switch();
        }
    }
    true
}

/// Releases the warps whose barriers are complete. With checks, a barrier of all threads also waits for threads that
/// have returned. Without checks, as on a card, it waits for the others only.
fn release(env: &mut Env, warps: &mut [Warp]) {
    let live: usize = warps.iter().map(|warp| warp.live.count_ones() as usize).sum();
    for id in 0..16 {
        let barrier = &env.barriers[id];
        let wanted = match barrier.expected {
            0 if env.checks => env.threads,
            0 => live,
            count => count,
        };
        if barrier.arrived == 0 || barrier.arrived < wanted {
            continue;
        }
        let mut barrier = std::mem::take(&mut env.barriers[id]);
        for index in &barrier.waiting {
            barrier.clock.learn_warp(*index, env.shared.generation);
        }
        env.shared.generation += 1;
        env.counts.barriers += u64::from(env.count);
        for index in &barrier.waiting {
            let warp = &mut warps[*index];
            warp.knowledge.all.merge(&barrier.clock);
            warp.state = State::Ready;
            if let Op::Barrier { kind, d, p, .. } = &kernel_op(env, warp) {
                let holds = match kind {
                    BarrierKind::And => barrier.all,
                    _ => barrier.any,
                };
                let live = warp.live;
                warp.put(*d, &[barrier.count.into(); 32], live);
                warp.put_predicate(*p, if holds { u32::MAX } else { 0 }, live);
            }
        }
    }
}

fn kernel_op<'a>(env: &Env<'a>, warp: &Warp) -> &'a Op {
    &env.program.code[warp.at as usize].op
}

/// The deadlock or partial barrier because of which no warp can continue.
fn stuck(env: &Env, warps: &[Warp], at: &Warp) -> Fault {
    let lane = at.live.trailing_zeros() as usize % 32;
    let State::Waiting(Wait::Barrier(id)) = at.state else {
        let kind = match at.state {
            State::Waiting(Wait::Registers) => TrapKind::RegisterPool,
            State::Waiting(Wait::Warpgroup) => TrapKind::Wgmma,
            _ => TrapKind::Deadlock,
        };
        let text: Vec<String> = warps.iter().filter_map(|warp| waits_for(env, warp)).collect();
        return *Fault::new(kind, lane, format!("no warp can continue: {}", text.join("; ")));
    };
    let barrier = &env.barriers[id];
    let wanted = if barrier.expected == 0 { env.threads } else { barrier.expected };
    let gone: u32 = warps.iter().map(|warp| (warp.lanes & !warp.live).count_ones()).sum();
    let lines: Vec<u32> = barrier.waiting.iter().map(|warp| env.program.code[warps[*warp].at as usize].line).collect();
    let elsewhere = warps.iter().any(|warp| matches!(warp.state, State::Waiting(other) if other != Wait::Barrier(id)));
    let mut message = format!("{} of {wanted} threads are at barrier {id}", barrier.arrived);
    if gone > 0 {
        message += &format!("; {gone} threads have returned");
        if barrier.expected == 0 {
            message += " (cards wait only for the rest, but CUDA leaves a __syncthreads that not all reach undefined)";
        }
    }
    if elsewhere {
        let others = warps.iter().filter(|warp| warp.state != at.state).filter_map(|warp| waits_for(env, warp));
        message += &format!("; {}", others.collect::<Vec<_>>().join("; "));
    }
    if lines.iter().any(|line| *line != lines[0]) {
        message += &format!("; it is reached at several PTX lines: {lines:?}");
    }
    let kind = if elsewhere || gone == 0 { TrapKind::Deadlock } else { TrapKind::PartialBarrier };
    *Fault::new(kind, lane, message)
}

/// What a warp waits for, in words.
fn waits_for(env: &Env, warp: &Warp) -> Option<String> {
    let State::Waiting(wait) = warp.state else { return None };
    let line = env.program.code[warp.at as usize].line;
    let what = match wait {
        Wait::Mbarrier => return Some(env.awaited(warp)),
        Wait::Barrier(id) => format!("at barrier {id}"),
        Wait::Warpgroup => "for the rest of its warpgroup at a wgmma".to_string(),
        Wait::Cluster => "at the cluster's barrier".to_string(),
        Wait::Registers => "for registers of the block's pool".to_string(),
    };
    Some(format!("warp {} (PTX line {line}) waits {what}", warp.index))
}

fn locate(kernel: &Kernel, launch: &Launch, block: [u32; 3], warp: &Warp, fault: Fault) -> Box<Trap> {
    let instr = &kernel.program.code[warp.at as usize];
    let [x, y, _] = launch.block;
    let flat = (warp.index * 32 + fault.lane) as u32;
    let (file, line) = instr.location;
    let source = kernel.files.iter().find(|(number, _)| *number == file).map(|(_, name)| format!("{name}:{line}"));
    Box::new(Trap {
        kind: fault.kind,
        kernel: kernel.name.clone(),
        block,
        thread: [flat % x, flat / x % y, flat / x / y],
        ptx_line: instr.line as usize,
        source: source.filter(|_| line != 0),
        message: fault.message,
    })
}

fn special_value(
    special: Special,
    warp: usize,
    lane: usize,
    warps: usize,
    launch: &Launch,
    block: [u32; 3],
    shared: usize,
) -> u64 {
    let [x, y, _] = launch.block.map(u64::from);
    let flat = (warp * 32 + lane) as u64;
    let tid = [flat % x, flat / x % y, flat / x / y];
    let bit = 1u64 << lane;
    match special {
        Special::Tid(axis) => tid[axis],
        Special::Ntid(axis) => launch.block[axis].into(),
        Special::Ctaid(axis) => block[axis].into(),
        Special::Nctaid(axis) => launch.grid[axis].into(),
        Special::LaneId => lane as u64,
        Special::WarpId => warp as u64,
        Special::NWarpId => warps as u64,
        Special::NSmId | Special::One => 1,
        Special::Zero => 0,
        Special::MaskEq => bit,
        Special::MaskLe => bit | (bit - 1),
        Special::MaskLt => bit - 1,
        Special::MaskGe => !(bit - 1) & 0xffff_ffff,
        Special::MaskGt => !(bit | (bit - 1)) & 0xffff_ffff,
        Special::DynamicShared => launch.dynamic_shared as u64,
        Special::TotalShared => shared as u64,
        // No block executes enough instructions to reach the clock's upper half.
        Special::ClockHigh => 0,
        Special::SmId | Special::GridId | Special::Clock | Special::Clock64 | Special::Timer => 0,
    }
}

/// The `.file` table of a module, shared by its kernels.
pub(super) type Files = Arc<Vec<(u32, String)>>;
