//! The operations that can be enqueued on a stream, and their execution.

use std::io::Write;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use super::abi::{self, Handle, HostFunction, StreamCallback, UserData};
use super::boundary::{Outcome, say};
use super::capture::StreamKey;
use super::error::Code;
use super::graph::Graph;
use super::host::run_host_function;
use super::order::{Stamp, What};
use super::queue::Ticket;
use super::state::{Driver, Failure, Moment, State, lock};
use crate::machine::{Counts, Kernel, Launch, Machine, MemoryError, Operation, Question, TrapKind};

/// The driver and the current context of a call in progress.
pub struct Current {
    pub driver: &'static Driver,
    pub context: Handle,
}

/// The source or the destination of a copy.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Device(u64),
    Host(usize),
}

/// An operation. Host buffers are accessed when it is executed, so a replayed graph sees their contents at that time. A
/// kernel's arguments are copied when the launch is enqueued.
#[derive(Clone)]
pub enum Op {
    Launch(Arc<LaunchOp>),
    Copy {
        to: Place,
        from: Place,
        bytes: usize,
    },
    /// A copy from pageable memory, which the caller may change as soon as the call has returned.
    Write {
        to: u64,
        from: Arc<[u8]>,
    },
    Fill {
        to: u64,
        pattern: [u8; 4],
        width: usize,
        count: usize,
    },
    Call {
        function: HostFunction,
        data: UserData,
    },
    CallBack {
        function: StreamCallback,
        data: UserData,
        stream: Handle,
    },
    Graph(Arc<Graph>),
    Alloc(Arc<GraphMemory>),
    Free,
    /// `cuMemFreeAsync` behind queued work.
    Release(u64),
    Record {
        event: Handle,
        ticket: Ticket,
    },
    /// Executes nothing. The stream's later work waits for it.
    Wait,
}

pub struct LaunchOp {
    pub kernel: Arc<Kernel>,
    pub launch: Launch,
    pub params: Vec<u8>,
    /// The context whose device executes it, also when a graph is launched in another.
    pub context: Handle,
    pub stream: StreamKey,
    /// Whether it may begin ahead of the end of the kernel before it on its stream (programmatic stream serialization).
    pub programmatic: bool,
}

/// Memory that a capture allocated. It keeps its address as long as a graph of that capture exists.
pub struct GraphMemory {
    pub machine: &'static Machine,
    pub address: u64,
}

impl Drop for GraphMemory {
    fn drop(&mut self) {
        // Only this drop frees a graph's memory, so there is no error to report.
        let _ = self.machine.free(self.address);
    }
}

impl Op {
    /// The type of this operation's graph node (`CUgraphNodeType`).
    pub fn node_type(&self) -> i32 {
        match self {
            Op::Launch(_) => 0,
            Op::Copy { .. } | Op::Write { .. } => 1,
            Op::Fill { .. } => 2,
            Op::Call { .. } | Op::CallBack { .. } => 3,
            Op::Graph(_) => 4,
            Op::Alloc(_) => 10,
            Op::Free | Op::Release(_) => 11,
            Op::Wait => 6,
            Op::Record { .. } => 7,
        }
    }

    /// Whether the program's own code runs in it.
    fn calls_host(&self) -> bool {
        match self {
            Op::Call { .. } | Op::CallBack { .. } => true,
            Op::Graph(graph) => graph.nodes.iter().any(|node| node.op.calls_host()),
            _ => false,
        }
    }
}

