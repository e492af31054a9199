//! Signals that end a program go on to the ranks.

use std::sync::atomic::{AtomicU32, Ordering};

use super::super::signals::ignored;

/// The signals that go on.
const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// How often each has come from another process, and has not gone on yet.
static COME: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

/// Whether any has come, from wherever.
static ANY: AtomicU32 = AtomicU32::new(0);

/// Counts a signal. The ranks are in this process's group: what the terminal sends on Ctrl-C, or as it closes, they get
/// themselves, and it is not sent on.
extern "C" fn count(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system passes a valid structure to a handler with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    let by_the_terminal = cfg!(target_os = "linux") && code > 0;
    ANY.fetch_add(1, Ordering::Relaxed);
    if let (false, Some(at)) = (by_the_terminal, SIGNALS.iter().position(|&known| known == signal)) {
        COME[at].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the signals from now on. One that was ignored at the start stays ignored, here and in the ranks.
pub fn begin() {
    for signal in SIGNALS.into_iter().filter(|&signal| !ignored(signal)) {
        // SAFETY: all-zero bytes are a valid structure, and the handler only adds to atomic numbers.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// The signals to send on, each as often as it has come.
pub fn take() -> Vec<i32> {
    let each = SIGNALS.iter().zip(&COME);
    each.flat_map(|(&signal, come)| (0..come.swap(0, Ordering::Relaxed)).map(move |_| signal)).collect()
}

/// Whether a signal has come.
pub fn any() -> bool {
    ANY.load(Ordering::Relaxed) > 0
}
