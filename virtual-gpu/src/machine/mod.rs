//! The simulated devices: their memory, the modules loaded on them, and the launches that they execute and check.

mod access;
mod agent;
mod alike;
mod allocate;
mod barrier;
mod bulk;
mod clock;
mod collective;
mod copies;
mod counts;
mod decode;
mod exec;
mod flight;
mod flow;
mod footprint;
mod knowledge;
mod launch;
mod mbarrier;
mod memory;
mod order;
mod program;
mod reach;
mod readers;
mod registers;
mod rows;
mod shared;
mod space;
mod trap;
mod warp;
mod wgmma;

use std::sync::Arc;

use crate::arith::tensor_core::{Sums, TensorCore};
use crate::ptx::{self, ast::Space};

pub use counts::{Class, Counts};
pub use launch::launch_number;
pub(crate) use launch::most_shared;
use memory::Memory;
pub use memory::MemoryError;
pub use order::{NUMBER, Operation, Question};
pub use reach::{Home, Reach};
use registers::entry_registers;
pub use trap::{LoadError, Trap, TrapKind};

/// The properties of a machine's devices, which are all alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub compute_capability: (u32, u32),
    /// Whether launches are checked. Without checks, out-of-bounds accesses are still caught.
    pub checks: bool,
    /// Whether matrix products are summed in the order of k, which is faster, and not as the card's tensor cores sum them.
    pub ordered_sums: bool,
    /// Whether launches are counted.
    pub count: bool,
    /// Bytes of global memory of each device.
    pub memory: usize,
    pub devices: usize,
}

impl Config {
    pub(crate) fn sums(&self) -> Sums {
        if self.ordered_sums { Sums::Ordered } else { Sums::Core(TensorCore::of(self.compute_capability)) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            compute_capability: (8, 0),
            checks: true,
            ordered_sums: false,
            count: false,
            memory: 8 << 30,
            devices: 1,
        }
    }
}

/// The shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: usize,
}

/// The place of one parameter in a kernel's parameter bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    pub offset: usize,
    pub size: usize,
    pub align: usize,
}

/// One device or several, which share one space of addresses. What names no device concerns the first, or the device of the
/// address. Every method may be called from any thread.
pub struct Machine {
    config: Config,
    memory: Arc<Memory>,
    instruction_limit: u64,
}

impl Machine {
    pub fn new(config: Config) -> Machine {
        let memory = Arc::new(Memory::new(config.memory, config.devices, config.checks));
        Machine { config, memory, instruction_limit: 1 << 31 }
    }

    /// Sets the instruction limit: a block that executes more warp instructions traps as a deadlock.
    pub fn instruction_limit(self, instruction_limit: u64) -> Machine {
        Machine { instruction_limit, ..self }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Allocates `bytes` bytes that count as unwritten; returns their address, a multiple of 256.
    pub fn alloc(&self, bytes: usize) -> Result<u64, MemoryError> {
        self.alloc_at(Home::default(), bytes)
    }

    pub fn alloc_at(&self, home: Home, bytes: usize) -> Result<u64, MemoryError> {
        self.alloc_as(home, bytes, 0)
    }

    /// The same, as an operation in a stream's order: an access that it did not happen before is a trap.
    pub fn alloc_as(&self, home: Home, bytes: usize, number: u64) -> Result<u64, MemoryError> {
        self.memory.alloc(bytes, home, false, number)
    }

    /// Allocates `bytes` bytes that the host and every device may access at the returned address, a multiple of 4096,
    /// until they are freed. They are zero, count as written, and are part of `device`'s memory.
    pub fn alloc_managed(&self, device: usize, bytes: usize) -> Result<u64, MemoryError> {
        self.memory.alloc(bytes, Home { device, pool: None }, true, 0)
    }

    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        self.memory.free(address)
    }

    /// Base and size of the allocation that holds `address`.
    pub fn allocation(&self, address: u64) -> Option<(u64, usize)> {
        self.memory.find(address).map(|found| (found.base, found.size))
    }

    /// Where the allocation that holds `address` is.
    pub fn home(&self, address: u64) -> Option<Home> {
        self.memory.find(address).map(|found| found.home)
    }

    /// Free and total bytes of a device's memory.
    pub fn memory(&self, device: usize) -> (usize, usize) {
        self.memory.usage(device)
    }

