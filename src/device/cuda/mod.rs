//! The CUDA backend: our kernels on one GPU, sequenced on a stream through cudarc. (What may run beside them has a second one:
//! `fork.rs`. NCCL's kernels have a third: `communicator.rs`.)
//!
//! A launch returns before its kernel has run. An error of the kernel surfaces in a later call, at the latest in
//! [`Device::synchronize`]. Two runs give the same bits: no kernel adds in an order that depends on timing.

mod architecture;
mod arena;
mod buf;
mod clock;
mod communicator;
mod convert;
mod download;
mod driver;
mod fork;
pub(crate) mod gemm;
mod graph;
mod image;
mod kernels;
mod launch;
pub mod nccl;
mod occupancy;
mod page;
pub(crate) mod parts;
mod sum;
mod tf32;
pub mod tiles;
mod turn;
mod upload;
mod word;

use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdeviceptr};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream};
use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::{Buffer, Device, Memory, Precision, Role, StepScalars, require_same_len};
pub use crate::error::CudaError;
use crate::error::describe;
use crate::system::allocation::reserve;
use crate::{Error, Result};
pub use architecture::Architecture;
pub use buf::Buf;
pub use communicator::{Communicator, Request};
pub(crate) use convert::{Destination, Operand};
pub use download::Later;
pub use driver::{CudaDevice, devices, driver_version};
pub use graph::Graph;
pub use image::{Unit, missing, units};
pub use kernels::Image;
pub(crate) use launch::{Args, Geometry, channel_threads, divisor};
pub use occupancy::Occupancy;

use arena::{Arena, Block, Life, Purpose};
use buf::Storage;
use clock::Clock;
pub(crate) use clock::Set;
use download::Pages;
use kernels::Kernels;
use turn::{Alone, Turn, Turns};
use upload::Pieces;

/// What decides which kernels a GPU gets: all that a plan of a network depends on besides the shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub precision: Precision,
    /// Compute capability, such as (9, 0).
    pub capability: (u32, u32),
    /// Bytes of shared memory that a block may have.
    pub shared_memory: usize,
    pub multiprocessors: usize,
    /// Whether there are convolutions by `wgmma`, which the GPU runs at this precision.
    pub warpgroups: bool,
}

impl Limits {
    /// An H200's: compute capability 9.0, 227 KiB of shared memory a block, 132 multiprocessors.
    pub const fn h200(precision: Precision) -> Self {
        let warpgroups = matches!(precision, Precision::Bf16);
        Limits { precision, capability: (9, 0), shared_memory: 227 << 10, multiprocessors: 132, warpgroups }
    }
}

/// The module that is loaded when a backend is made.
const FIRST_MODULE: &str = "cast";

/// A GPU as a backend, at one precision. Clones share it, also between threads: each thread's calls are in their order, and while one
/// records a step, or runs it for the first time, those of the others wait.
#[derive(Clone)]
pub struct Cuda {
    shared: Arc<Shared>,
    /// This handle's: `shared.stream`, or that of forks.
    stream: Arc<CudaStream>,
    /// Of a fork the thread that keeps a turn until it is waited for.
    forked_by: Option<ThreadId>,
}

struct Shared {
    device: CudaDevice,
    precision: Precision,
    /// Dropped before `context`, so that modules are unloaded while there is a context.
    kernels: Kernels,
    clock: Clock,
    turns: Turns,
    pages: Pages,
    pieces: Pieces,
    arena: Arc<Arena>,
    stream: Arc<CudaStream>,
    /// The stream of forks, made by the first.
    beside: OnceLock<Arc<CudaStream>>,
    context: Arc<CudaContext>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Work that is still under way may use the memory. An error here was reported by an earlier call, or is of no interest.
        let _ = self.stream.synchronize();
        let _ = self.beside.get().map(|stream| stream.synchronize());
    }
}

/// Bytes on a GPU.
pub struct Bytes {
    block: Block,
    len: usize,
}

impl Bytes {
    pub(crate) fn address(&self) -> CUdeviceptr {
        self.block.address()
    }
}

impl Buffer for Bytes {
    fn len(&self) -> usize {
        self.len
    }
}

