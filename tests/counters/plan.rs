//! The bytes that a training step of the book's network has to move by its plan: every kernel reads and writes each of its
//! tensors once.
//!
//! The plan: bias, ReLU and mask in the kernel that computes a tensor, on both ways; a max pool in the kernel before it, and its
//! way back in the kernels that read the gradient; the first block as one kernel each way, which keeps what is between its
//! layers to itself and computes it again, and so does one for the last two layers and the average; the pixels that no
//! pool reads left out.
//! Sums over pixels are written once and read once, by the update.

/// A convolution: channels, filter, and the sides of its input and of the part of its output that is computed.
#[derive(Clone, Copy)]
struct Conv {
    c: usize,
    k: usize,
    filter: usize,
    from: usize,
    to: usize,
}

const fn conv([c, k, filter, from, to]: [usize; 5]) -> Conv {
    Conv { c, k, filter, from, to }
}

/// The blocks, each with the side of its pool's output.
const BLOCKS: [([Conv; 3], Option<usize>); 4] = [
    ([conv([1, 96, 11, 224, 53]), conv([96, 96, 1, 53, 53]), conv([96, 96, 1, 53, 53])], Some(26)),
    ([conv([96, 256, 5, 26, 25]), conv([256, 256, 1, 25, 25]), conv([256, 256, 1, 25, 25])], Some(12)),
    ([conv([256, 384, 3, 12, 11]), conv([384, 384, 1, 11, 11]), conv([384, 384, 1, 11, 11])], Some(5)),
    ([conv([384, 10, 3, 5, 5]), conv([10, 10, 1, 5, 5]), conv([10, 10, 1, 5, 5])], None),
];

/// The bytes of a step of `n` images, in three parts.
pub struct Plan {
    pub forward: usize,
    pub backward: usize,
    pub update: usize,
    /// Of the weights' and biases' gradients, once.
    pub gradients: usize,
    /// Of the values that mask gradients.
    pub masks: usize,
    /// Of the first block's gradient, which is between its two kernels on the way back.
    pub between: usize,
    /// Of the gradient that the last two layers' kernel writes.
    pub before_pair: usize,
}

impl Plan {
    pub fn total(&self) -> usize {
        self.forward + self.backward + self.update
    }

    /// With the signs of those values instead, a sixteenth, written once and read once.
    pub fn with_signs(&self) -> usize {
        self.total() - self.masks + self.masks / 8
    }

    /// Where activations are of `width` bytes; parameters have a copy of that width if it is not 4.
    pub fn new(n: usize, width: usize) -> Self {
        let activation = |channels: usize, side: usize| n * side * side * channels * width;
        let x = |conv: &Conv| activation(conv.c, conv.from);
        let y = |conv: &Conv| activation(conv.k, conv.to);
        let weights = |conv: &Conv| conv.c * conv.k * conv.filter * conv.filter;
        let factors = |conv: &Conv| weights(conv) * width + conv.k * 4;
        let gradients = |conv: &Conv| (weights(conv) + conv.k) * 4;
        // The output or its gradient: with a pool, the pool's, and a byte for each position.
        let result = |conv: &Conv, pool: Option<usize>| match pool {
            Some(side) => activation(conv.k, side) + n * side * side * conv.k,
            None => y(conv),
        };
        // Images, labels and places, to what the first block reads.
        let mut forward = n * (28 * 28 + 1 + 4) + x(&BLOCKS[0].0[0]);
        let (mut backward, mut masks) = (0, 0);
        for (block, (convs, pool)) in BLOCKS.iter().enumerate() {
            let last = result(&convs[2], *pool);
            if block == 0 {
                forward += x(&convs[0]) + convs.iter().map(factors).sum::<usize>() + last;
                let again = x(&convs[0]) + convs.iter().map(factors).sum::<usize>() + last;
                backward += again + y(&convs[0]) + gradients(&convs[1]) + gradients(&convs[2]);
                backward += y(&convs[0]) + x(&convs[0]) + gradients(&convs[0]);
                continue;
            }
            let apart = if block == 3 { 1 } else { 3 };
            for (layer, conv) in convs.iter().enumerate().take(apart) {
                let dy = if layer == 2 { last } else { y(conv) };
                forward += x(conv) + factors(conv) + dy;
                // dgrad: with the input as the mask of its gradient. wgrad.
                backward += dy + weights(conv) * width + 2 * x(conv);
                masks += x(conv);
                backward += dy + x(conv) + gradients(conv);
            }
        }
        let [_, second, third] = &BLOCKS[3].0;
        let logits = n * third.k * width;
        let each_way = x(second) + factors(second) + factors(third) + logits;
        forward += each_way;
        backward += each_way + x(second) + gradients(second) + gradients(third);
        // Dropout, before the last block; the loss.
        let dropped = 2 * x(&BLOCKS[3].0[0]);
        forward += dropped + 2 * logits;
        backward += dropped;
        let all: usize = BLOCKS.iter().flat_map(|(convs, _)| convs).map(gradients).sum();
        let copies = if width == 4 { 0 } else { all / 4 * width };
        let (between, before_pair) = (y(&BLOCKS[0].0[0]), x(second));
        Plan { forward, backward, update: 3 * all + copies, gradients: all, masks, between, before_pair }
    }
}

#[test]
fn the_plan_has_the_networks_parameters() {
    assert_eq!(Plan::new(1, 4).gradients, 4 * 1_992_166);
}
