//! Numbers for tests: fixed, awkward, and the same in every precision.

use mlpconv::rng::{Purpose, Stream};
use rand::seq::SliceRandom;

/// `len` different numbers in (−1, 1), evenly spaced and clear of zero, in an order that depends on `seed`. Each is an
/// `f32`, so that every precision starts from the same numbers.
pub fn spread(seed: u64, len: usize) -> Vec<f64> {
    let mut values: Vec<f64> =
        (0..len).map(|i| f64::from(((2.0 * i as f64 + 1.3) / len as f64 - 1.0) as f32)).collect();
    values.shuffle(&mut stream(seed, 0).rng());
    values
}

/// `len` signs, ±1.
pub fn signs(seed: u64, len: usize) -> Vec<f64> {
    let stream = stream(seed, 1);
    (0..len).map(|i| if stream.word(i) < 1 << 31 { -1.0 } else { 1.0 }).collect()
}

/// Indices to sample: all of `0..len` if `len` is at most `count`, else the two ends and random others.
pub fn some_of(seed: u64, len: usize, count: usize) -> Vec<usize> {
    if len <= count {
        return (0..len).collect();
    }
    let stream = stream(seed, 2);
    let others = (0..count - 2).map(|i| (stream.word(i) as usize) % len);
    [0, len - 1].into_iter().chain(others).collect()
}

fn stream(seed: u64, what: u32) -> Stream {
    Stream::new(seed, Purpose::Shuffle, what, 0)
}

#[test]
fn spread_values_keep_their_distance_from_zero_and_each_other() {
    for len in [1, 2, 3, 10, 997] {
        let mut values = spread(5, len);
        values.sort_by(f64::total_cmp);
        let step = 1.9 / len as f64;
        assert!(values.windows(2).all(|pair| pair[1] - pair[0] > step), "{len}");
        assert!(values.iter().all(|v| v.abs() > 0.2 / len as f64 && v.abs() < 1.0), "{len}: {values:?}");
    }
}
