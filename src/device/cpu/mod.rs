//! The CPU backend: the embedded default in `f32`, the reference of every gradient check in `f64`.
//!
//! Work is divided into pieces by the shape alone, never by the number of threads, and partial sums are added in a fixed
//! order. So any number of threads gives the same bits.

mod arena;
pub(crate) mod epilogue;
mod gemm;

use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::{Buffer, Device, Memory, Real, Recording, Role, StepScalars, require_same_len};
use crate::system::{allocation, free, threads};
use crate::{Error, Result};
use arena::Arena;
pub use arena::Buf;
pub(crate) use arena::Scratch;
pub(crate) use gemm::{Mat, MatMut};

/// Elements of a task of an element-wise loop: few enough for many tasks, enough to outweigh the cost of a task.
const PIECE: usize = 1 << 15;

/// Bytes a thread that stay free when a buffer is made: the GEMM library packs a product's panels in memory that it takes as
/// it goes, at most about this much, and ends the process if there is none.
const HEADROOM: usize = 4 << 20;

/// The CPU as a backend. `Cpu<f32>` trains and predicts; `Cpu<f64>` is the reference for the other backends.
#[derive(Clone)]
pub struct Cpu<T: Real> {
    shared: Arc<Shared<T>>,
}

struct Shared<T: Real> {
    numbers: Arc<Arena<T>>,
    bytes: Arc<Arena<u8>>,
    /// `None`: rayon's global pool.
    threads: Option<ThreadPool>,
}

impl<T: Real> Cpu<T> {
    /// On rayon's global thread pool, or on the pool for which the calling thread works. The global pool belongs to the
    /// program, which may configure it before (`rayon::ThreadPoolBuilder::build_global`). Otherwise it is started with the
    /// first buffer: with as many threads as cores, or as many as `RAYON_NUM_THREADS` says, where rayon ignores 0 and
    /// what is no number, and takes any other number as it is: tens of thousands of threads take minutes.
    ///
    /// Where the system refuses to start the threads, making a buffer is [`Error::Device`].
    pub fn new() -> Self {
        Self::on(None)
    }

    /// On a pool of its own with `threads` threads.
    ///
    /// # Errors
    /// [`Error::Config`] for 0 threads or more than 1024; [`Error::Device`] if the system refuses to start them.
    pub fn with_threads(threads: usize) -> Result<Self> {
        // The bound is above the cores of any machine. Tens of thousands of threads take minutes to start.
        if !(1..=1024).contains(&threads) {
            return Err(Error::config("threads", format!("{threads} must be between 1 and 1024")));
        }
        Ok(Self::on(Some(threads::pool(threads)?)))
    }

    fn on(threads: Option<ThreadPool>) -> Self {
        Cpu { shared: Arc::new(Shared { numbers: Arena::new(), bytes: Arena::new(), threads }) }
    }

    /// The number of threads; 0 if the system has refused to start them.
    pub fn threads(&self) -> usize {
        match &self.shared.threads {
            Some(pool) => pool.current_num_threads(),
            None => threads::start_global().map_or(0, |()| rayon::current_num_threads()),
        }
    }

    /// Runs `op` with its parallel loops on this backend's threads.
    pub(crate) fn run<R: Send>(&self, op: impl FnOnce() -> R + Send) -> R {
        let Some(pool) = &self.shared.threads else { return op() };
        let (mut op, mut result) = (Some(op), None);
        install(pool, &mut || result = op.take().map(|op| op()));
        result.expect("a pool runs what it is given")
    }

    /// Calls `f` for each element of `dst` with that of `src`, in parallel.
    pub(crate) fn zip(&self, dst: &mut [T], src: &[T], f: impl Fn(&mut T, T) + Send + Sync) {
        assert_eq!(dst.len(), src.len(), "element-wise operands differ in length");
        self.run(|| {
            dst.par_chunks_mut(PIECE).zip(src.par_chunks(PIECE)).for_each(|(dst, src)| {
                for (d, &s) in dst.iter_mut().zip(src) {
                    f(d, s);
                }
            });
        });
    }

    /// [`Cpu::zip`] with two sources.
    pub(crate) fn zip_pairs(&self, dst: &mut [T], a: &[T], b: &[T], f: impl Fn(&mut T, T, T) + Send + Sync) {
        assert!(dst.len() == a.len() && dst.len() == b.len(), "element-wise operands differ in length");
        self.run(|| {
            let sources = a.par_chunks(PIECE).zip(b.par_chunks(PIECE));
            dst.par_chunks_mut(PIECE).zip(sources).for_each(|(dst, (a, b))| {
                for (d, (&a, &b)) in dst.iter_mut().zip(a.iter().zip(b)) {
                    f(d, a, b);
                }
            });
        });
    }

    /// Working memory for a parallel loop: `len` elements for each thread.
    pub(crate) fn scratch(&self, len: usize) -> Result<Scratch<T>> {
        Scratch::new(self.threads(), || self.alloc_numbers(len))
    }

