//! One device: its memory, the modules loaded on it, and the launches that it executes and checks.

mod counts;
mod decode;
mod flow;
mod memory;
mod program;
mod space;
mod trap;

use std::sync::Arc;

pub use counts::{Class, Counts};
use memory::Memory;
pub use memory::MemoryError;
pub use trap::{LoadError, Trap, TrapKind};

/// What a device is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub compute_capability: (u32, u32),
    /// Whether launches are checked; without, out-of-bounds accesses are still caught.
    pub checks: bool,
    /// Whether launches are counted.
    pub count: bool,
    /// Bytes of global memory.
    pub memory: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { compute_capability: (8, 0), checks: true, count: false, memory: 8 << 30 }
    }
}

/// The shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: usize,
}

/// One parameter's place among a kernel's parameter bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    pub offset: usize,
    pub size: usize,
    pub align: usize,
}

/// One device. Every method may be called from any thread.
pub struct Machine {
    config: Config,
    memory: Arc<Memory>,
}

impl Machine {
    pub fn new(config: Config) -> Machine {
        let memory = Arc::new(Memory::new(config.memory, config.checks));
        Machine { config, memory }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A 256-byte aligned address of `bytes` bytes that count as unwritten.
    pub fn alloc(&self, bytes: usize) -> Result<u64, MemoryError> {
        self.memory.alloc(bytes)
    }

    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        self.memory.free(address)
    }

    /// Base and size of the allocation that holds `address`.
    pub fn allocation(&self, address: u64) -> Option<(u64, usize)> {
        self.memory.find(address).map(|found| (found.base, found.size))
    }

    /// Free and total bytes.
    pub fn memory(&self) -> (usize, usize) {
        self.memory.usage()
    }

    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(address, into)
    }

    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(address, from)
    }

    /// Writes `pattern`, `count` times.
    pub fn fill(&self, address: u64, pattern: &[u8], count: usize) -> Result<(), MemoryError> {
        self.memory.fill(address, pattern, count)
    }

    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), MemoryError> {
        self.memory.copy(to, from, bytes)
    }

    pub fn load(&self, _ptx: &str) -> Result<Module, LoadError> {
        Err(LoadError::new(0, "no PTX is understood yet"))
    }

    pub fn launch(&self, kernel: &Kernel, _launch: &Launch, _params: &[u8]) -> Result<Counts, Trap> {
        Err(Trap {
            kind: TrapKind::LaunchFailed,
            kernel: kernel.name.clone(),
            block: [0; 3],
            thread: [0; 3],
            ptx_line: 0,
            source: None,
            message: String::new(),
        })
    }
}

/// PTX that was loaded.
pub struct Module {
    kernels: Vec<Arc<Kernel>>,
    globals: Vec<(String, u64, usize)>,
}

impl Module {
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.iter().find(|kernel| kernel.name == name).cloned()
    }

    /// Address and size of a `.global` or `.const` variable.
    pub fn global(&self, name: &str) -> Option<(u64, usize)> {
        self.globals.iter().find(|global| global.0 == name).map(|global| (global.1, global.2))
    }

    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|kernel| kernel.name.as_str())
    }
}

/// One kernel of a module.
pub struct Kernel {
    name: String,
    params: Vec<Param>,
    static_shared: usize,
    local_bytes: usize,
    registers: usize,
    max_threads: usize,
}

impl Kernel {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn params(&self) -> &[Param] {
        &self.params
    }

    pub fn param_bytes(&self) -> usize {
        self.params.iter().map(|param| param.offset + param.size).max().unwrap_or(0)
    }

    pub fn static_shared(&self) -> usize {
        self.static_shared
    }

    pub fn local_bytes(&self) -> usize {
        self.local_bytes
    }

    pub fn registers(&self) -> usize {
        self.registers
    }

    pub fn max_threads(&self) -> usize {
        self.max_threads
    }
}
