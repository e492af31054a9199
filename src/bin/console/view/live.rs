//! The live view: a picture of the run that a thread draws on the terminal, ten times a second if anything has changed.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::console::Term;

use super::look::Look;
use super::picture::{Picture, Size};
use crate::console::output::block;
use crate::console::signals;

const PERIOD: Duration = Duration::from_millis(100);

/// A picture that is shown until this is dropped.
pub struct Live {
    picture: Arc<Mutex<Picture>>,
    look: Look,
    /// The thread that draws, and what ends it when it is dropped; `None` if the system has no thread left.
    drawing: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Live {
    pub fn new(picture: Picture) -> Self {
        let picture = Arc::new(Mutex::new(picture));
        let look = Look::of_environment();
        let (stop, stopped) = channel();
        let shared = picture.clone();
        let draw = move || {
            let mut drawn = None;
            // After a signal the program is about to end, perhaps at once.
            while signals::received().is_none() {
                let size = size();
                let lines = lock(&shared).lines(size, look, Instant::now());
                if drawn.as_ref() != Some(&(size, lines.clone())) {
                    block::show(lines.clone());
                    drawn = Some((size, lines));
                }
                if stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            block::erase();
        };
        let thread = std::thread::Builder::new().name("view".into()).spawn(draw);
        Live { picture, look, drawing: thread.ok().map(|thread| (stop, thread)) }
    }

    /// The picture, to change it.
    pub fn picture(&self) -> MutexGuard<'_, Picture> {
        lock(&self.picture)
    }

    /// Ends the view, and leaves the curve on the terminal.
    pub fn leave_curve(mut self) {
        self.stop();
        let lines = self.picture().curve_lines(size(), self.look);
        block::leave(&lines);
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.drawing.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(picture: &Mutex<Picture>) -> MutexGuard<'_, Picture> {
    picture.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The terminal's size now; a usual one if it does not tell.
fn size() -> Size {
    let (rows, columns) = Term::stderr().size();
    Size { rows, columns }
}
