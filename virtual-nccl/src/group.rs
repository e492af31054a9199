//! `ncclGroupStart` and `ncclGroupEnd`: what a thread calls in between is done at the end, in the order of the calls.

use std::cell::RefCell;
use std::sync::Arc;

use crate::comm::Comm;
use crate::error::{Code, Fault, Outcome};
use crate::staging::Enqueue;

#[derive(Default)]
struct Group {
    depth: usize,
    calls: Vec<(Arc<Comm>, Enqueue)>,
    /// Communicators that were made within the group. Its end waits for the blocking ones.
    made: Vec<Arc<Comm>>,
    /// The first error of a call. The group then does nothing.
    fault: Option<Fault>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

pub fn start() {
    GROUP.with_borrow_mut(|group| group.depth += 1);
}

pub fn end() -> Outcome<Code> {
    let ended = GROUP.with_borrow_mut(|group| match group.depth {
        0 => Err(Code::InvalidUsage.because("ncclGroupEnd: not in a group call.")),
        1 => Ok(Some(std::mem::take(group))),
        _ => {
            group.depth -= 1;
            Ok(None)
        }
    });
    let Some(Group { calls, made, fault, .. }) = ended? else { return Ok(Code::Success) };
    if let Some(fault) = fault {
        return Err(fault);
    }
    let mixed =
        |blocking: bool| made.iter().chain(calls.iter().map(|(comm, _)| comm)).any(|comm| comm.blocking == blocking);
    if mixed(true) && mixed(false) {
        let why = "Blocking and nonblocking communicators are not allowed in the same group.";
        return Err(Code::InvalidArgument.because(why));
    }
    made.iter().filter(|comm| comm.blocking).try_for_each(|comm| comm.wait_joined())?;
    let issued = issue(calls)?;
    Ok(if made.iter().any(|comm| !comm.blocking) { Code::InProgress } else { issued })
}

/// Whether the calling thread is within a group.
pub fn inside() -> bool {
    GROUP.with_borrow(|group| group.depth > 0)
}

/// Lets the end of the group wait for a communicator.
pub fn made(comm: Arc<Comm>) {
    GROUP.with_borrow_mut(|group| group.made.push(comm));
}

/// Notes that a call within a group has failed.
pub fn failed(fault: &Fault) {
    GROUP.with_borrow_mut(|group| {
        if group.depth > 0 {
            group.fault.get_or_insert_with(|| fault.clone());
        }
    });
}

/// Does a collective, or leaves it to the end of the group.
pub fn call(comm: Arc<Comm>, what: Enqueue) -> Outcome<Code> {
    if inside() {
        GROUP.with_borrow_mut(|group| group.calls.push((comm, what)));
        return Ok(Code::Success);
    }
    issue(vec![(comm, what)])
}

fn issue(calls: Vec<(Arc<Comm>, Enqueue)>) -> Outcome<Code> {
    let mut code = Code::Success;
    for (comm, what) in calls {
        if comm.blocking {
            what.perform(&comm)?;
        } else {
            comm.issue(what);
            code = Code::InProgress;
        }
    }
    Ok(code)
}
