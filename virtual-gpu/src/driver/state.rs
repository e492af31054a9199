//! The driver's state: its devices, and a table for each kind of handle.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::abi::Handle;
use super::boundary::Outcome;
use super::capture::{Capture, StreamKey};
use super::error::{Code, Fault};
use super::graph::Graph;
use super::managed::Advice;
use super::order::{Clock, Order};
use super::pool::Pool;
use super::queue::{Queue, Ticket, Unfinished};
use super::settings::Settings;
use crate::machine::{Config, Kernel, Machine, Module};

/// The driver, created by the first `cuInit`.
pub struct Driver {
    pub settings: Settings,
    pub machine: Machine,
    /// Held while the device executes: threads that use several streams take turns.
    pub device: Mutex<()>,
    state: Mutex<State>,
    /// Signalled when a queued operation has been executed.
    pub finished: Condvar,
    /// The process that called `cuInit`.
    process: u32,
}

/// The tables. Locked only briefly, never while the device executes or a host function runs.
pub struct State {
    last: Handle,
    pub devices: Vec<Device>,
    pub contexts: HashMap<Handle, Context>,
    pub streams: HashMap<Handle, Stream>,
    pub events: HashMap<Handle, Event>,
    pub modules: HashMap<Handle, Loaded>,
    pub functions: HashMap<Handle, Function>,
    pub graphs: HashMap<Handle, Graph>,
    pub execs: HashMap<Handle, Arc<Graph>>,
    pub captures: HashMap<u64, Capture>,
    pub captures_begun: u64,
    pub pools: HashMap<Handle, Pool>,
    /// Pools, and the devices besides their own that may access their memory. Kept when a pool is destroyed, because its
    /// memory stays.
    pub opened: HashSet<(Handle, usize)>,
    /// The program's device allocations, by address.
    pub allocations: HashMap<u64, Allocation>,
    /// The advice for each page of a managed allocation, by address; empty until there is any.
    pub managed: HashMap<u64, Vec<Advice>>,
    pub pinned: super::host::Pinned,
    /// The streams on which a kernel was enqueued last, and the number of each stream's last launch.
    pub after_kernel: HashSet<(Handle, StreamKey)>,
    pub launched: HashMap<(Handle, StreamKey), u64>,
    pub tickets: Ticket,
    /// The queued operations that have not ended.
    pub unfinished: BTreeMap<Ticket, Unfinished>,
    pub queues: HashMap<(Handle, StreamKey), Queue>,
    pub order: Order,
}

/// What a device has by itself.
pub struct Device {
    /// The primary context, and its reference count.
    pub primary: Option<(Handle, u32)>,
    pub primary_flags: u32,
    pub default_pool: Handle,
    pub current_pool: Handle,
}

#[derive(Clone, Copy)]
pub struct Failure {
    pub code: Code,
    /// Whether a waiting call has returned the code to the program.
    pub reported: bool,
}

pub struct Context {
    pub id: u64,
    pub device: usize,
    /// The contexts to which it has peer access.
    pub peers: HashSet<Handle>,
    pub primary: bool,
    pub flags: u32,
    pub cache_config: i32,
    pub shared_config: i32,
    pub limits: HashMap<i32, usize>,
    pub failure: Option<Failure>,
}

#[derive(Clone, Copy)]
pub struct Stream {
    pub context: Handle,
    pub flags: u32,
    pub priority: i32,
}

pub struct Event {
    pub context: Handle,
    pub flags: u32,
    pub state: Moment,
    /// What happened before it was recorded.
    pub clock: Clock,
}

/// The point in time at which an event was recorded.
#[derive(Clone)]
pub enum Moment {
    Never,
    At(Instant),
    /// Recorded behind queued work, in the operation of this ticket.
    Pending(Ticket),
    /// A point in a capture: the nodes that precede it.
    Captured {
        capture: u64,
        after: Vec<usize>,
    },
}

pub struct Loaded {
    pub context: Handle,
    pub module: Module,
    pub ptx_version: (u32, u32),
    /// Loaded by `cuLibraryLoad…`, not by `cuModuleLoad…`.
    pub library: bool,
    /// The handles of functions looked up so far, by name.
    pub functions: HashMap<String, Handle>,
    pub names: Vec<String>,
}

#[derive(Clone)]
pub struct Function {
    pub module: Handle,
    pub kernel: Arc<Kernel>,
    /// The zero-terminated name for `cuFuncGetName`.
    pub name: Arc<std::ffi::CString>,
    pub dynamic_shared_limit: usize,
    pub carveout: i32,
}

#[derive(Clone, Copy)]
pub struct Allocation {
    pub context: Handle,
    pub bytes: usize,
    pub owner: Owner,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// `cuMemAlloc`.
    Program,
    /// `cuMemAllocManaged`.
    Managed,
    /// `cuMemAllocAsync`, `cuMemAllocFromPoolAsync`.
    Pool(Handle),
    /// Allocated while a stream was captured; freed with the graph.
    Graph,
}

