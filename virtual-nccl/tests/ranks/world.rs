//! Starts a process for each rank, and what a rank has: a GPU, a stream, and the library.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{self, CUresult};

use super::nccl::{Comm, Config, IN_PROGRESS, Nccl, SUCCESS, Stream, Type, UniqueId, load};

/// After this a test's processes are killed, and it fails.
const LIMIT: Duration = Duration::from_secs(30);
/// After this a rank that waits gives up.
const PATIENCE: Duration = Duration::from_secs(10);

const RANK: &str = "RANKS_TEST_RANK";
const FOLDER: &str = "RANKS_TEST_FOLDER";

/// What one rank has in its process.
pub struct World {
    pub rank: usize,
    pub ranks: usize,
    pub nccl: Nccl,
    pub stream: Stream,
    folder: PathBuf,
    /// How many communicators [`World::comm`] has made.
    made: Cell<usize>,
}

#[track_caller]
pub fn ok(result: CUresult) {
    assert_eq!(result, CUresult::CUDA_SUCCESS);
}

/// Runs `body` in `ranks` processes with these environment variables.
pub fn run<F: Fn(&World)>(ranks: usize, variables: &[(&str, &str)], body: F) {
    run_with_deaths(ranks, variables, None, body);
}

/// [`run`], where the process of one rank must end with a status before its body does.
pub fn run_with_deaths<F: Fn(&World)>(ranks: usize, variables: &[(&str, &str)], dies: Option<(usize, i32)>, body: F) {
    if let Ok(rank) = std::env::var(RANK) {
        let world = World::new(rank.parse().unwrap(), ranks);
        body(&world);
        return world.say("done", b"");
    }
    // `body` is a closure in the test, whose path is its type's.
    let path = std::any::type_name::<F>();
    let test =
        path.strip_suffix("::{{closure}}").and_then(|path| path.split_once("::")).expect("a closure in a test").1;
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{run}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let start = |rank: usize| {
        let output = File::create(folder.join(format!("output.{rank}"))).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        for name in ["ORDER", "DELAY", "DIE", "ERROR", "MISMATCH"] {
            command.env_remove(format!("VIRTUAL_NCCL_{name}"));
        }
        command.env(RANK, rank.to_string()).env(FOLDER, &folder).envs(variables.iter().copied());
        command.spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..ranks).map(start).collect();
    let begun = Instant::now();
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) && begun.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(2));
    }
    let mut wrong = String::new();
    for (rank, child) in children.iter_mut().enumerate() {
        let _ = child.kill();
        let status = child.wait().unwrap();
        let finished = folder.join(format!("done.{rank}")).exists();
        let right = match dies {
            Some((dead, expected)) if dead == rank => !finished && status.code() == Some(expected),
            _ => finished && status.success(),
        };
        if !right {
            let output = fs::read_to_string(folder.join(format!("output.{rank}"))).unwrap_or_default();
            wrong += &format!("rank {rank} of {ranks} ended with {status}, after {:?}:\n{output}\n", begun.elapsed());
        }
    }
    let _ = fs::remove_dir_all(&folder);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Waits until `done`, which it asks again and again.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} has taken too long");
        thread::sleep(Duration::from_millis(1));
    }
}

impl World {
    fn new(rank: usize, ranks: usize) -> World {
        load("libvirtual_gpu.so", libc::RTLD_GLOBAL);
        let (mut context, mut stream) = (null_mut(), null_mut());
        unsafe {
            ok(sys::cuInit(0));
            ok(sys::cuCtxCreate_v2(&mut context, 0, 0));
            // Non-blocking.
            ok(sys::cuStreamCreate(&mut stream, 1));
        }
        let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
        World { rank, ranks, nccl: Nccl::load(), stream: stream.cast(), folder, made: Cell::new(0) }
    }

    /// Tells the other ranks something once.
    pub fn say(&self, what: &str, bytes: &[u8]) {
        let path = self.folder.join(format!("{what}.{}", self.rank));
        let unfinished = path.with_extension(format!("{}.unfinished", self.rank));
        fs::write(&unfinished, bytes).unwrap();
        fs::rename(unfinished, path).unwrap();
    }

    /// Waits for what a rank says.
    pub fn hear(&self, what: &str, rank: usize) -> Vec<u8> {
        let path = self.folder.join(format!("{what}.{rank}"));
        until(what, || path.exists());
        fs::read(path).unwrap()
    }

    /// Waits until all ranks have come here.
    pub fn meet(&self, what: &str) {
        self.say(what, b"");
        (0..self.ranks).for_each(|rank| drop(self.hear(what, rank)));
    }

    /// A unique id that rank 0 makes, under a name.
    pub fn id(&self, name: &str) -> UniqueId {
        if self.rank == 0 {
            let mut id = UniqueId([0; 128]);
            self.ok(unsafe { (self.nccl.ncclGetUniqueId)(&mut id) });
            self.say(name, &id.0);
            return id;
        }
        UniqueId(self.hear(name, 0).try_into().unwrap())
    }

    /// Begins to make a communicator; its handle and the result.
    pub fn begin(&self, ranks: usize, id: UniqueId, rank: usize, blocking: c_int) -> (Comm, c_int) {
        let mut comm = null_mut();
        let config = Config::new(blocking);
        let result =
            unsafe { (self.nccl.ncclCommInitRankConfig)(&mut comm, ranks as c_int, id, rank as c_int, &config) };
        (comm, result)
    }