    /// Checks that every operation that used an allocation happened before this one, which frees it.
    pub fn releasable(&self, address: u64, by: &Operation) -> Result<(), MemoryError> {
        self.memory.releasable(address, by)
    }

    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.read_as(address, into, &Operation::default())
    }

    pub fn read_as(&self, address: u64, into: &mut [u8], by: &Operation) -> Result<(), MemoryError> {
        self.memory.read(address, into, by)
    }

    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.write_as(address, from, &Operation::default())
    }

    pub fn write_as(&self, address: u64, from: &[u8], by: &Operation) -> Result<(), MemoryError> {
        self.memory.write(address, from, by)
    }

    /// Writes `pattern` `count` times in a row.
    pub fn fill_as(&self, address: u64, pattern: &[u8], count: usize, by: &Operation) -> Result<(), MemoryError> {
        self.memory.fill(address, pattern, count, by)
    }

    pub fn copy_as(&self, to: u64, from: u64, bytes: usize, by: &Operation) -> Result<(), MemoryError> {
        self.memory.copy(to, from, bytes, by)
    }

    /// Decodes every function of a module and allocates memory for its variables.
    pub fn load(&self, ptx: &str) -> Result<Module, LoadError> {
        self.load_on(0, ptx)
    }

    pub fn load_on(&self, device: usize, ptx: &str) -> Result<Module, LoadError> {
        let tree = ptx::parse(ptx).map_err(|error| LoadError { line: error.line, message: error.message })?;
        let target = self.check_target(&tree)?;
        let mut module = Module { kernels: Vec::new(), globals: Vec::new(), memory: self.memory.clone() };
        let specific = tree.target.ends_with('a');
        let mut names = decode::Names { target, specific, ..decode::Names::default() };
        for variable in &tree.variables {
            if variable.space == Space::Shared {
                names.shared.push(variable.clone());
                continue;
            }
            if variable.external || variable.unsized_array && variable.initial.is_empty() {
                let message = format!("`{}` has no definition in this module: linking is not supported", variable.name);
                return Err(LoadError::new(variable.line, message));
            }
            let bytes = variable.bytes().max(variable.initial.len());
            let failed = |error: MemoryError| LoadError::new(variable.line, format!("`{}`: {error}", variable.name));
            let address = self.alloc_at(Home { device, pool: None }, bytes).map_err(failed)?;
            module.globals.push((variable.name.clone(), address, bytes));
            names.globals.insert(variable.name.clone(), address);
            // Bytes without an initializer are zero.
            let host = Operation::default();
            self.memory.fill(address, &[0], bytes, &host).map_err(failed)?;
            self.memory.write(address, &variable.initial, &host).map_err(failed)?;
        }
        let files = Arc::new(tree.files);
        for function in tree.functions.iter().filter(|function| !function.entry && function.body.is_some()) {
            names.functions.insert(function.name.clone(), Arc::new(function.clone()));
        }
        let (names, mut inlined) = (Arc::new(names), 0);
        for function in tree.functions.iter().filter(|function| function.body.is_some()) {
            let mut decoded = decode::decode(function, &names, inlined)?;
            inlined = decoded.inlined;
            // Otherwise ptxas does not know how many registers a block has, and ignores `setmaxnreg`.
            let bounds = function.max_threads.zip(function.min_blocks).zip(decoded.program.most_registers);
            decoded.program.entry_registers =
                bounds.map(|((threads, blocks), most)| entry_registers(most, threads, blocks));
            // A compiler keeps to the bounds.
            let blocks = function.min_blocks.unwrap_or(1);
            let within = |threads| entry_registers(u32::MAX, threads, blocks) as usize;
            let registers = function.max_threads.map_or(usize::MAX, within).min(decoded.registers);
            if function.entry {
                module.kernels.push(Arc::new(Kernel {
                    name: function.name.clone(),
                    params: decoded.params,
                    static_shared: decoded.static_shared,
                    local_bytes: decoded.local_bytes,
                    registers,
                    max_threads: function.max_threads.unwrap_or(1024).min(1024),
                    program: decoded.program,
                    files: files.clone(),
                }));
            }
        }
        Ok(module)
    }

    /// Checks the module's `.target` and returns its number. The device refuses PTX for a later architecture, for
    /// another architecture only (`sm_90a`), and for another family (`sm_100f`).
    fn check_target(&self, tree: &ptx::ast::Module) -> Result<u32, LoadError> {
        let digits = tree.target.strip_prefix("sm_").unwrap_or(&tree.target);
        let (major, minor) = self.config.compute_capability;
        let own = major * 10 + minor;
        match digits.trim_end_matches(['a', 'f']).parse::<u32>() {
            Ok(target) if digits.ends_with('a') && target == own => Ok(target),
            Ok(target) if digits.ends_with('f') && target <= own && target / 10 == major => Ok(target),
            Ok(target) if digits.ends_with(|c: char| c.is_ascii_digit()) && target <= own => Ok(target),
            Ok(_) => {
                Err(LoadError::new(1, format!("PTX for {} cannot run on a device of {major}.{minor}", tree.target)))
            }
            Err(_) => Err(LoadError::new(1, format!("`{}` is not a target of the form sm_80", tree.target))),
        }
    }
}

/// A loaded module: its kernels, and its global variables in device memory.
pub struct Module {
    kernels: Vec<Arc<Kernel>>,
    globals: Vec<(String, u64, usize)>,
    memory: Arc<Memory>,
}

impl Drop for Module {
    fn drop(&mut self) {
        for (_, address, _) in &self.globals {
            // An error means that the program has freed the variable's memory itself.
            let _ = self.memory.free(*address);
        }
    }
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
    program: program::Program,
    files: launch::Files,
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
