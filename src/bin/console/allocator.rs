//! The programs' allocator: the system's. Where there is no memory for something small, the program ends with one line and exit
//! code 1; what the library asks for is refused to the library, whose error says more. (Rust's own handling is a backtrace
//! and SIGABRT.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Write as _, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mlpconv::system;

struct OneLine;

#[global_allocator]
static ALLOCATOR: OneLine = OneLine;

// SAFETY: every request goes to the system's allocator as it is.
unsafe impl GlobalAlloc for OneLine {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        granted(unsafe { System.realloc(address, layout, size) }, size)
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        unsafe { System.dealloc(address, layout) }
    }
}

fn granted(address: *mut u8, bytes: usize) -> *mut u8 {
    if address.is_null() && !system::is_asking() {
        end(bytes);
    }
    address
}

/// Ends the program. Of several threads that find no memory at once, one speaks.
#[cold]
fn end(bytes: usize) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::Relaxed) {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let mut line = [0; 160];
    let mut rest = &mut line[..];
    // Written to an array first, since this takes no memory, and since the line is to be one write.
    let _ =
        writeln!(rest, "error: no memory for {bytes} bytes; a smaller --batch-size, --resize or --threads takes less");
    let unused = rest.len();
    let _ = stderr().write_all(&line[..line.len() - unused]);
    // SAFETY: ends the process at once. Handlers of its end might want memory.
    unsafe { libc::_exit(1) }
}