    /// A communicator of all ranks.
    pub fn comm(&self, blocking: bool) -> Comm {
        let name = format!("id {}", self.made.replace(self.made.get() + 1));
        let (comm, result) = self.begin(self.ranks, self.id(&name), self.rank, c_int::from(blocking));
        if !blocking {
            assert_eq!(result, IN_PROGRESS);
            self.settle(comm, IN_PROGRESS);
        } else {
            self.ok(result);
        }
        comm
    }

    /// What `ncclCommGetAsyncError` tells.
    pub fn status(&self, comm: Comm) -> c_int {
        let mut status = -1;
        self.ok(unsafe { (self.nccl.ncclCommGetAsyncError)(comm, &mut status) });
        status
    }

    /// Waits until the call whose result this was has succeeded.
    #[track_caller]
    pub fn settle(&self, comm: Comm, result: c_int) {
        if result == IN_PROGRESS {
            until("a call in progress", || match self.status(comm) {
                IN_PROGRESS => false,
                status => {
                    assert_eq!(status, SUCCESS, "{}", self.nccl.last_error(comm));
                    true
                }
            });
        } else {
            self.ok(result);
        }
    }

    /// Waits for an error of a communicator; its text.
    #[track_caller]
    pub fn error(&self, comm: Comm, expected: c_int) -> String {
        until("the error", || self.status(comm) != SUCCESS);
        let text = self.nccl.last_error(comm);
        assert_eq!(self.status(comm), expected, "{text}");
        text
    }

    #[track_caller]
    pub fn ok(&self, result: c_int) {
        assert_eq!(result, SUCCESS, "rank {}: {}", self.rank, self.nccl.last_error(null_mut()));
    }

    /// Expects an error; its text.
    #[track_caller]
    pub fn fails(&self, expected: c_int, result: c_int) -> String {
        let text = self.nccl.last_error(null_mut());
        assert_eq!(result, expected, "{text}");
        text
    }

    /// Enqueues a sum on this world's stream.
    #[track_caller]
    pub fn all_reduce<T: Type>(&self, comm: Comm, send: u64, recv: u64, count: usize) {
        self.settle(comm, unsafe { (self.nccl.ncclAllReduce)(send, recv, count, T::NUMBER, 0, comm, self.stream) });
    }

    /// Enqueues an all-gather on this world's stream.
    #[track_caller]
    pub fn all_gather<T: Type>(&self, comm: Comm, send: u64, recv: u64, count: usize) {
        self.settle(comm, unsafe { (self.nccl.ncclAllGather)(send, recv, count, T::NUMBER, comm, self.stream) });
    }

    /// Waits for the stream.
    #[track_caller]
    pub fn wait(&self) {
        ok(unsafe { sys::cuStreamSynchronize(self.stream.cast()) });
    }

    /// Whether the stream waits for something.
    pub fn is_waiting(&self) -> bool {
        let status = unsafe { sys::cuStreamQuery(self.stream.cast()) };
        assert!([CUresult::CUDA_SUCCESS, CUresult::CUDA_ERROR_NOT_READY].contains(&status), "{status:?}");
        status == CUresult::CUDA_ERROR_NOT_READY
    }

    #[track_caller]
    pub fn destroy(&self, comm: Comm) {
        self.ok(unsafe { (self.nccl.ncclCommDestroy)(comm) });
    }

    /// Aborts a communicator from another thread, while this one waits for the stream.
    #[track_caller]
    pub fn abort_and_wait(&self, comm: Comm) {
        let (comm, abort) = (comm as usize, self.nccl.ncclCommAbort);
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            unsafe { abort(comm as Comm) }
        });
        let begun = Instant::now();
        self.wait();
        assert_eq!(thread.join().unwrap(), SUCCESS);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    /// Device memory of that many values, none of which was written.
    pub fn room<T: Type>(&self, count: usize) -> u64 {
        let mut address = 0;
        ok(unsafe { sys::cuMemAlloc_v2(&mut address, count * size_of::<T>()) });
        address
    }

    /// Device memory that holds these values.
    pub fn upload<T: Type>(&self, values: &[T]) -> u64 {
        let address = self.room::<T>(values.len());
        self.write(address, values);
        address
    }

    /// Writes values to the device, and waits for it.
    pub fn write<T: Type>(&self, address: u64, values: &[T]) {
        ok(unsafe { sys::cuMemcpyHtoD_v2(address, values.as_ptr().cast(), size_of_val(values)) });
    }

    /// Reads values of the device.
    pub fn read<T: Type>(&self, address: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        ok(unsafe { sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), address, size_of_val(&values[..])) });
        values
    }

    /// Captures what `enqueue` enqueues on the stream, as a graph that can be launched.
    pub fn capture(&self, enqueue: impl FnOnce()) -> sys::CUgraphExec {
        let (mut graph, mut exec): (sys::CUgraph, sys::CUgraphExec) = (null_mut(), null_mut());
        unsafe {
            // The mode that forbids the most.
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
            ok(sys::cuStreamBeginCapture_v2(self.stream.cast(), mode));
            enqueue();
            ok(sys::cuStreamEndCapture(self.stream.cast(), &mut graph));
            ok(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
            ok(sys::cuGraphDestroy(graph));
        }
        exec
    }

    /// Launches a graph on the stream.
    pub fn launch(&self, exec: sys::CUgraphExec) {
        ok(unsafe { sys::cuGraphLaunch(exec, self.stream.cast()) });
    }
}

/// A null pointer of C.
pub const NULL: *mut c_void = null_mut();
