//! The pace of a run: the time left of its epoch and of all epochs, and the images a second.

use std::time::{Duration, Instant};

use mlpconv::ops::cross_entropy::Reading;

/// The amount of work in a run.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Epochs of the whole run.
    pub epochs: u32,
    /// Steps of an epoch.
    pub steps: usize,
    /// Training images of an epoch.
    pub images: usize,
    pub test_images: usize,
}

/// Work of one kind, and the time that it took in this process.
#[derive(Default)]
struct Work {
    done: usize,
    time: Duration,
}

impl Work {
    fn add(&mut self, done: usize, time: Duration) {
        self.done += done;
        self.time += time;
    }

    /// Seconds for one, if any is done.
    fn each(&self) -> Option<f64> {
        (self.done > 0).then(|| self.time.as_secs_f64() / self.done as f64)
    }
}

/// The time left, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    pub epoch: Duration,
    pub run: Duration,
}

impl Left {
    /// What is left some time later.
    pub fn after(self, time: Duration) -> Self {
        Left { epoch: self.epoch.saturating_sub(time), run: self.run.saturating_sub(time) }
    }
}

/// Measures work by the time between two events.
pub struct Pace {
    extent: Extent,
    training: Work,
    testing: Work,
    last: Instant,
    /// The start of the epoch, or of the process if it resumes within an epoch.
    began: Instant,
    /// The epoch's images trained on before `began`; `None` until the process's first reading.
    before: Option<usize>,
}

impl Pace {
    pub fn new(extent: Extent, now: Instant) -> Self {
        let (training, testing) = (Work::default(), Work::default());
        Pace { extent, training, testing, last: now, began: now, before: None }
    }

    /// A step is done.
    pub fn step(&mut self, now: Instant) {
        self.training.add(1, now - self.last);
        self.last = now;
    }

    /// So many more images are tested.
    pub fn tested(&mut self, images: usize, now: Instant) {
        self.testing.add(images, now - self.last);
        self.last = now;
    }

    /// An epoch is done.
    pub fn epoch(&mut self, now: Instant) {
        (self.last, self.began, self.before) = (now, now, Some(0));
    }

    /// Training images a second in this epoch, by a reading that came with a step of so many images. The device may lag
    /// behind the steps launched, so the reading's samples are counted.
    pub fn rate(&mut self, reading: &Reading, images: usize, now: Instant) -> f64 {
        let before = *self.before.get_or_insert(reading.samples.saturating_sub(images));
        (reading.samples - before) as f64 / (now - self.began).as_secs_f64().max(1e-9)
    }

    /// The time left in an epoch, counted from 1, of which so many steps are to come and so many images are tested;
    /// `None` before the first step.
    pub fn left(&self, epoch: u32, steps_left: usize, tested: usize) -> Option<Left> {
        let Extent { epochs, steps: all, images, test_images } = self.extent;
        let step = self.training.each()?;
        // Until images are tested: the forward pass is about a third of a step.
        let test = self.testing.each().unwrap_or(step * all as f64 / images.max(1) as f64 / 3.0);
        let left = |steps: usize, images: usize| steps as f64 * step + images as f64 * test;
        let of_epoch = left(steps_left, test_images.saturating_sub(tested));
        let of_run = of_epoch + f64::from(epochs.saturating_sub(epoch)) * left(all, test_images);
        let duration = |seconds| Duration::try_from_secs_f64(seconds).ok();
        Some(Left { epoch: duration(of_epoch)?, run: duration(of_run)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { epochs: 3, steps: 10, images: 1000, test_images: 300 };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_time_left_is_that_of_the_work_left() {
        let start = Instant::now();
        let mut pace = Pace::new(EXTENT, start);
        assert_eq!(pace.left(1, 10, 0), None);
        pace.step(start + seconds(3.0));
        // 9 steps of 3 s, and 300 images of 3 / 100 / 3 s.
        let left = pace.left(1, 9, 0).unwrap();
        assert_eq!(left.epoch, seconds(27.0 + 3.0));
        assert_eq!(left.run, seconds(30.0 + 2.0 * 33.0));
        for step in 2..=10 {
            pace.step(start + seconds(3.0 * f64::from(step)));
        }
        pace.tested(100, start + seconds(36.0));
        let left = pace.left(1, 0, 100).unwrap();
        assert_eq!(left, Left { epoch: seconds(12.0), run: seconds(12.0 + 2.0 * 48.0) });
        assert_eq!(left.after(seconds(20.0)), Left { epoch: seconds(0.0), run: seconds(88.0) });
    }

    /// Saving and printing between two epochs are no step's time.
    #[test]
    fn an_epoch_begins_anew() {
        let start = Instant::now();
        let mut pace = Pace::new(EXTENT, start);
        pace.step(start + seconds(1.0));
        pace.epoch(start + seconds(50.0));
        pace.step(start + seconds(51.0));
        assert_eq!(pace.training.each(), Some(1.0));
    }

    #[test]
    fn the_rate_of_a_run_resumed_in_an_epoch_counts_its_own_images() {
        let start = Instant::now();
        let mut pace = Pace::new(EXTENT, start);
        let read = |samples| Reading { samples, ..Reading::default() };
        assert_eq!(pace.rate(&read(500), 100, start + seconds(1.0)), 100.0);
        assert_eq!(pace.rate(&read(800), 100, start + seconds(2.0)), 200.0);
        pace.epoch(start + seconds(10.0));
        assert_eq!(pace.rate(&read(100), 100, start + seconds(11.0)), 100.0);
    }
}
