//! Conversion between logical order (PyTorch's NCHW and KCRS) and memory order (NHWC and KRSC), independent of the
//! crate's.

use mlpconv::Shape;

/// The coordinates of element `index` of a row-major tensor with extents `dims`.
pub fn coordinates(dims: [usize; 4], index: usize) -> [usize; 4] {
    let [_, b, c, d] = dims;
    [index / (b * c * d), index / (c * d) % b, index / d % c, index % d]
}

/// The row-major index of `at` in a tensor with extents `dims`.
pub fn index(dims: [usize; 4], at: [usize; 4]) -> usize {
    ((at[0] * dims[1] + at[1]) * dims[2] + at[2]) * dims[3] + at[3]
}

/// The memory index of element `index` in logical order.
pub fn place(shape: Shape, index: usize) -> usize {
    let &[n, c, h, w] = shape.dims() else { return index };
    let [ni, ci, hi, wi] = coordinates([n, c, h, w], index);
    self::index([n, h, w, c], [ni, hi, wi, ci])
}

pub fn to_memory(shape: Shape, logical: &[f64]) -> Vec<f64> {
    assert_eq!(logical.len(), shape.len());
    let mut memory = vec![0.0; logical.len()];
    for (index, &value) in logical.iter().enumerate() {
        memory[place(shape, index)] = value;
    }
    memory
}

pub fn to_logical(shape: Shape, memory: &[f64]) -> Vec<f64> {
    assert_eq!(memory.len(), shape.len());
    (0..memory.len()).map(|index| memory[place(shape, index)]).collect()
}

#[test]
fn the_orders_are_each_others_inverse_and_differ_where_they_should() {
    let shape = Shape::image(2, 3, 4, 5);
    let logical: Vec<f64> = (0..shape.len()).map(|i| i as f64).collect();
    let memory = to_memory(shape, &logical);
    assert_eq!(to_logical(shape, &memory), logical);
    // The first pixel's three channels are neighbours in memory. In logical order they are 4·5 = 20 elements apart.
    assert_eq!(memory[..4], [0.0, 20.0, 40.0, 1.0]);
}