impl Cuda {
    /// Device `ordinal`, as the driver numbers them.
    ///
    /// # Errors
    /// [`Error::Cuda`] where there is no driver, no such device, one that the kernels do not run on, or no kernels in
    /// this build.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        Cuda::open(ordinal, precision, false)
    }

    /// Another backend on the same GPU, with memory and streams of its own, that has no kernels of newer architectures, such as
    /// Hopper's: to compare with them.
    ///
    /// # Errors
    /// As [`Cuda::new`].
    pub fn portable(&self) -> Result<Self> {
        Cuda::open(self.shared.device.ordinal, self.shared.precision, true)
    }

    fn open(ordinal: usize, precision: Precision, portable: bool) -> Result<Self> {
        if let Some(why) = missing() {
            return Err(CudaError::KernelsNotBuilt { why }.into());
        }
        let (context, device) = driver::open(ordinal)?;
        let stream = context.new_stream().map_err(CudaError::driver("cuStreamCreate"))?;
        let arena = Arena::new(&context, format!("cuda:{ordinal}"));
        let clock = Clock::new(&arena)?;
        let kernels = Kernels::new(&context, precision, device.capability, portable)?;
        // Loads one kernel, so that a driver that is too old is an error here.
        kernels.function(FIRST_MODULE, "cast_to_float", 0)?;
        Ok(Cuda {
            shared: Arc::new(Shared {
                device,
                precision,
                kernels,
                clock,
                turns: Turns::default(),
                pages: Pages::default(),
                pieces: Pieces::default(),
                arena,
                stream: stream.clone(),
                beside: OnceLock::new(),
                context,
            }),
            stream,
            forked_by: None,
        })
    }

    pub fn device(&self) -> &CudaDevice {
        &self.shared.device
    }

    pub fn precision(&self) -> Precision {
        self.shared.precision
    }

    /// What the driver makes the kernels of, by the module that it has loaded first.
    pub fn image(&self) -> Option<Image> {
        self.shared.kernels.image(FIRST_MODULE)
    }

    /// What its kernels are chosen by.
    pub fn limits(&self) -> Limits {
        let CudaDevice { capability, shared_memory, multiprocessors, .. } = self.shared.device;
        let warpgroups = self.shared.kernels.warpgroups;
        Limits { precision: self.shared.precision, capability, shared_memory, multiprocessors, warpgroups }
    }

    pub(crate) fn multiprocessors(&self) -> usize {
        self.shared.device.multiprocessors
    }

    /// The time that the device takes for the work that `work` launches, by events on its stream: the host's time is not in it.
    ///
    /// # Errors
    /// Those of `work`, and of the driver.
    pub fn elapsed(&self, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let event = || {
            let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
            self.shared.context.new_event(Some(flags)).map_err(CudaError::driver("cuEventCreate"))
        };
        let (start, end) = (event()?, event()?);
        let record = |event: &CudaEvent| {
            let _turn = self.turn()?;
            event.record(&self.stream).map_err(CudaError::driver("cuEventRecord"))
        };
        record(&start)?;
        work()?;
        record(&end)?;
        end.synchronize().map_err(CudaError::driver("cuEventSynchronize"))?;
        let milliseconds = start.elapsed_ms(&end).map_err(CudaError::driver("cuEventElapsedTime"))?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }

    /// Launches `kernel` of module `op`.
    pub(crate) fn launch(&self, op: &'static str, kernel: &str, geometry: Geometry, mut args: Args) -> Result<()> {
        let _turn = self.turn()?;
        let Geometry { grid, block, shared } = geometry;
        let function = self.shared.kernels.function(op, kernel, shared)?;
        let extents = |extents: [usize; 3]| extents.map(|extent| u32::try_from(extent).unwrap_or(u32::MAX)).into();
        let stream = self.stream.cu_stream();
        // SAFETY: the arguments match the kernel's parameters (the tests run every kernel). Memory that they point to is reused
        // only by work that comes later, on the same stream or by an event.
        let launched = unsafe {
            let arguments = &mut args.pointers();
            result::launch_kernel(function, extents(grid), extents(block), shared as u32, stream, arguments)
        };
        launched.map_err(|error| {
            let problem =
                format!("{op}::{kernel}, grid {grid:?}, block {block:?}, {shared} bytes: {}", describe(error));
            CudaError::Driver { call: "cuLaunchKernel", problem }.into()
        })
    }

    /// Takes a turn, and has the driver's calls of this thread be for this device.
    fn turn(&self) -> Result<Turn<'_>> {
        let turn = self.shared.turns.take();
        self.shared.context.bind_to_thread().map_err(CudaError::driver("cuCtxSetCurrent"))?;
        Ok(turn)
    }

    /// Has this thread have the device to itself.
    fn alone(&self) -> Result<Alone<'_>> {
        self.shared.turns.alone().ok_or_else(|| CudaError::WithinWork.into())
    }

    fn storage(&self, role: Role) -> Storage {
        match (role, self.shared.precision) {
            (Role::Activation, Precision::Tf32) => Storage::Tf32,
            (Role::Activation, Precision::Bf16) => Storage::Bf16,
            _ => Storage::F32,
        }
    }

    /// Whether work is being recorded, or runs unrecorded in the recordings' memory.
    fn is_recording(&self) -> bool {
        self.shared.arena.purpose() != Purpose::Call
    }

    /// Whether an uploaded parameter has a copy in the type of activations.
    fn copies_parameters(&self) -> bool {
        self.storage(Role::Activation) != self.storage(Role::Parameter)
    }

    /// A buffer with unspecified contents, for as long as a step or for longer.
    fn raw(&self, storage: Storage, len: usize, life: Life) -> Result<Buf> {
        // The kernels count elements in an int.
        if i32::try_from(len).is_err() {
            let problem =
                format!("a tensor of {len} elements; the kernels take fewer than 2^31: make the batch smaller");
            return Err(Error::shape("cuda", problem));
        }
        Ok(Buf::new(self.block(len * storage.width(), life)?, len, storage))
    }

    fn block(&self, bytes: usize, life: Life) -> Result<Block> {
        let _turn = self.turn()?;
        Arena::take(&self.shared.arena, bytes, life)
    }

    fn made(&self, role: Role, len: usize, life: Life) -> Result<Buf> {
        let mut buf = self.raw(self.storage(role), len, life)?;
        if cfg!(debug_assertions) {
            // A NaN in any of the types has all bits set.
            self.set_bytes(buf.overwritten(), 0xff, len * buf.storage().width())?;
        }
        Ok(buf)
    }

    fn set_bytes(&self, address: CUdeviceptr, value: u8, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let _turn = self.turn()?;
        // SAFETY: the caller owns the memory.
        unsafe { result::memset_d8_async(address, value, bytes, self.stream.cu_stream()) }
            .map_err(CudaError::driver("cuMemsetD8Async"))
    }

    /// Copies from the device, and waits for the copy.
    fn fetch<T: bytemuck::Zeroable + Clone>(&self, address: CUdeviceptr, len: usize) -> Result<Vec<T>> {
        let mut host = Vec::new();
        reserve(&mut host, len).map_err(|_| Error::memory(len * size_of::<T>()))?;
        host.resize(len, T::zeroed());
        if len == 0 {
            return Ok(host);
        }
        let _turn = self.turn()?;
        // SAFETY: the buffer has `len` numbers; the slice lives until the stream has been waited for.
        unsafe { result::memcpy_dtoh_async(&mut host, address, self.stream.cu_stream()) }
            .map_err(CudaError::driver("cuMemcpyDtoHAsync"))?;
        self.synchronize()?;
        Ok(host)
    }

    /// Copies host numbers to a buffer, and to its copy if it has one.
    fn store(&self, buf: &mut Buf, host: &[f32]) -> Result<()> {
        let storage = buf.storage();
        let (address, copy) = buf.overwritten_with_copy();
        match storage {
            Storage::F32 => self.send(address, host)?,
            Storage::Tf32 => self.send_by(address, host.len(), |from, room| {
                room.iter_mut().zip(&host[from..]).for_each(|(to, &value)| *to = tf32::round(value));
            })?,
            Storage::Bf16 => self.send_by(address, host.len(), |from, room: &mut [bf16]| {
                room.convert_from_f32_slice(&host[from..][..room.len()]);
            })?,
        }
        copy.map_or(Ok(()), |copy| self.store(copy, host))
    }
}