/// Locks a mutex, ignoring poisoning: the worst that a panic leaves behind is a missing table entry.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static DRIVER: OnceLock<Driver> = OnceLock::new();

/// The driver, if `cuInit` was called in this process. A forked child has none, as with a card; here it lacks the
/// worker threads.
pub fn driver() -> Outcome<&'static Driver> {
    let driver = DRIVER.get().filter(|driver| driver.process == std::process::id());
    driver.ok_or(Code::NotInitialized.into())
}

/// Creates the driver if it does not exist.
pub fn initialise() -> Outcome {
    if DRIVER.get().is_some() {
        return driver().map(drop);
    }
    let settings = Settings::from_environment().map_err(|why| Code::InvalidValue.because(why))?;
    DRIVER.get_or_init(|| Driver::new(settings));
    Ok(())
}

impl Driver {
    fn new(settings: Settings) -> Driver {
        let config = Config {
            compute_capability: settings.compute_capability,
            checks: settings.checks,
            ordered_sums: settings.ordered_sums,
            count: settings.counts.is_some(),
            memory: settings.memory,
            devices: settings.devices,
        };
        let mut state = State {
            // Handles start well above the three numbers of the default streams.
            last: 0xC0DA_0000,
            devices: Vec::new(),
            contexts: HashMap::new(),
            streams: HashMap::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            graphs: HashMap::new(),
            execs: HashMap::new(),
            captures: HashMap::new(),
            captures_begun: 0,
            pools: HashMap::new(),
            opened: HashSet::new(),
            allocations: HashMap::new(),
            managed: HashMap::new(),
            pinned: Default::default(),
            after_kernel: HashSet::new(),
            launched: HashMap::new(),
            tickets: 0,
            unfinished: BTreeMap::new(),
            queues: HashMap::new(),
            order: Order::new(config.checks),
        };
        for device in 0..settings.devices {
            let pool = state.handle();
            state.pools.insert(pool, Pool::of(device));
            state.devices.push(Device { primary: None, primary_flags: 0, default_pool: pool, current_pool: pool });
        }
        Driver {
            settings,
            machine: Machine::new(config),
            device: Mutex::new(()),
            state: Mutex::new(state),
            finished: Condvar::new(),
            process: std::process::id(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// A new handle, never issued before. The stride suits programs that check alignment.
    pub fn handle(&mut self) -> Handle {
        self.last += 0x10;
        self.last
    }

    pub fn context(&mut self, handle: Handle) -> Outcome<&mut Context> {
        // A number up to the last one issued may have been a context; the real driver distinguishes the two cases.
        let gone = if handle != 0 && handle <= self.last { Code::ContextIsDestroyed } else { Code::InvalidContext };
        self.contexts.get_mut(&handle).ok_or(gone.into())
    }

    /// Removes a context and everything created in it; returns the addresses to be freed on the device.
    pub fn remove_context(&mut self, context: Handle) -> Vec<u64> {
        self.contexts.remove(&context);
        for other in self.contexts.values_mut() {
            other.peers.remove(&context);
        }
        self.streams.retain(|_, stream| stream.context != context);
        self.events.retain(|_, event| event.context != context);
        self.captures.retain(|_, capture| capture.context != context);
        let modules: Vec<Handle> =
            self.modules.iter().filter(|(_, loaded)| loaded.context == context).map(|(handle, _)| *handle).collect();
        for module in modules {
            self.modules.remove(&module);
            self.functions.retain(|_, function| function.module != module);
        }
        let mut freed = Vec::new();
        self.allocations.retain(|address, allocation| {
            let keep = allocation.context != context || allocation.owner == Owner::Graph;
            if !keep {
                freed.push(*address);
            }
            keep
        });
        self.managed.retain(|address, _| !freed.contains(address));
        freed
    }
}

/// The table entry of a handle, or `INVALID_HANDLE`.
pub fn find<T>(table: &HashMap<Handle, T>, handle: Handle) -> Result<&T, Fault> {
    table.get(&handle).ok_or(Code::InvalidHandle.into())
}

/// [`find`] for a mutable entry.
pub fn find_mut<T>(table: &mut HashMap<Handle, T>, handle: Handle) -> Result<&mut T, Fault> {
    table.get_mut(&handle).ok_or(Code::InvalidHandle.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(status: i32) -> !;
    }

    #[test]
    fn a_forked_process_has_no_driver() {
        assert!(initialise().is_ok() && driver().is_ok());
        // SAFETY: glibc's functions, called as documented; the child takes no lock and allocates nothing.
        let status = unsafe {
            let child = fork();
            if child == 0 {
                let lost = |outcome: Outcome| outcome.is_err_and(|fault| fault.code == Code::NotInitialized);
                _exit(if lost(driver().map(drop)) && lost(initialise()) { 0 } else { 1 });
            }
            let mut status = -1;
            assert_eq!(waitpid(child, &mut status, 0), child);
            status
        };
        assert_eq!(status, 0);
    }
}