    /// The transpose `[cols, rows]` of matrix `a` `[rows, cols]`. The GEMM packs its right operand for every strip of
    /// pixels, and packing is several times faster if the operand lies in the order of the product.
    pub(crate) fn transposed(&self, a: &[T], rows: usize, cols: usize) -> Result<Buf<T>> {
        /// Columns of `a` in a task: all elements of a cache line are used while it is in the cache.
        const COLUMNS: usize = 16;
        let mut out = self.alloc_numbers(a.len())?;
        self.run(|| {
            out.par_chunks_mut(COLUMNS * rows).enumerate().for_each(|(i, out)| {
                for (row, a) in a.chunks_exact(cols).enumerate() {
                    for (out, &a) in out.chunks_exact_mut(rows).zip(&a[i * COLUMNS..]) {
                        out[row] = a;
                    }
                }
            });
        });
        Ok(out)
    }

    pub(crate) fn alloc_numbers(&self, len: usize) -> Result<Buf<T>> {
        self.take(&self.shared.numbers, len)
    }

    /// A buffer from an arena. Every op has one, so that its threads have been started.
    fn take<E: bytemuck::Zeroable>(&self, arena: &Arc<Arena<E>>, len: usize) -> Result<Buf<E>> {
        if self.shared.threads.is_none() {
            threads::start_global()?;
        }
        Arena::take(arena, len, self.threads() * HEADROOM)
    }
}

/// The CPU records nothing: its calls have no launch cost to save.
pub enum NoRecording {}

impl Recording for NoRecording {
    fn replay(&self, _scalars: &StepScalars) -> Result<()> {
        match *self {}
    }
}

/// One for all ops: rayon's way into a pool is compiled for each type that it is given, which made 0.1 MB of a program.
fn install(pool: &ThreadPool, op: &mut (dyn FnMut() + Send)) {
    pool.install(op);
}

impl<T: Real> Default for Cpu<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> Device for Cpu<T> {
    type Scalar = T;
    type Buf = Buf<T>;
    type Bytes = Buf<u8>;
    type Recording = NoRecording;
    type Download = Vec<T>;

    fn name(&self) -> String {
        let (threads, bits) = (self.threads(), 8 * size_of::<T>());
        format!("CPU, {threads} thread{}, fp{bits}", if threads == 1 { "" } else { "s" })
    }

    fn alloc(&self, _role: Role, len: usize) -> Result<Buf<T>> {
        let mut buf = self.alloc_numbers(len)?;
        if cfg!(debug_assertions) {
            buf.fill(T::nan());
        }
        Ok(buf)
    }

    fn alloc_bytes(&self, len: usize) -> Result<Buf<u8>> {
        self.take(&self.shared.bytes, len)
    }

    fn alloc_lasting(&self, role: Role, len: usize) -> Result<Buf<T>> {
        self.alloc(role, len)
    }

    fn upload(&self, _role: Role, host: &[T]) -> Result<Buf<T>> {
        let mut buf = self.alloc_numbers(host.len())?;
        buf.copy_from_slice(host);
        Ok(buf)
    }

    fn upload_bytes(&self, host: &[u8]) -> Result<Buf<u8>> {
        let mut bytes = self.alloc_bytes(host.len())?;
        bytes.copy_from_slice(host);
        Ok(bytes)
    }

    fn write(&self, buf: &mut Buf<T>, host: &[T]) -> Result<()> {
        require_same_len(buf.len(), host.len())?;
        buf.copy_from_slice(host);
        Ok(())
    }

    fn write_bytes(&self, bytes: &mut Buf<u8>, host: &[u8]) -> Result<()> {
        require_same_len(bytes.len(), host.len())?;
        bytes.copy_from_slice(host);
        Ok(())
    }

    fn download(&self, buf: &Buf<T>) -> Result<Vec<T>> {
        allocation::copied(buf).ok_or_else(|| Error::memory(size_of_val(&**buf)))
    }

    fn download_later(&self, buf: &Buf<T>) -> Result<Vec<T>> {
        self.download(buf)
    }

    fn download_bytes(&self, bytes: &Buf<u8>) -> Result<Vec<u8>> {
        allocation::copied(bytes).ok_or_else(|| Error::memory(bytes.len()))
    }

    fn fill(&self, buf: &mut Buf<T>, value: T) -> Result<()> {
        buf.fill(value);
        Ok(())
    }

    fn relu_mask(&self, y: &Buf<T>, dy: &mut Buf<T>) -> Result<()> {
        require_same_len(y.len(), dy.len())?;
        self.zip(dy, y, |dy, y| *dy = if y > T::zero() { *dy } else { T::zero() });
        Ok(())
    }

    fn record(&self, _scalars: &StepScalars, _work: &mut dyn FnMut() -> Result<()>) -> Result<Option<NoRecording>> {
        Ok(None)
    }

    fn warm_up(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        work()
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> Memory {
        let (a, b) = (self.shared.numbers.memory(), self.shared.bytes.memory());
        Memory {
            in_use: a.in_use + b.in_use,
            // An upper bound: the two arenas reach their peaks at different moments.
            peak: a.peak + b.peak,
            reserved: a.reserved + b.reserved,
            allocations: a.allocations + b.allocations,
        }
    }

    /// Linux: what the machine has available, within the limits of the process (`ulimit -v`) and of its control groups. Other
    /// systems: `None`.
    fn free_memory(&self) -> Result<Option<usize>> {
        Ok(free::bytes())
    }
}

impl<E: Send + Sync + 'static> Buffer for Buf<E> {
    fn len(&self) -> usize {
        <[E]>::len(self)
    }
}
