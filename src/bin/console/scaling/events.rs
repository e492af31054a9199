//! The events of a simulation. A job waits for other jobs, occupies a resource for a while, and is done a latency later.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

/// A job, by its number.
pub type Job = usize;

/// What one job occupies at a time: a device, a link, a host.
pub type Resource = usize;

struct Entry {
    resource: Resource,
    busy: f64,
    latency: f64,
    /// The jobs it still waits for.
    waits: usize,
    /// The first and the last cell of the list of jobs that wait for it, in `Events::lists`.
    waiting: [usize; 2],
}

/// Jobs to be run. Times are microseconds.
#[derive(Default)]
pub struct Events {
    jobs: Vec<Entry>,
    /// Linked lists: a job that waits, and the next cell.
    lists: Vec<(Job, usize)>,
    starts: Vec<(f64, Job)>,
}

/// The end of a list.
const NONE: usize = usize::MAX;

enum Change {
    /// The job's resource is free again.
    Free(Job),
    /// The job is done.
    Done(Job),
}

/// A change and its time. Changes at the same time happen in the order in which they were found.
struct Event {
    time: f64,
    number: usize,
    change: Change,
}

impl Ord for Event {
    /// The earliest is the greatest, as a heap has it.
    fn cmp(&self, other: &Self) -> Ordering {
        other.time.total_cmp(&self.time).then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

#[derive(Default)]
struct Queue {
    occupied: bool,
    waiting: VecDeque<Job>,
}

impl Events {
    /// A job that begins at `time`, occupies nothing and takes no time.
    pub fn start(&mut self, time: f64) -> Job {
        let job = self.push(NONE, 0.0, 0.0);
        self.starts.push((time, job));
        job
    }

    /// A job after all of `after`, of which there is at least one.
    pub fn job(&mut self, resource: Resource, busy: f64, latency: f64, after: &[Job]) -> Job {
        debug_assert!(!after.is_empty() && busy >= 0.0 && latency >= 0.0);
        let job = self.push(resource, busy, latency);
        self.jobs[job].waits = after.len();
        for &earlier in after {
            let cell = self.lists.len();
            self.lists.push((job, NONE));
            match &mut self.jobs[earlier].waiting {
                [_, last] if *last != NONE => self.lists[std::mem::replace(last, cell)].1 = cell,
                none => *none = [cell; 2],
            }
        }
        job
    }

    fn push(&mut self, resource: Resource, busy: f64, latency: f64) -> Job {
        self.jobs.push(Entry { resource, busy, latency, waits: 0, waiting: [NONE; 2] });
        self.jobs.len() - 1
    }

    /// Runs all jobs. Returns when each is done. A resource takes jobs in the order in which they become ready.
    pub fn run(mut self) -> Vec<f64> {
        let resources = self.jobs.iter().filter(|job| job.resource != NONE).map(|job| job.resource + 1).max();
        let mut queues: Vec<Queue> = (0..resources.unwrap_or(0)).map(|_| Queue::default()).collect();
        let mut done = vec![f64::NAN; self.jobs.len()];
        let (mut heap, mut number) = (BinaryHeap::new(), 0);
        let mut push = |heap: &mut BinaryHeap<Event>, time, change| {
            heap.push(Event { time, number, change });
            number += 1;
        };
        for (time, job) in std::mem::take(&mut self.starts) {
            push(&mut heap, time, Change::Done(job));
        }
        while let Some(Event { time, change, .. }) = heap.pop() {
            let mut begun = Vec::new();
            match change {
                Change::Free(job) => {
                    let queue = &mut queues[self.jobs[job].resource];
                    begun.extend(queue.waiting.pop_front());
                    queue.occupied = !begun.is_empty();
                }
                Change::Done(job) => {
                    done[job] = time;
                    let mut cell = self.jobs[job].waiting[0];
                    while let Some(&(later, next)) = self.lists.get(cell) {
                        let entry = &mut self.jobs[later];
                        entry.waits -= 1;
                        let queue = &mut queues[entry.resource];
                        match entry.waits {
                            0 if queue.occupied => queue.waiting.push_back(later),
                            0 => {
                                queue.occupied = true;
                                begun.push(later);
                            }
                            _ => {}
                        }
                        cell = next;
                    }
                }
            }
            for job in begun {
                let Entry { busy, latency, .. } = self.jobs[job];
                push(&mut heap, time + busy, Change::Free(job));
                push(&mut heap, time + busy + latency, Change::Done(job));
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_takes_one_job_at_a_time_and_latency_leaves_it_free() {
        let mut events = Events::default();
        let start = events.start(10.0);
        let first = events.job(0, 2.0, 5.0, &[start]);
        let second = events.job(0, 2.0, 5.0, &[start]);
        let elsewhere = events.job(1, 2.0, 5.0, &[start]);
        let last = events.job(1, 1.0, 0.0, &[first, second, elsewhere]);
        let done = events.run();
        assert_eq!([first, second, elsewhere, last].map(|job| done[job]), [17.0, 19.0, 17.0, 20.0]);
    }
}
