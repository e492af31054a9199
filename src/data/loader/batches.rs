//! Batches on their way from the thread that prepares them to their consumer, and their buffers, which go back.

use std::mem;
use std::panic;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::system::allocation::reserve;

/// Finished batches that may wait for the consumer. Two are enough for a consumer of uneven speed.
const DEPTH: usize = 2;
/// The batches that are in use at once: those that wait, one with the consumer, one that is filled.
pub(super) const IN_USE: usize = DEPTH + 2;

/// A batch of images and labels, ready for a network.
///
/// Dropping it returns its buffers to the loader, which reuses them for a later batch.
#[derive(Debug)]
pub struct Batch {
    /// `[len, height, width, channels]`, row-major (NHWC), from 0 (black) to 1 unless they are normalised.
    pub images: Vec<f32>,
    /// `[len]`: the class of each image.
    pub labels: Vec<u8>,
    /// `[len]`: the index of each image in the data set.
    pub indices: Vec<u32>,
    /// The number of this batch in its epoch, from 0.
    pub step: usize,
    /// Images of the whole batch before these: other than 0 where the loader has a [share](super::Loader::with_share).
    pub first: usize,
    /// Images of the whole batch.
    pub of: usize,
    pub(super) spare: Arc<SpareBuffers>,
}

impl Batch {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True only where a loader's [share](super::Loader::with_share) has nothing of a small batch.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.spare.give(Buffers {
            images: mem::take(&mut self.images),
            labels: mem::take(&mut self.labels),
            indices: mem::take(&mut self.indices),
        });
    }
}

/// The batches of an epoch, in order. Dropping it ends its thread.
///
/// # Panics
///
/// `next` repeats a panic of the thread that prepares the batches, which would otherwise look like the epoch's end.
#[derive(Debug)]
pub struct Batches {
    left: usize,
    receiver: Option<Receiver<Batch>>,
    worker: Option<JoinHandle<()>>,
}

impl Batches {
    /// Runs `work` on a thread. It must send `count` batches.
    pub(super) fn spawn(count: usize, work: impl FnOnce(SyncSender<Batch>) + Send + 'static) -> Result<Self> {
        let (sender, receiver) = sync_channel(DEPTH);
        let worker = thread::Builder::new()
            .name("mlpconv-loader".into())
            .spawn(move || work(sender))
            .map_err(|source| Error::config("loader", format!("the system grants no thread: {source}")))?;
        Ok(Batches { left: count, receiver: Some(receiver), worker: Some(worker) })
    }

    /// Closes the channel and waits for the thread to end. Returns the thread's panic, if it had one.
    fn stop(&mut self) -> thread::Result<()> {
        self.receiver = None;
        self.worker.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.left = self.left.checked_sub(1)?;
        let batch = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
        if batch.is_none() {
            self.left = 0;
            if let Err(payload) = self.stop() {
                panic::resume_unwind(payload);
            }
        }
        batch
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        // A panic while preparing a batch that nobody asked for does not matter.
        let _ = self.stop();
    }
}

/// The storage of one batch.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) images: Vec<f32>,
    pub(super) labels: Vec<u8>,
    pub(super) indices: Vec<u32>,
}

/// Storage that no batch uses at present.
#[derive(Debug, Default)]
pub(super) struct SpareBuffers(Mutex<Vec<Buffers>>);

impl SpareBuffers {
    /// Takes the memory of all batches that are in use at once: buffers for `batches` batches of `len` images of `image`
    /// values, but for at most [`IN_USE`] batches.
    ///
    /// # Errors
    /// [`Error::Memory`] where the system refuses it.
    pub(super) fn reserve(&self, batches: usize, len: usize, image: usize) -> Result<()> {
        let mut free = self.lock();
        while free.len() < batches.min(IN_USE) {
            let mut buffers = Buffers::default();
            let refused = |_| Error::memory(len * (image * size_of::<f32>() + size_of::<u8>() + size_of::<u32>()));
            reserve(&mut buffers.images, len * image).map_err(refused)?;
            reserve(&mut buffers.labels, len).map_err(refused)?;
            reserve(&mut buffers.indices, len).map_err(refused)?;
            free.push(buffers);
        }
        Ok(())
    }

    /// Reserved buffers. A consumer that keeps more batches than are reserved gets further ones, without an answer where
    /// there is no memory for them.
    pub(super) fn take(&self) -> Buffers {
        self.lock().pop().unwrap_or_default()
    }

    fn give(&self, buffers: Buffers) {
        let mut free = self.lock();
        if free.len() < IN_USE {
            free.push(buffers);
        }
    }

    /// A panic elsewhere cannot have left a list of free buffers half-written.
    fn lock(&self) -> MutexGuard<'_, Vec<Buffers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
