//! The processes of the ranks: started, signalled, waited for.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::super::{note, signals};
use super::{forwarding, lines};

/// How long the other ranks have to end by themselves once one has failed.
const BY_THEMSELVES: Duration = Duration::from_secs(10);
/// How long they have after TERM.
const AFTER_TERM: Duration = Duration::from_secs(5);
/// How long ranks have that were asked to end: they save.
const SAVING: Duration = Duration::from_secs(120);
/// How often signals are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// How long the last lines are waited for. A rank may have left processes behind that keep its output open.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The processes, by rank.
pub struct Processes {
    /// `None` once it has ended.
    running: Vec<Option<Child>>,
    /// Ranks that have ended, in the order in which they did.
    ended: Receiver<usize>,
    end: Sender<usize>,
    /// Ends when the last thread that copies output does.
    copied: Receiver<()>,
    copying: Option<Sender<()>>,
}

impl Processes {
    pub fn new() -> Self {
        let ((end, ended), (copying, copied)) = (channel(), channel());
        Processes { running: Vec::new(), ended, end, copied, copying: Some(copying) }
    }

    /// Starts the next rank.
    pub fn start(&mut self, mut command: Command) -> io::Result<()> {
        let rank = self.running.len();
        let mut child = command.spawn()?;
        let (out, err, id) = (child.stdout.take(), child.stderr.take(), child.id());
        self.running.push(Some(child));
        let prefix = format!("[rank {rank}] ");
        if let Some(out) = out {
            self.copy({
                let prefix = prefix.clone();
                move || lines::copy(out, &prefix, io::stdout())
            })?;
        }
        if let Some(err) = err {
            self.copy(move || lines::copy(err, &prefix, io::stderr()))?;
        }
        let end = self.end.clone();
        let wait = move || {
            wait_for(id);
            let _ = end.send(rank);
        };
        thread::Builder::new().name("rank".into()).spawn(wait).map(drop)
    }

    fn copy(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let copying = self.copying.clone();
        let work = move || {
            work();
            drop(copying);
        };
        thread::Builder::new().name("output".into()).spawn(work).map(drop)
    }

    fn signal(&self, signal: i32) {
        for child in self.running.iter().flatten() {
            // SAFETY: the child has not been waited for, so the number is still its own.
            unsafe { libc::kill(child.id() as i32, signal) };
        }
    }

    /// Ends all that run.
    pub fn kill(&mut self) {
        for child in self.running.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until all have ended. Returns the exit code of the first that failed.
    pub fn wait(mut self) -> u8 {
        let mut failed: Option<(u8, Instant)> = None;
        let (mut told, mut killed) = (false, false);
        while self.running.iter().any(Option::is_some) {
            if let Ok(rank) = self.ended.recv_timeout(LOOK)
                && let Some(mut child) = self.running[rank].take()
            {
                let code = child.wait().map_or(1, code);
                if code != 0 && failed.is_none() {
                    failed = Some((code, Instant::now()));
                    self.tell(rank, code);
                }
            }
            for signal in forwarding::take() {
                self.signal(signal);
            }
            if let Some((_, since)) = failed {
                // Ranks that were all asked to end are saving; a second signal would have them end without.
                if !told && !forwarding::any() && since.elapsed() >= BY_THEMSELVES {
                    told = true;
                    self.signal(libc::SIGTERM);
                }
                let patience = if forwarding::any() { SAVING } else { BY_THEMSELVES + AFTER_TERM };
                if !killed && since.elapsed() >= patience {
                    killed = true;
                    self.signal(libc::SIGKILL);
                }
            }
        }
        self.copying = None;
        // An error: all that copied have ended.
        let _ = self.copied.recv_timeout(LAST_LINES);
        failed.map_or(0, |(code, _)| code)
    }

    /// Tells which rank failed first, if there are others, and it is not that all were asked to end.
    fn tell(&self, rank: usize, code: u8) {
        let others = self.running.iter().flatten().count();
        if self.running.len() > 1 && !forwarding::any() {
            let left = if others > 0 {
                format!("; the others have {} s to end", BY_THEMSELVES.as_secs())
            } else {
                String::new()
            };
            note(format_args!("rank {rank} failed first, with exit code {code}{left}"));
        }
    }
}

/// Waits until a child has ended, and leaves it to be waited for, so that its number stays its own.
fn wait_for(id: u32) {
    loop {
        // SAFETY: all-zero bytes are a valid structure, which `waitid` fills.
        let waited = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if waited == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// The exit code as shells have it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(signals::code));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