impl Device for Cuda {
    type Scalar = f32;
    type Buf = Buf;
    type Bytes = Bytes;
    type Recording = Graph;
    type Download = Later;

    fn name(&self) -> String {
        let CudaDevice { ordinal, name, .. } = &self.shared.device;
        format!("cuda:{ordinal}, {name}, {}", self.shared.precision)
    }

    fn alloc(&self, role: Role, len: usize) -> Result<Buf> {
        self.made(role, len, Life::Step)
    }

    fn alloc_lasting(&self, role: Role, len: usize) -> Result<Buf> {
        self.made(role, len, Life::Lasting)
    }

    fn alloc_rectified(&self, len: usize) -> Result<Buf> {
        let signs = self.alloc_bytes(len.div_ceil(self.vector()))?;
        Ok(self.alloc(Role::Activation, len)?.with_signs(signs))
    }

    fn alloc_bytes(&self, len: usize) -> Result<Bytes> {
        Ok(Bytes { block: self.block(len, Life::Step)?, len })
    }

    fn upload(&self, role: Role, host: &[f32]) -> Result<Buf> {
        let mut buf = self.raw(self.storage(role), host.len(), Life::Lasting)?;
        if role == Role::Parameter && self.copies_parameters() {
            buf = buf.with_copy(self.raw(self.storage(Role::Activation), host.len(), Life::Lasting)?);
        }
        self.store(&mut buf, host)?;
        Ok(buf)
    }

