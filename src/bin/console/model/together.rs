//! Two launches that run beside each other: their blocks as multiprocessors take them.

use super::gpus::ALONE;

/// The blocks of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    pub count: usize,
    /// Those that a multiprocessor holds.
    pub at_once: usize,
    /// Microseconds that a multiprocessor takes for as many.
    pub round: f64,
}

/// A multiprocessor: for each block that it holds, its launch and the part of it that is left.
#[derive(Clone, Default)]
struct Multiprocessor(Vec<(usize, f64)>);

impl Multiprocessor {
    /// The share of it that is taken.
    fn taken(&self, launches: &[Blocks; 2]) -> f64 {
        self.0.iter().map(|(launch, _)| 1.0 / launches[*launch].at_once as f64).sum()
    }

    /// The part of a launch's block that it does in a microsecond: more if fewer blocks share it.
    fn rate(&self, launch: usize, launches: &[Blocks; 2]) -> f64 {
        let taken = self.taken(launches);
        1.0 / (launches[launch].round * (taken + (1.0 - taken) * ALONE))
    }
}

/// What counts as nothing left, of a block or of a multiprocessor.
const NOTHING: f64 = 1e-9;

/// The microseconds of two launches, of which the second begins its blocks where those of the first leave room: once all of the
/// first have begun, as GPUs do (an assumption).
pub fn together(launches: [Blocks; 2], multiprocessors: usize) -> f64 {
    let mut waiting = [launches[0].count, launches[1].count];
    let mut all = vec![Multiprocessor::default(); multiprocessors];
    let mut now = 0.0;
    loop {
        while let Some(next) = waiting.iter().position(|count| *count > 0) {
            let emptiest = all.iter_mut().min_by(|one, other| one.taken(&launches).total_cmp(&other.taken(&launches)));
            let emptiest = emptiest.expect("a GPU has multiprocessors");
            if emptiest.taken(&launches) + 1.0 / launches[next].at_once as f64 > 1.0 + NOTHING {
                break;
            }
            emptiest.0.push((next, 1.0));
            waiting[next] -= 1;
        }
        let ends = all.iter().flat_map(|one| one.0.iter().map(|(launch, left)| left / one.rate(*launch, &launches)));
        let Some(first) = ends.min_by(f64::total_cmp) else { return now };
        now += first;
        for one in &mut all {
            let rates = [0, 1].map(|launch| one.rate(launch, &launches));
            one.0.iter_mut().for_each(|(launch, left)| *left -= first * rates[*launch]);
            one.0.retain(|(_, left)| *left > NOTHING);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(count: usize, at_once: usize, round: f64) -> Blocks {
        Blocks { count, at_once, round }
    }

    #[test]
    fn a_launch_beside_nothing_takes_its_rounds() {
        let nothing = blocks(0, 1, 1.0);
        // Two rounds of 10 multiprocessors, and 5 blocks that are alone on theirs.
        for (launch, time) in [(blocks(40, 2, 8.0), 16.0), (blocks(45, 2, 8.0), 16.0 + 8.0 * (0.5 + 0.5 * ALONE))] {
            for pair in [[launch, nothing], [nothing, launch]] {
                assert!((together(pair, 10) - time).abs() < 1e-6, "{pair:?}");
            }
        }
    }

    #[test]
    fn a_launch_begins_where_the_other_leaves_room() {
        let holds = |pair: [Blocks; 2], expected: f64| {
            let time = together(pair, 10);
            assert!((time - expected).abs() < 1e-6, "{pair:?}: {time}");
        };
        // 8 of 10 multiprocessors are taken for 6 microseconds; 2 of 12 blocks begin at once, and the rest fill a round behind them,
        // where one launch after the other takes three rounds.
        holds([blocks(8, 1, 6.0), blocks(12, 1, 6.0)], 12.0);
        holds([blocks(8, 1, 6.0), blocks(2, 1, 6.0)], 6.0);
        // Of two kinds on one multiprocessor, each takes as long as if the other were of its own.
        holds([blocks(10, 2, 4.0), blocks(10, 2, 4.0)], 4.0);
        // A block that needs a whole multiprocessor waits for one.
        holds([blocks(10, 2, 4.0), blocks(5, 1, 4.0)], 4.0 * (0.5 + 0.5 * ALONE) + 4.0);
    }
}
