//! The table of cases: every op by its folder's name, with awkward shapes. The checks of gradients, values and
//! contracts all run over it.

use mlpconv::Shape;

use crate::case::{Case, Conv};
use crate::gather::Batches;
use crate::mlpconv::Block;
use crate::pair::Pair;
use crate::pooled::Pooled;
use crate::update::{Rule, Update};

/// One row of the table: the name of an op's folder, and its cases.
pub type Row = (&'static str, Cases);

pub enum Cases {
    /// Ops on the tape.
    Tape(Vec<Case>),
    /// Optimisers, which have a rule instead of a gradient.
    Rule(Vec<Update>),
    /// Batches of a data set, whose pixels need no gradient.
    Data(Vec<Batches>),
    /// Blocks of convolutions, whose reference is in intervals.
    Blocks(Vec<Block>),
    /// Pairs of 1×1 convolutions, whose reference is in intervals.
    Pairs(Vec<Pair>),
    /// 1×1 convolutions with a pool, which are compared with the two ops.
    Pooled(Vec<Pooled>),
}

pub fn table() -> Vec<Row> {
    vec![
        ("adamw", Cases::Rule(adamw())),
        ("average", Cases::Rule(average())),
        ("conv2d", Cases::Tape(conv2d())),
        ("cross_entropy", Cases::Tape(cross_entropy())),
        ("dropout", Cases::Tape(dropout())),
        ("flatten", Cases::Tape(flatten())),
        ("gather", Cases::Data(gather())),
        ("global_avgpool", Cases::Tape(global_avgpool())),
        ("maxpool", Cases::Tape(maxpool())),
        ("mlpconv", Cases::Blocks(mlpconv())),
        ("pointwise_maxpool", Cases::Pooled(crate::pooled::shapes())),
        ("pointwise_pair", Cases::Pairs(pointwise_pair())),
        ("relu", Cases::Tape(relu())),
        ("sgd", Cases::Rule(sgd())),
    ]
}

/// All cases of the table that run on a tape.
pub fn tape_cases() -> Vec<Case> {
    let cases = table().into_iter().filter_map(|(_, cases)| match cases {
        Cases::Tape(cases) => Some(cases),
        Cases::Rule(_) | Cases::Data(_) | Cases::Blocks(_) | Cases::Pairs(_) | Cases::Pooled(_) => None,
    });
    cases.flatten().collect()
}

/// The cases of each rule of updates, with its name.
pub fn updates() -> [(&'static str, Vec<Update>); 3] {
    [("adamw", adamw()), ("average", average()), ("sgd", sgd())]
}

/// The cases of gather: batches of a data set.
pub fn batches() -> Vec<Batches> {
    gather()
}

/// The cases of mlpconv: blocks.
pub fn blocks() -> Vec<Block> {
    mlpconv()
}

/// The cases of pointwise_pair.
pub fn pairs() -> Vec<Pair> {
    pointwise_pair()
}

/// A convolution with bias and without ReLU.
pub fn conv(x: [usize; 4], [k, r, s]: [usize; 3], stride: usize, pad: usize) -> Conv {
    Conv { x, w: [k, x[1], r, s], stride, pad, bias: true, relu: false, constant: false }
}

fn rectified(conv: Conv) -> Conv {
    Conv { relu: true, ..conv }
}

fn unbiased(conv: Conv) -> Conv {
    Conv { bias: false, ..conv }
}

fn conv2d() -> Vec<Case> {
    let cases = [
        // One pixel, alone and within padding.
        conv([1, 3, 1, 1], [5, 1, 1], 1, 0),
        unbiased(conv([3, 3, 1, 1], [4, 3, 3], 1, 1)),
        // Padding as large as the filter, and larger: some windows lie entirely in the padding.
        rectified(conv([1, 2, 4, 5], [3, 3, 3], 1, 3)),
        conv([1, 3, 1, 1], [4, 3, 3], 5, 4),
        // A stride larger than the filter skips pixels, whose gradient is zero.
        conv([3, 2, 7, 9], [3, 2, 2], 3, 0),
        unbiased(rectified(conv([1, 7, 10, 8], [2, 1, 1], 4, 0))),
        // Rectangular filters and images, prime channels.
        rectified(conv([1, 7, 6, 11], [13, 3, 1], 1, 1)),
        conv([3, 5, 9, 4], [11, 1, 4], 2, 0),
        unbiased(conv([1, 1, 5, 13], [1, 5, 2], 1, 2)),
        // A filter as large as the padded image.
        conv([3, 2, 3, 5], [7, 5, 7], 1, 1),
        rectified(conv([1, 3, 6, 6], [5, 6, 6], 2, 0)),
        // Ten channels in and out, as in the network's last block.
        rectified(conv([3, 10, 5, 5], [10, 3, 3], 1, 1)),
        unbiased(rectified(conv([1, 10, 4, 4], [10, 1, 1], 1, 0))),
        // The network's own filters on squares that are no whole tiles.
        conv([1, 1, 53, 53], [3, 11, 11], 4, 0),
        conv([1, 3, 25, 25], [2, 5, 5], 1, 2),
        rectified(conv([3, 4, 11, 11], [3, 3, 3], 1, 1)),
        // Few channels and a stride, where a GPU gathers blocks of pixels: with padding, and filters that are no whole
        // blocks.
        conv([2, 1, 25, 22], [16, 11, 11], 4, 2),
        unbiased(rectified(conv([1, 2, 9, 12], [8, 4, 4], 2, 1))),
        rectified(conv([3, 4, 7, 7], [24, 3, 4], 2, 3)),
        conv([2, 1, 12, 11], [8, 5, 4], 2, 1),
        // Rows and columns at the end that no window reaches.
        conv([1, 2, 8, 8], [2, 3, 3], 3, 0),
        // Channels that are whole wide accesses, but no whole tiles.
        rectified(conv([2, 16, 7, 9], [40, 3, 3], 1, 1)),
        conv([1, 8, 13, 11], [136, 3, 3], 2, 1),
        unbiased(conv([3, 24, 6, 5], [104, 1, 3], 1, 1)),
        conv([1, 136, 4, 3], [8, 2, 2], 1, 0),
    ];
    cases.into_iter().chain(pointwise()).map(Case::Conv2d).collect()
}

/// 1×1 convolutions, which run as GEMMs.
fn pointwise() -> [Conv; 13] {
    let mix = |x, k| conv(x, [k, 1, 1], 1, 0);
    [
        mix([1, 1, 1, 1], 1),
        unbiased(mix([3, 7, 1, 1], 5)),
        rectified(mix([1, 13, 3, 5], 1)),
        mix([3, 1, 2, 7], 11),
        unbiased(rectified(mix([1, 10, 5, 5], 10))),
        rectified(mix([3, 17, 4, 3], 19)),
        mix([1, 2, 53, 53], 3),
        unbiased(mix([1, 3, 25, 25], 2)),
        rectified(mix([3, 5, 11, 11], 4)),
        mix([1, 131, 1, 2], 67),
        // Channels that are whole wide accesses, but no whole tiles.
        mix([3, 40, 5, 7], 136),
        rectified(mix([2, 136, 3, 3], 104)),
        unbiased(mix([1, 104, 11, 13], 24)),
    ]
}

fn maxpool() -> Vec<Case> {
    let cases = [
        ([1, 1, 1, 1], 1, 1),
        ([3, 3, 2, 2], 2, 2),
        // The network's overlapping 3/2 windows.
        ([1, 2, 53, 53], 3, 2),
        ([3, 5, 11, 11], 3, 2),
        ([1, 10, 5, 5], 3, 2),
        // A stride larger than the window, and a remainder dropped by the floor rule.
        ([1, 7, 10, 13], 2, 5),
        ([3, 2, 8, 7], 3, 3),
        // Every window overlaps its neighbours.
        ([1, 3, 6, 9], 4, 1),
        // The largest window: its last position is 255, the most that a byte holds.
        ([1, 2, 16, 17], 16, 1),
        ([3, 1, 5, 3], 1, 2),
        // Channels that are whole wide accesses.
        ([2, 16, 11, 9], 3, 2),
        ([1, 8, 10, 12], 3, 2),
        ([1, 24, 7, 8], 2, 2),
        ([2, 8, 6, 5], 3, 1),
    ];
    cases.map(|(x, window, stride)| Case::MaxPool { x, window, stride }).to_vec()
}

/// Batches of images for ops without options.
fn images() -> [[usize; 4]; 12] {
    [
        [1, 1, 1, 1],
        [3, 10, 1, 1],
        [1, 7, 1, 5],
        [3, 1, 4, 3],
        [1, 13, 5, 5],
        [3, 10, 6, 6],
        [1, 2, 53, 53],
        [1, 3, 25, 25],
        [3, 5, 11, 11],
        // Channels that are whole wide accesses; more channels than pixels, and more pixels than channels.
        [2, 16, 5, 7],
        [3, 40, 3, 3],
        [1, 8, 13, 9],
    ]
}

fn global_avgpool() -> Vec<Case> {
    images().map(|x| Case::GlobalAvgPool { x }).to_vec()
}

fn flatten() -> Vec<Case> {
    images().map(|x| Case::Flatten { x }).to_vec()
}

/// Shapes of every rank for element-wise ops.
fn any_rank() -> [Shape; 9] {
    [
        Shape::vector(1),
        Shape::vector(131),
        Shape::matrix(1, 10),
        Shape::matrix(3, 7),
        Shape::image(1, 1, 1, 1),
        Shape::image(3, 5, 7, 1),
        Shape::image(1, 10, 5, 5),
        Shape::image(3, 2, 25, 25),
        // A multiple of every access width.
        Shape::image(2, 16, 4, 4),
    ]
}

fn relu() -> Vec<Case> {
    any_rank().map(|x| Case::Relu { x }).to_vec()
}

fn dropout() -> Vec<Case> {
    let probabilities = [0.5, 0.1, 0.9, 0.5, 1.0 / 3.0, 0.25, 0.5, 0.999, 0.2];
    any_rank().into_iter().zip(probabilities).map(|(x, probability)| Case::Dropout { x, probability }).collect()
}

fn cross_entropy() -> Vec<Case> {
    let cases = [(1, 1), (1, 2), (3, 1), (1, 10), (3, 10), (7, 13), (128, 10), (5, 256), (53, 11)];
    let smoothed =
        [0.0, 0.1, 1.0].map(|smoothing| cases.map(|(n, classes)| Case::CrossEntropy { n, classes, smoothing }));
    smoothed.as_flattened().to_vec()
}

fn sgd() -> Vec<Update> {
    let rule = Rule::Sgd { momentum: None, nesterov: false };
    let plain = Update { lens: &[7], rate: 0.1, rule, weight_decay: 0.0, multipliers: &[1.0] };
    let heavy = Update { rule: Rule::Sgd { momentum: Some(0.9), nesterov: false }, ..plain };
    let nesterov = Update { rule: Rule::Sgd { momentum: Some(0.9), nesterov: true }, ..plain };
    vec![
        plain,
        Update { weight_decay: 0.01, ..plain },
        heavy,
        nesterov,
        Update { weight_decay: 0.1, ..heavy },
        Update { weight_decay: 0.0005, ..nesterov },
        // Several parameters with different rate multipliers, one of them zero.
        Update { lens: &[1, 131, 10], multipliers: &[1.0, 2.0, 0.0], ..plain },
        Update { lens: &[1, 131, 10], multipliers: &[0.5, 1.0, 2.0], weight_decay: 0.01, ..nesterov },
        // More elements than fit one piece of work.
        Update { lens: &[70_001], weight_decay: 0.001, ..heavy },
        Update { rate: 0.0, ..heavy },
    ]
}

fn adamw() -> Vec<Update> {
    let rule = |betas, eps| Rule::AdamW { betas, eps };
    let usual = rule([0.9, 0.999], 1e-8);
    let plain = Update { lens: &[7], rate: 0.001, rule: usual, weight_decay: 0.0, multipliers: &[1.0] };
    vec![
        plain,
        Update { weight_decay: 0.01, ..plain },
        Update { rate: 0.1, weight_decay: 0.5, ..plain },
        // Betas of zero, which leave the sign of the last gradient; an average of gradients alone; a long average of
        // squares.
        Update { rule: rule([0.0, 0.0], 1e-8), ..plain },
        Update { rule: rule([0.95, 0.0], 1e-3), weight_decay: 0.01, ..plain },
        Update { rule: rule([0.5, 0.999_99], 1e-8), ..plain },
        // An epsilon much larger than the roots.
        Update { rule: rule([0.9, 0.999], 10.0), weight_decay: 0.01, ..plain },
        // Several parameters with different rate multipliers, one of them zero.
        Update { lens: &[1, 131, 10], multipliers: &[1.0, 2.0, 0.0], weight_decay: 0.1, ..plain },
        Update { lens: &[2, 3, 4, 5, 1030], multipliers: &[0.5, 1.0, 2.0, 1.0, 0.1], ..plain },
        // More elements than fit one piece of work.
        Update { lens: &[70_001], weight_decay: 0.001, ..plain },
        Update { rate: 0.0, weight_decay: 0.01, ..plain },
    ]
}

fn average() -> Vec<Update> {
    let kept =
        |keep| Update { lens: &[131], rate: 0.0, rule: Rule::Average { keep }, weight_decay: 0.0, multipliers: &[1.0] };
    vec![
        kept(0.0),
        kept(0.5),
        kept(1.0 - 1.0 / 3.0),
        kept(0.999),
        // Nothing of the parameter.
        kept(1.0),
        Update { lens: &[1, 131, 10], multipliers: &[1.0; 3], ..kept(0.9) },
        Update { lens: &[2, 3, 4, 5, 1030], multipliers: &[1.0; 5], ..kept(0.75) },
        // More elements than fit one piece of work.
        Update { lens: &[70_001], ..kept(0.99) },
    ]
}

fn gather() -> Vec<Batches> {
    let cases = [
        // Fashion-MNIST's images: unchanged, for the book's network, enlarged to another size, and reduced.
        (5, [28, 28], [28, 28], 2),
        (3, [28, 28], [224, 224], 2),
        (3, [28, 28], [64, 64], 3),
        (7, [28, 28], [14, 14], 4),
        // One axis keeps its size; one grows as the other shrinks.
        (2, [28, 28], [56, 28], 2),
        (2, [28, 28], [28, 41], 1),
        (7, [5, 7], [9, 3], 4),
        // One pixel.
        (3, [1, 1], [1, 1], 2),
        (3, [1, 1], [5, 6], 1),
        (3, [28, 28], [1, 1], 2),
        // Wider than any tile, and so high that few columns fit a tile.
        (2, [3, 600], [4, 521], 2),
        (1, [900, 5], [3, 33], 1),
    ];
    let batches = |images, from, to, channels, batch| Batches { images, from, to, channels, batch, changed: false };
    let grey = cases.map(|(images, from, to, batch)| batches(images, from, to, 1, batch));
    let channels = [
        // CIFAR-10's images: unchanged, for the other presets, and resized along one axis.
        (5, [32, 32], [32, 32], 3, 2),
        (3, [32, 32], [28, 28], 3, 2),
        (2, [32, 32], [96, 96], 3, 2),
        (2, [32, 32], [32, 41], 3, 1),
        (2, [32, 32], [17, 32], 3, 2),
        (7, [5, 7], [9, 3], 3, 4),
        // Other numbers of channels, one of them no whole packs.
        (3, [6, 5], [7, 8], 2, 2),
        (3, [6, 5], [7, 8], 4, 2),
        (3, [6, 5], [8, 3], 7, 2),
        // One pixel.
        (3, [1, 1], [1, 1], 3, 2),
        (3, [8, 8], [1, 1], 3, 2),
        // Tiles that begin in the middle of a pixel, and so many rows that few columns fit a tile.
        (2, [3, 300], [4, 261], 3, 2),
        (1, [900, 5], [3, 33], 3, 1),
    ];
    let channels = channels.map(|(images, from, to, channels, batch)| batches(images, from, to, channels, batch));
    let same = grey.into_iter().chain(channels);
    // Images of one pixel cannot be shifted.
    let changed = same.clone().filter(|batches| batches.from[0].min(batches.from[1]) > 1);
    same.chain(changed.map(|batches| Batches { changed: true, ..batches })).collect()
}

fn mlpconv() -> Vec<Block> {
    let block = |x, k, filter, stride, pad| Block { x, k, filter, stride, pad, relu: true, fused: true };
    let composed = |block| Block { fused: false, ..block };
    let linear = |block| Block { relu: false, ..block };
    vec![
        // The network's first filter, on fewer pixels than a tile.
        block([2, 1, 40, 40], [96, 96, 96], [11, 11], 4, 0),
        // Pixels, channels and taps that are no whole tiles; several tiles of one image.
        block([1, 1, 64, 56], [64, 96, 88], [11, 10], 2, 1),
        linear(block([1, 1, 9, 9], [56, 64, 72], [3, 3], 2, 0)),
        linear(block([3, 1, 12, 10], [96, 96, 96], [5, 4], 2, 1)),
        // Several channels, whose taps lie side by side.
        block([1, 2, 8, 9], [56, 56, 56], [3, 3], 1, 1),
        linear(block([2, 4, 6, 10], [88, 80, 96], [2, 2], 1, 0)),
        // One pixel; windows that lie entirely in the padding, and pixels that no window reads.
        block([3, 1, 1, 1], [96, 64, 56], [1, 1], 2, 0),
        block([1, 1, 20, 16], [72, 96, 64], [7, 3], 6, 8),
        // Images of one column and of one row.
        block([1, 1, 300, 4], [56, 56, 64], [3, 4], 2, 0),
        linear(block([2, 1, 3, 290], [64, 56, 56], [3, 2], 2, 0)),
        // Channels, strides and filters that have no fused kernel and run as convolutions.
        composed(block([1, 3, 7, 7], [5, 7, 11], [3, 3], 1, 1)),
        composed(linear(block([2, 8, 3, 3], [8, 16, 8], [1, 1], 1, 0))),
        composed(block([1, 1, 14, 14], [48, 48, 48], [5, 5], 2, 2)),
        composed(block([1, 1, 9, 7], [96, 96, 96], [3, 3], 1, 0)),
    ]
}

fn pointwise_pair() -> Vec<Pair> {
    let pair = |m, [c, k2, k3]: [usize; 3]| Pair { m, c, k2, k3, relu: true, mean: None };
    let linear = |pair| Pair { relu: false, ..pair };
    let means = |images, pixels, k| Pair { mean: Some(pixels), ..pair(images * pixels, k) };
    vec![
        // One pixel; a batch of the network's last images; full tiles, and one pixel more.
        pair(1, [1, 1, 1]),
        linear(pair(1, [16, 10, 3])),
        pair(175, [10, 10, 10]),
        linear(pair(256, [16, 16, 16])),
        pair(257, [3, 3, 3]),
        linear(pair(129, [1, 1, 1])),
        pair(3200, [10, 10, 10]),
        // Different channels, and ends that are no whole access.
        pair(131, [10, 7, 3]),
        linear(pair(300, [3, 16, 1])),
        linear(pair(77, [1, 5, 16])),
        pair(50, [16, 1, 10]),
        // One channel too many for the fused kernel.
        pair(100, [17, 10, 10]),
        linear(pair(60, [10, 17, 10])),
        pair(40, [10, 10, 17]),
        // Means: of the network's last images, with the last tile full or not; of images that are alone in a tile, or
        // fill it exactly; of tiles that begin within an access.
        means(7, 25, [10, 10, 10]),
        linear(means(10, 25, [16, 10, 3])),
        means(128, 25, [10, 10, 10]),
        means(11, 25, [3, 5, 7]),
        linear(means(130, 1, [10, 10, 10])),
        means(65, 4, [9, 16, 10]),
        linear(means(64, 4, [2, 3, 1])),
        means(6, 30, [7, 7, 7]),
        linear(means(5, 49, [10, 7, 13])),
        linear(means(3, 65, [11, 1, 16])),
        means(2, 128, [16, 16, 16]),
        linear(means(1, 127, [15, 15, 15])),
        means(3, 127, [15, 4, 5]),
        // One pixel too many for a tile; one channel too many.
        means(2, 129, [10, 10, 10]),
        linear(means(1, 300, [3, 4, 5])),
        means(4, 25, [10, 17, 10]),
    ]
}