    fn upload_bytes(&self, host: &[u8]) -> Result<Bytes> {
        let bytes = Bytes { block: self.block(host.len(), Life::Lasting)?, len: host.len() };
        self.send(bytes.address(), host)?;
        Ok(bytes)
    }

    fn write(&self, buf: &mut Buf, host: &[f32]) -> Result<()> {
        require_same_len(buf.len(), host.len())?;
        self.store(buf, host)
    }

    fn write_bytes(&self, bytes: &mut Bytes, host: &[u8]) -> Result<()> {
        require_same_len(bytes.len, host.len())?;
        self.send(bytes.address(), host)
    }

    fn download(&self, buf: &Buf) -> Result<Vec<f32>> {
        let (address, len) = (self.settled(buf)?, buf.len());
        match buf.storage() {
            Storage::F32 | Storage::Tf32 => self.fetch(address, len),
            Storage::Bf16 => Ok(self.fetch::<bf16>(address, len)?.to_f32_vec()),
        }
    }

    fn download_later(&self, buf: &Buf) -> Result<Later> {
        self.fetch_later(buf)
    }

    fn download_bytes(&self, bytes: &Bytes) -> Result<Vec<u8>> {
        self.fetch(bytes.address(), bytes.len)
    }

    fn fill(&self, buf: &mut Buf, value: f32) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let _turn = self.turn()?;
        let (storage, len) = (buf.storage(), buf.len());
        let (address, copy) = buf.overwritten_with_copy();
        let stream = self.stream.cu_stream();
        // SAFETY: the buffer has as many elements.
        let filled = unsafe {
            match storage {
                Storage::F32 => sys::cuMemsetD32Async(address, value.to_bits(), len, stream),
                Storage::Tf32 => sys::cuMemsetD32Async(address, tf32::round(value).to_bits(), len, stream),
                Storage::Bf16 => sys::cuMemsetD16Async(address, bf16::from_f32(value).to_bits(), len, stream),
            }
        };
        filled.result().map_err(CudaError::driver("cuMemsetAsync"))?;
        copy.map_or(Ok(()), |copy| self.fill(copy, value))
    }

    fn relu_mask(&self, y: &Buf, dy: &mut Buf) -> Result<()> {
        let kernel = if self.is_activation(dy) { "relu_mask" } else { "relu_mask_float" };
        let (y, len) = (self.operand(y)?, y.len());
        let args = Args::new().address(self.changed(dy)?).input(&y).int(len);
        self.launch("relu", kernel, Geometry::linear(len.div_ceil(self.vector())), args)
    }

    fn record(&self, scalars: &StepScalars, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Graph>> {
        self.capture(scalars, work).map(Some)
    }

    fn warm_up(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let arena = &self.shared.arena;
        let _alone = self.alone()?;
        let _lent = Arena::lend(arena, Purpose::WarmUp);
        work()?;
        arena.require_nothing_lent()
    }

    fn fork(&self) -> Result<Self> {
        self.forked()
    }

    fn settle(&self, buf: &Buf) -> Result<()> {
        self.settled(buf).map(drop)
    }

    fn wait_for(&self, fork: &Self) -> Result<()> {
        self.joined(fork)
    }

    fn synchronize(&self) -> Result<()> {
        let _turn = self.turn()?;
        let waited = self.stream.synchronize();
        waited.map_err(|error: DriverError| CudaError::driver("cuStreamSynchronize")(error))
    }

    fn memory(&self) -> Memory {
        self.shared.arena.memory()
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        let (free, _) = self.shared.context.mem_get_info().map_err(CudaError::driver("cuMemGetInfo"))?;
        Ok(Some(free))
    }
}
