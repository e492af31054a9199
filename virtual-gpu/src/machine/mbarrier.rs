//! Mbarriers: objects in shared memory that count arrivals and the bytes of asynchronous copies, phase after phase (PTX ISA 9.0,
//! "mbarrier").
//!
//! A phase completes when no arrival is pending and the copies' bytes are balanced. An arrival publishes what its thread knows
//! and did; a wait that returns true learns what the phase's arrivals published, and that the phase's copies are complete. Copies
//! are executed, and their bytes counted, as soon as they are issued: whether somebody reads too early, the clocks tell.
//!
//! A failed `try_wait` suspends its warp until the phase completes. Where no warp can go on otherwise, it returns false, as its
//! time limit lets it; if nothing arrives from then on, that is a deadlock.

use std::collections::BTreeMap;

use super::agent::{Agent, MOST_SLOTS};
use super::clock::Clock;
use super::exec::{Done, Env, lanes};
use super::program::*;
use super::shared::{Actor, Fault, Touch};
use super::trap::TrapKind;
use super::warp::{Frame, State, Wait, Warp};

/// The largest number of arrivals of a phase, and of bytes in flight.
const MOST: u64 = (1 << 20) - 1;

pub(super) struct Mbarrier {
    pub slot: usize,
    /// Arrivals of a whole phase, and those that the current one still lacks.
    expected: u32,
    pub pending: u32,
    /// Bytes that the current phase expects and that have not come, negative if they came first.
    pub bytes: i64,
    pub phase: u32,
    /// Who initialised it, when, and whether a `fence.mbarrier_init` followed.
    maker: (Agent, u32),
    published: bool,
    /// What the arrivals of the current phase have published, and those of the last complete one.
    arriving: Clock,
    complete: Clock,
    /// The generation of the last copy, and of the last that somebody has waited for.
    copied: u32,
    awaited: u32,
    /// The warp, the lane and the address of the instruction of the last copy.
    copier: (usize, usize, u32),
    /// Lines of the current phase's arrivals.
    lines: Vec<u32>,
}

impl Mbarrier {
    /// Completes the phase if nothing is left of it.
    fn settle(&mut self, generation: &mut u32) {
        if self.pending != 0 || self.bytes != 0 {
            return;
        }
        std::mem::swap(&mut self.complete, &mut self.arriving);
        self.arriving.clear();
        self.complete.learn(Agent::copies(self.slot), *generation);
        *generation += 1;
        self.phase = self.phase.wrapping_add(1);
        self.pending = self.expected;
        self.lines.clear();
    }

    fn has_completed(&self, phase: Phase) -> bool {
        match phase {
            Phase::Parity(parity) => self.phase & 1 != parity,
            Phase::Number(number) => self.phase != number,
        }
    }

    /// What is left of its copies, which must not be when it ends.
    fn unfinished(&self) -> Option<(TrapKind, String)> {
        if self.bytes != 0 {
            return Some((TrapKind::Mbarrier, format!("its bytes are out of balance in {}", self.describe())));
        }
        let in_flight = self.copied > self.awaited;
        in_flight.then(|| (TrapKind::InFlight, "a copy may be in flight: nobody has waited for its phase".to_string()))
    }

    /// Its state in words: for a deadlock.
    fn describe(&self) -> String {
        let mut text = format!("phase {}: {} of {} arrivals are pending", self.phase, self.pending, self.expected);
        match self.bytes {
            0 => {}
            bytes if bytes > 0 => text += &format!(", {bytes} bytes have not come"),
            bytes => text += &format!(", {} bytes came that nobody expected", -bytes),
        }
        if !self.lines.is_empty() {
            text += &format!("; arrivals were at PTX lines {:?}", self.lines);
        }
        text
    }
}

/// The phase that a wait names.
#[derive(Clone, Copy)]
enum Phase {
    Parity(u32),
    Number(u32),
}

/// The mbarriers of a block.
#[derive(Default)]
pub(super) struct Mbarriers {
    live: BTreeMap<usize, Mbarrier>,
    /// The address of each slot. One that is initialised anew keeps its slot.
    slots: Vec<usize>,
    /// Arrivals, copies and initialisations so far: what may let a waiting warp go on.
    pub events: u64,
}

impl Mbarriers {
    pub fn clear(&mut self) {
        self.live.clear();
        self.slots.clear();
        self.events = 0;
    }

