//! What a collective enqueues on its stream: copies to page-locked memory, the exchange as a host function, and the copy back.
//!
//! What the output holds is copied to the host as well. A collective that is aborted copies that back, so its output stays as it was.
//!
//! The memory is never freed. Collectives that are not captured share one block for each stream, whose order keeps them apart; a
//! block that is too small is replaced. A captured one has a block of its own, because its graph may be launched on any stream, at
//! any time, and after its communicator is destroyed.

use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use crate::call::{Call, Kind};
use crate::comm::Comm;
use crate::cuda::{Cuda, Event, Stream};
use crate::error::{Code, Outcome};
use crate::lock;

/// A collective and where its values lie on the device.
#[derive(Clone, Copy, Debug)]
pub struct Enqueue {
    pub call: Call,
    pub send: u64,
    pub recv: u64,
    pub stream: Stream,
}

/// `CU_STREAM_PER_THREAD`, a handle that is another stream in each thread.
const PER_THREAD: Stream = 2;

/// A stream's block, and the event that is recorded behind each of its collectives.
struct Lane {
    address: usize,
    bytes: usize,
    event: Event,
}

/// The blocks of a communicator's streams.
#[derive(Default)]
pub struct Lanes(Mutex<HashMap<(Stream, Option<ThreadId>), Lane>>);

impl Lanes {
    /// Waits for all collectives that were enqueued and not captured.
    pub fn settle(&self, comm: &Comm) -> Outcome {
        let cuda = Cuda::get()?;
        let events: Vec<Event> = lock(&self.0).values().map(|lane| lane.event).collect();
        cuda.within(comm.context, || events.iter().try_for_each(|event| cuda.synchronize(*event)))
    }
}

/// What the host function needs.
struct Work {
    comm: Arc<Comm>,
    call: Call,
    input: usize,
    output: usize,
    /// Whether a graph may run it again.
    captured: bool,
}

/// The host function of a collective.
///
/// # Safety
/// `data` is a `Work` that `enqueue` has given away; if it is not captured, this is its only call.
unsafe extern "C" fn run(data: *mut c_void) {
    let data = data.cast::<Work>();
    // SAFETY: as stated above. The blocks of `input` and `output` are never freed, and the stream's order gives them to this
    // function alone while it runs. An input in place is copied before the output is written.
    let exchange = || unsafe {
        let Work { comm, call, input, output, .. } = &*data;
        let input = std::slice::from_raw_parts(*input as *const u8, call.input()).to_vec();
        if let Some(result) = comm.exchange(call, input) {
            std::ptr::copy_nonoverlapping(result.as_ptr(), *output as *mut u8, result.len());
        }
    };
    // A panic must not unwind into C. It was printed, and the output stays as it was.
    let _ = catch_unwind(AssertUnwindSafe(exchange));
    // SAFETY: as stated above.
    unsafe {
        if !(*data).captured {
            drop(Box::from_raw(data));
        }
    }
}

impl Enqueue {
    /// Where the input begins in the output, if the collective is in place.
    fn in_place(&self, comm: &Comm) -> Outcome<Option<usize>> {
        let Enqueue { call, send, recv, .. } = self;
        let at = match call.kind {
            Kind::AllReduce => 0,
            Kind::AllGather => comm.rank * call.input(),
        };
        if recv.checked_add(at as u64) == Some(*send) {
            return Ok(Some(at));
        }
        let (input, output) = (call.input() as u64, call.output(comm.ranks) as u64);
        if *send < recv.saturating_add(output) && *recv < send.saturating_add(input) {
            let why = format!("{call}: sendbuff {send:#x} and recvbuff {recv:#x} overlap, and are not in place");
            return Err(Code::InvalidArgument.because(why));
        }
        Ok(None)
    }

    /// Checks the buffers, as far as that can be done before it is enqueued.
    pub fn check(&self, comm: &Comm) -> Outcome {
        for (name, address) in [("sendbuff", self.send), ("recvbuff", self.recv)] {
            if address == 0 {
                return Err(Code::InvalidArgument.because(format!("{}: {name} is null", self.call)));
            }
        }
        self.in_place(comm).map(drop)
    }

    /// Enqueues the collective on its stream.
    pub fn perform(&self, comm: &Arc<Comm>) -> Outcome {
        let cuda = Cuda::get()?;
        cuda.within(comm.context, || self.perform_within(cuda, comm))
    }

    fn perform_within(&self, cuda: &Cuda, comm: &Arc<Comm>) -> Outcome {
        let Enqueue { call, send, recv, stream } = *self;
        let (input, output) = (call.input(), call.output(comm.ranks));
        let inside = self.in_place(comm)?;
        let bytes = output + if inside.is_some() { 0 } else { input };
        let captured = cuda.captures(stream)?;
        // Held until all is enqueued: another thread's collective on this stream must not come in between.
        let mut lanes = lock(&comm.lanes.0);
        let (block, event) = if captured {
            (cuda.host_memory(bytes)?, None)
        } else {
            let thread = (stream == PER_THREAD).then(|| std::thread::current().id());
            let lane = match lanes.get_mut(&(stream, thread)) {
                Some(lane) => lane,
                None => {
                    let lane = Lane { address: 0, bytes: 0, event: cuda.event()? };
                    lanes.entry((stream, thread)).or_insert(lane)
                }
            };
            if lane.bytes < bytes {
                lane.address = cuda.host_memory(bytes)?;
                lane.bytes = bytes;
            }
            (lane.address, Some(lane.event))
        };
        let from = block + inside.unwrap_or(output);
        let work = Box::new(Work { comm: comm.clone(), call, input: from, output: block, captured });
        // SAFETY: the block is never freed; `run` may be called with the work once, or as often as a graph wants if captured.
        unsafe {
            cuda.copy_to_host(block, recv, output, stream)?;
            if inside.is_none() {
                cuda.copy_to_host(from, send, input, stream)?;
            }
            let work = Box::into_raw(work);
            if let Err(fault) = cuda.host_function(stream, run, work.cast()) {
                drop(Box::from_raw(work));
                return Err(fault);
            }
            cuda.copy_to_device(recv, block, output, stream)?;
        }
        event.map_or(Ok(()), |event| cuda.record(event, stream))
    }
}