impl Current {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.driver.state()
    }

    /// Enqueues an operation: records it if the stream is being captured; queues it if it runs the program's code or
    /// comes after such an operation; else executes it, unless the context has failed.
    pub fn enqueue(&self, stream: Handle, op: Op) -> Outcome {
        let key = self.stream(stream)?;
        let mut state = self.state();
        if matches!(op, Op::Launch(_)) {
            state.after_kernel.insert((self.context, key));
        } else {
            state.after_kernel.remove(&(self.context, key));
        }
        if state.record(self.context, key, &op)? {
            return Ok(());
        }
        let mut stamp = state.stamp(self.context, key);
        let before = state.before(self.context, key);
        // As the manual says of pageable memory: a copy from it has left it when the call returns, and a copy to it is
        // complete.
        let pageable = |place: &Place| matches!(place, Place::Host(at) if !state.pinned.contains(*at));
        stamp.waited = matches!(&op, Op::Copy { to, .. } if pageable(to));
        if stamp.waited || before.is_empty() && !op.calls_host() {
            drop(state);
            self.driver.settle(&before);
            self.state().order.let_go(&mut stamp);
            self.execute(&op, &stamp)?;
            if stamp.waited {
                self.learn(&stamp.clock);
            }
            return Ok(());
        }
        match op {
            Op::Copy { to: Place::Device(to), from: from @ Place::Host(at), bytes } if pageable(&from) => {
                let from = abi::host(at, bytes)?.into();
                state.defer(key, [], stamp, |_| Op::Write { to, from }).map(drop)
            }
            op => state.defer(key, [], stamp, |_| op).map(drop),
        }
    }

    /// Executes the operation of a blocking call, on the legacy stream.
    pub fn perform(&self, op: Op) -> Outcome {
        self.before_blocking()?;
        let mut stamp = Stamp { waited: true, ..self.state().stamp(self.context, StreamKey::Legacy) };
        self.settle(StreamKey::Legacy);
        self.state().order.let_go(&mut stamp);
        self.execute(&op, &stamp)?;
        self.learn(&stamp.clock);
        self.report()
    }

    /// Waits for a stream's queued work.
    pub fn settle(&self, key: StreamKey) {
        let before = self.state().before(self.context, key);
        self.driver.settle(&before);
    }

    /// The check for every blocking call on the legacy stream: fails if a capture in progress forbids it.
    pub fn before_blocking(&self) -> Outcome {
        self.state().use_legacy(self.context)?;
        self.unsafe_while_capturing()
    }

    /// The check for every call that may wait for the device implicitly, such as an allocation.
    pub fn unsafe_while_capturing(&self) -> Outcome {
        self.state().unsafe_call()
    }

    /// Waits for all work of the context.
    pub fn wait(&self) -> Outcome {
        self.driver.settle_context(self.context);
        self.learn_all();
        self.report()
    }

    /// Checks that what used an allocation happened before its release.
    pub fn releasable(&self, address: u64, stamp: &Stamp) -> Outcome {
        self.as_operation(stamp, "its release", |operation| self.driver.machine.releasable(address, operation))
    }

    /// Executes an access of the driver itself as an operation of a stream.
    fn as_operation(
        &self,
        stamp: &Stamp,
        what: &'static str,
        access: impl FnOnce(&Operation) -> Result<(), MemoryError>,
    ) -> Outcome {
        match self.numbered(stamp, What::Other(what), access) {
            Err(race @ MemoryError::StreamRace(_)) => {
                self.lose(stamp.context, race);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Gives an operation its number, and the machine an answer to what happened before it.
    fn numbered<T>(&self, stamp: &Stamp, what: What, run: impl FnOnce(&Operation) -> T) -> T {
        let number = {
            let order = &mut self.state().order;
            order.executing += 1;
            order.number(stamp, &what)
        };
        let answer = |low: u64, did: &str| self.state().order.unordered(stamp, &what, low, did);
        let question: Question = &answer;
        let result = run(&Operation { number, ahead: None, question: stamp.watched.then_some(question) });
        self.state().order.executing -= 1;
        result
    }

    /// Reports a failure of the context, as every call does that waits for the device.
    pub fn report(&self) -> Outcome {
        match &mut self.state().context(self.context)?.failure {
            None => Ok(()),
            Some(failure) => {
                failure.reported = true;
                Err(failure.code.into())
            }
        }
    }

    fn failed(&self) -> Outcome<bool> {
        Ok(self.state().context(self.context)?.failure.is_some())
    }

    pub fn execute(&self, op: &Op, stamp: &Stamp) -> Outcome {
        if let Op::Record { event, ticket } = op {
            if let Some(event) = self.state().events.get_mut(event)
                && matches!(event.state, Moment::Pending(latest) if latest == *ticket)
            {
                event.state = Moment::At(Instant::now());
            }
            return Ok(());
        }
        // Like a card after a fault, a failed context executes nothing more.
        if self.failed()? {
            return Ok(());
        }
        let machine = &self.driver.machine;
        match op {
            Op::Launch(launch) => self.launch(launch, stamp),
            Op::Copy { to, from, bytes } => self.copy(*to, *from, *bytes, stamp),
            Op::Write { to, from } => {
                let _device = lock(&self.driver.device);
                self.as_operation(stamp, "a copy to the device", |operation| machine.write_as(*to, from, operation))
            }
            Op::Fill { to, pattern, width, count } => {
                let _device = lock(&self.driver.device);
                let fill = |operation: &Operation| machine.fill_as(*to, &pattern[..*width], *count, operation);
                self.as_operation(stamp, "a memset", fill)
            }
            Op::Call { function, data } => {
                self.host_function(stamp, || function.iter().for_each(|function| data.call(*function)));
                Ok(())
            }
            Op::CallBack { function, data, stream } => {
                self.host_function(stamp, || function.iter().for_each(|function| data.call_back(*function, *stream)));
                Ok(())
            }
            Op::Graph(graph) => graph.nodes.iter().try_for_each(|node| self.execute(&node.op, stamp)),
            Op::Release(address) => {
                self.releasable(*address, stamp)?;
                Ok(machine.free(*address)?)
            }
            Op::Alloc(_) | Op::Free | Op::Record { .. } | Op::Wait => Ok(()),
        }
    }

    /// Runs the program's code. It may tell the host's threads what its stream has done.
    fn host_function(&self, stamp: &Stamp, run: impl FnOnce()) {
        self.learn(&stamp.clock);
        run_host_function(run);
        self.state().order.host_function_ended();
    }

    fn copy(&self, to: Place, from: Place, bytes: usize, stamp: &Stamp) -> Outcome {
        let machine = &self.driver.machine;
        let Some(buffers) = self.host_buffers(to, from, bytes, stamp) else { return Ok(()) };
        let device = lock(&self.driver.device);
        match (to, from) {
            (Place::Device(to), Place::Device(from)) => {
                let copy = |operation: &Operation| machine.copy_as(to, from, bytes, operation);
                self.as_operation(stamp, "a copy within the device", copy)?;
            }
            (Place::Device(to), Place::Host(from)) => {
                let from = abi::host(from, bytes)?;
                self.as_operation(stamp, "a copy to the device", |operation| machine.write_as(to, from, operation))?;
            }
            (Place::Host(to), Place::Device(from)) => {
                let to = abi::host_mut(to, bytes)?;
                self.as_operation(stamp, "a copy to the host", |operation| machine.read_as(from, to, operation))?;
            }
            (Place::Host(to), Place::Host(from)) => abi::host_to_host(to, from, bytes)?,
        }
        drop(device);
        self.hold(&buffers, bytes, stamp);
        Ok(())
    }

    fn launch(&self, op: &LaunchOp, stamp: &Stamp) -> Outcome {
        let reach = self.state().reach(op.context)?;
        let outcome = self.numbered(stamp, What::Kernel(op.kernel.clone()), |operation| {
            let before = self.state().launched.insert((self.context, op.stream), operation.number);
            let operation = Operation { ahead: before.filter(|_| op.programmatic), ..*operation };
            let _device = lock(&self.driver.device);
            self.driver.machine.launch_as(&operation, &reach, &op.kernel, &op.launch, &op.params)
        });
        match outcome {
            Ok(counts) => self.write_counts(op, &counts),
            // A launch refused before it began fails at once, and leaves the context intact.
            Err(trap) if matches!(trap.kind, TrapKind::LaunchOutOfResources | TrapKind::InvalidLaunch) => {
                Err(Code::from(trap.kind).because(trap.to_string()))
            }
            Err(trap) => {
                say(&trap);
                self.state().context(self.context)?.failure = Some(Failure { code: trap.kind.into(), reported: false });
                Ok(())
            }
        }
    }

    fn write_counts(&self, op: &LaunchOp, counts: &Counts) -> Outcome {
        let Some((path, file)) = &self.driver.settings.counts else { return Ok(()) };
        let Launch { grid, block, dynamic_shared } = op.launch;
        let line = format!(
            "{{\"kernel\":\"{}\",\"stream\":{},\"grid\":{grid:?},\"block\":{block:?},\"dynamic_shared\":{dynamic_shared},\
             \"counts\":{}}}\n",
            op.kernel.name(),
            op.stream.handle(),
            counts.to_json()
        );
        // One write for the whole line, so that lines of processes that share the file do not interleave.
        let mut file = file;
        file.write_all(line.as_bytes())
            .map_err(|e| Code::OperatingSystem.because(format!("VIRTUAL_GPU_COUNTS={}: {e}", path.display())))
    }

    /// The stream of a handle in this context: a created stream, or a default stream.
    pub fn stream(&self, handle: Handle) -> Outcome<StreamKey> {
        StreamKey::of(&self.state(), self.context, handle)
    }
}