    pub fn slots(&self) -> &[usize] {
        &self.slots
    }

    /// Whether one lies in these bytes.
    pub fn lie_in(&self, at: usize, bytes: usize) -> bool {
        self.live.range(at.saturating_sub(7)..at + bytes).next().is_some()
    }
}

/// `state` of an arrival: the phase, and the arrivals that were pending before.
fn state(phase: u32, pending: u32) -> u64 {
    u64::from(phase) << 32 | u64::from(pending)
}

impl Env<'_> {
    pub(super) fn mbarrier(&mut self, warp: &mut Warp, op: &Op, mask: u32) -> Done {
        let Op::Mbarrier { area, base, offset, kind } = op else { return Ok(()) };
        let base = *warp.row(&self.program.constants, *base);
        let mut places = [0; 32];
        for lane in lanes(mask) {
            places[lane] = self.mbarrier_at(*area, base[lane].wrapping_add_signed(*offset), lane)?;
        }
        match kind {
            MbarrierOp::Init { count } => self.mbarrier_init(warp, &places, *count, mask),
            MbarrierOp::Inval => {
                for lane in lanes(mask) {
                    self.mbarrier_of(warp, lane, places[lane])?;
                    let gone = self.shared.mbarriers.live.remove(&places[lane]);
                    if let Some((kind, why)) = gone.filter(|_| self.checks).and_then(|gone| gone.unfinished()) {
                        let message = format!("mbarrier.inval of the mbarrier at {:#x}: {why}", places[lane]);
                        return Err(Fault::new(kind, lane, message));
                    }
                    self.shared.mark_mbarrier(places[lane], false);
                    self.shared.touch(places[lane], 8, Actor::thread(warp, lane), Touch::Write(true))?;
                }
                Ok(())
            }
            MbarrierOp::ExpectBytes { bytes, sign } => {
                let bytes = *warp.row(&self.program.constants, *bytes);
                for lane in lanes(mask) {
                    self.mbarrier_of(warp, lane, places[lane])?;
                    self.expect_bytes(lane, places[lane], sign * i64::from(bytes[lane] as u32))?;
                }
                Ok(())
            }
            MbarrierOp::Arrive { .. } => self.mbarrier_arrive(warp, &places, kind, mask),
            MbarrierOp::Wait { .. } => self.mbarrier_wait(warp, &places, kind, mask),
            MbarrierOp::CopiesArrive { counted } => {
                self.complete_async_copies(warp, None, mask)?;
                // The threads publish no more than that, but their clocks cannot tell copies from what they wrote themselves.
                let mut clock = Clock::default();
                self.tell_own(&mut clock, warp, mask);
                for lane in lanes(mask) {
                    let line = self.mbarrier_of(warp, lane, places[lane])?;
                    self.copies_arrive(lane, places[lane], *counted, &clock, line)?;
                }
                Ok(())
            }
        }
    }

    /// The address of an mbarrier in shared memory.
    pub(super) fn mbarrier_at(&self, area: Area, address: u64, lane: usize) -> Result<usize, Box<Fault>> {
        let (area, address) = Self::resolve(area, address);
        if area != Area::Shared {
            let message = format!("an mbarrier at {address:#x}, which is not in shared memory");
            return Err(Fault::new(TrapKind::Mbarrier, lane, message));
        }
        if !address.is_multiple_of(8) {
            let message = format!("an mbarrier at shared address {address:#x}, which is not a multiple of 8");
            return Err(Fault::new(TrapKind::Mbarrier, lane, message));
        }
        self.shared_bounds(address, 8, lane, "an mbarrier")
    }

    /// Checks that a live mbarrier lies there, whose initialisation is ordered before; returns the line of the instruction.
    pub(super) fn mbarrier_of(&self, warp: &Warp, lane: usize, at: usize) -> Result<u32, Box<Fault>> {
        let wrong = |why: &str| {
            let message = format!("there is no mbarrier at shared address {at:#x}{why}");
            Err(Fault::new(TrapKind::Mbarrier, lane, message))
        };
        let Some(found) = self.shared.mbarriers.live.get(&at) else {
            return wrong(": mbarrier.init is missing, or it was invalidated");
        };
        let (maker, born) = found.maker;
        let own = maker == Agent::thread(warp.index * 32 + lane);
        let published = || found.published && warp.knowledge.has_init(1 << lane, born);
        if self.checks && !own && !warp.knowledge.has(1 << lane, maker, born) && !published() {
            return wrong(" yet for this thread: no barrier orders it after mbarrier.init");
        }
        Ok(self.program.code[warp.at as usize].line)
    }

    fn mbarrier_init(&mut self, warp: &mut Warp, places: &[usize; 32], count: R, mask: u32) -> Done {
        let counts = *warp.row(&self.program.constants, count);
        for lane in lanes(mask) {
            let (at, count) = (places[lane], u64::from(counts[lane] as u32));
            let wrong = |message: String| Err(Fault::new(TrapKind::Mbarrier, lane, message));
            if count == 0 || count > MOST {
                return wrong(format!("an mbarrier of {count} arrivals, where 1 to {MOST} are allowed"));
            }
            if self.shared.mbarriers.live.contains_key(&at) {
                return wrong(format!("mbarrier.init at shared address {at:#x}, where a live mbarrier lies"));
            }
            if self.shared.mbarriers.lie_in(at, 8) {
                return wrong(format!("mbarrier.init at shared address {at:#x} overlaps a live mbarrier"));
            }
            self.shared.touch(at, 8, Actor::thread(warp, lane), Touch::Write(true))?;
            self.shared.mark_mbarrier(at, true);
            let known = self.shared.mbarriers.slots.iter().position(|known| *known == at);
            let slot = known.unwrap_or_else(|| {
                self.shared.mbarriers.slots.push(at);
                self.shared.mbarriers.slots.len() - 1
            });
            if slot >= MOST_SLOTS {
                return wrong(format!("more than {MOST_SLOTS} mbarriers"));
            }
            let made = Mbarrier {
                slot,
                expected: count as u32,
                pending: count as u32,
                bytes: 0,
                phase: 0,
                maker: (Agent::thread(warp.index * 32 + lane), self.shared.generation),
                published: false,
                arriving: Clock::default(),
                complete: Clock::default(),
                copied: 0,
                awaited: 0,
                copier: (0, 0, 0),
                lines: Vec::new(),
            };
            self.shared.mbarriers.live.insert(at, made);
            self.shared.mbarriers.events += 1;
        }
        Ok(())
    }

    /// `fence.mbarrier_init`: the initialisations by these lanes are known wherever a cluster's barrier was waited for, even if
    /// nothing else is.
    pub(super) fn mbarriers_published(&mut self, warp: &Warp, mask: u32) {
        for found in self.shared.mbarriers.live.values_mut() {
            found.published |= lanes(mask).any(|lane| found.maker.0 == Agent::thread(warp.index * 32 + lane));
        }
    }

    /// What the lanes publish by a release: what they know, and their own accesses up to here.
    pub(super) fn release(&mut self, warp: &Warp, mask: u32) -> Clock {
        let mut clock = warp.knowledge.together(mask);
        self.tell_own(&mut clock, warp, mask);
        clock
    }

    /// Adds the lanes' accesses up to here.
    fn tell_own(&mut self, clock: &mut Clock, warp: &Warp, mask: u32) {
        let now = self.shared.generation;
        match warp.publishing(mask) {
            u32::MAX => clock.learn_warp(warp.index, now),
            some => lanes(some).for_each(|lane| clock.learn(Agent::thread(warp.index * 32 + lane), now)),
        }
        self.shared.generation += 1;
    }

    fn mbarrier_arrive(&mut self, warp: &mut Warp, places: &[usize; 32], kind: &MbarrierOp, mask: u32) -> Done {
        let MbarrierOp::Arrive { d, count, bytes, drops, completes, relaxed } = kind else { return Ok(()) };
        let constants = &self.program.constants;
        let counts = *warp.row(constants, *count);
        let expects = bytes.map(|bytes| *warp.row(constants, bytes));
        let mut states = [0; 32];
        let mut left = mask;
        while left != 0 {
            // The lanes of one mbarrier arrive together.
            let at = places[left.trailing_zeros() as usize];
            let group = lanes(left).filter(|lane| places[*lane] == at).fold(0, |group, lane| group | 1u32 << lane);
            left &= !group;
            let clock = if *relaxed || !self.checks { None } else { Some(self.release(warp, group)) };
            let mut told = None;
            for lane in lanes(group) {
                let line = self.mbarrier_of(warp, lane, at)?;
                if let Some(bytes) = expects {
                    self.expect_bytes(lane, at, i64::from(bytes[lane] as u32))?;
                }
                let Some(found) = self.shared.mbarriers.live.get_mut(&at) else { continue };
                states[lane] = state(found.phase, found.pending);
                let wrong = |message: String| Err(Fault::new(TrapKind::Mbarrier, lane, message));
                let count = counts[lane] as u32;
                if count == 0 || u64::from(count) > MOST {
                    return wrong(format!("{count} arrivals at once, where 1 to {MOST} are allowed"));
                }
                if count > found.pending {
                    let state = found.describe();
                    return wrong(format!(
                        "{count} arrivals at the mbarrier at {at:#x}, more than its phase lacks: {state}"
                    ));
                }
                if !completes && count == found.pending && found.bytes == 0 {
                    return wrong(format!(
                        "an arrival with .noComplete completes the phase of the mbarrier at {at:#x}"
                    ));
                }
                found.pending -= count;
                if *drops {
                    found.expected -= count.min(found.expected);
                }
                if let Some(clock) = &clock
                    && told != Some(found.phase)
                {
                    found.arriving.merge(clock);
                    told = Some(found.phase);
                }
                found.arrived_at(line);
                found.settle(&mut self.shared.generation);
                self.shared.mbarriers.events += 1;
            }
        }
        warp.put(*d, &states, mask);
        Ok(())
    }

    /// Adds to the bytes that the phase expects.
    fn expect_bytes(&mut self, lane: usize, at: usize, bytes: i64) -> Done {
        let Some(found) = self.shared.mbarriers.live.get_mut(&at) else { return Ok(()) };
        found.bytes += bytes;
        if found.bytes.unsigned_abs() > MOST {
            let message = format!("the mbarrier at {at:#x} counts {} bytes in flight, beyond {MOST}", found.bytes);
            return Err(Fault::new(TrapKind::Mbarrier, lane, message));
        }
        found.settle(&mut self.shared.generation);
        self.shared.mbarriers.events += 1;
        Ok(())
    }

    /// A bulk copy's bytes have come.
    pub(super) fn complete_copy(&mut self, warp: &Warp, lane: usize, at: usize, bytes: usize) -> Done {
        if let Some(found) = self.shared.mbarriers.live.get_mut(&at) {
            found.copied = self.shared.generation;
            found.copier = (warp.index, lane, warp.at);
        }
        self.expect_bytes(lane, at, -(bytes as i64))
    }

    /// The agent of the copies that signal an mbarrier.
    pub(super) fn copies_to(&self, at: usize) -> Agent {
        self.shared.mbarriers.live.get(&at).map_or(Agent::NOBODY, |found| Agent::copies(found.slot))
    }

    /// `cp.async.mbarrier.arrive`, by a thread whose copies are complete. Unless the arrival is `counted`, the phase waits for one
    /// more.
    fn copies_arrive(&mut self, lane: usize, at: usize, counted: bool, clock: &Clock, line: u32) -> Done {
        let Some(found) = self.shared.mbarriers.live.get_mut(&at) else { return Ok(()) };
        if counted && found.pending == 0 {
            let state = found.describe();
            let message = format!("more arrivals at the mbarrier at {at:#x} than its phase lacks: {state}");
            return Err(Fault::new(TrapKind::Mbarrier, lane, message));
        }
        found.pending -= u32::from(counted);
        found.arriving.merge(clock);
        found.arrived_at(line);
        found.settle(&mut self.shared.generation);
        self.shared.mbarriers.events += 1;
        Ok(())
    }

    fn mbarrier_wait(&mut self, warp: &mut Warp, places: &[usize; 32], kind: &MbarrierOp, mask: u32) -> Done {
        let MbarrierOp::Wait { p, phase, parity, blocks, relaxed } = kind else { return Ok(()) };
        let phases = *warp.row(&self.program.constants, *phase);
        let mut done = 0;
        for lane in lanes(mask) {
            let at = places[lane];
            self.mbarrier_of(warp, lane, at)?;
            let Some(found) = self.shared.mbarriers.live.get(&at) else { continue };
            let wrong = |message: String| Err(Fault::new(TrapKind::Mbarrier, lane, message));
            let phase = if *parity {
                if phases[lane] > 1 {
                    return wrong(format!("a wait for the parity {}, which is neither 0 nor 1", phases[lane]));
                }
                Phase::Parity(phases[lane] as u32)
            } else {
                Phase::Number((phases[lane] >> 32) as u32)
            };
            if let Phase::Number(number) = phase
                && found.phase.wrapping_sub(number) > 1
            {
                let now = found.phase;
                return wrong(format!("a wait for phase {number} of the mbarrier at {at:#x}, which is in phase {now}"));
            }
            done |= u32::from(found.has_completed(phase)) << lane;
        }
        if done == 0 && *blocks && !std::mem::take(&mut warp.timed_out) {
            // Other lanes of the warp may be those that are waited for.
            if !warp.park(self.shared.mbarriers.events) {
                warp.state = State::Waiting(Wait::Mbarrier);
            }
            warp.again = true;
            return Ok(());
        }
        let mut left = if *relaxed || !self.checks { 0 } else { done };
        while left != 0 {
            let at = places[left.trailing_zeros() as usize];
            let group = lanes(left).filter(|lane| places[*lane] == at).fold(0, |group, lane| group | 1u32 << lane);
            left &= !group;
            if let Some(found) = self.shared.mbarriers.live.get_mut(&at) {
                warp.knowledge.acquire(group, warp.live, &found.complete);
                if found.complete.has(Agent::copies(found.slot), found.copied) {
                    found.awaited = found.copied;
                }
            }
        }
        warp.put_predicate(*p, done, mask);
        Ok(())
    }

    /// Whether the wait at which a warp is suspended is over, on either side of a branch. The warp goes on with that side.
    pub(super) fn is_over(&self, warp: &mut Warp) -> bool {
        if self.returns_true(warp, &warp.now) {
            return true;
        }
        let over = warp.parked().is_some_and(|other| self.returns_true(warp, other));
        if over {
            warp.switch();
        }
        over
    }

    /// Whether the wait at which the lanes of a frame are suspended would return true for one of them.
    fn returns_true(&self, warp: &Warp, frame: &Frame) -> bool {
        let instr = &self.program.code[frame.pc as usize];
        let Op::Mbarrier { area, base, offset, kind: MbarrierOp::Wait { phase, parity, .. } } = &instr.op else {
            return true;
        };
        let constants = &self.program.constants;
        let (base, phases) = (warp.row(constants, *base), warp.row(constants, *phase));
        lanes(frame.mask & instr.guard.lanes(&warp.predicates)).any(|lane| {
            let (_, at) = Self::resolve(*area, base[lane].wrapping_add_signed(*offset));
            let phase =
                if *parity { Phase::Parity(phases[lane] as u32) } else { Phase::Number((phases[lane] >> 32) as u32) };
            self.shared.mbarriers.live.get(&(at as usize)).is_none_or(|found| found.has_completed(phase))
        })
    }

    /// What a suspended warp waits for, in words.
    pub(super) fn awaited(&self, warp: &Warp) -> String {
        let instr = &self.program.code[warp.at as usize];
        let Op::Mbarrier { area, base, offset, .. } = &instr.op else { return String::new() };
        let mask = warp.now.mask & instr.guard.lanes(&warp.predicates);
        let lane = mask.trailing_zeros() as usize % 32;
        let (_, at) = Self::resolve(*area, warp.row(&self.program.constants, *base)[lane].wrapping_add_signed(*offset));
        let state = self.shared.mbarriers.live.get(&(at as usize)).map_or("none is there".into(), Mbarrier::describe);
        format!("warp {} (PTX line {}) waits for the mbarrier at {at:#x}, {state}", warp.index, instr.line)
    }

    /// At the block's end no copy may be in flight, and no bytes out of balance.
    pub(super) fn mbarriers_at_end(&self, warps: &mut [Warp]) -> Result<(), (usize, Fault)> {
        for (at, found) in &self.shared.mbarriers.live {
            if let Some((kind, why)) = found.unfinished() {
                let (warp, lane, pc) = found.copier;
                warps[warp].at = pc;
                let message = format!("the block ends with this copy to the mbarrier at {at:#x}: {why}");
                return Err((warp, *Fault::new(kind, lane, message)));
            }
        }
        Ok(())
    }
}

impl Mbarrier {
    fn arrived_at(&mut self, line: u32) {
        if self.lines.len() < 8 && !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }
}
