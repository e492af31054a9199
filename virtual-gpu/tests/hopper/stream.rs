//! Rings whose consumers are threads that load from shared memory: `kernels/hopper/stream.cu`.

use super::*;

#[test]
fn columns_of_every_height_are_added_up() {
    let Some(_context) = hopper() else { return };
    let kernel = function(compile(&older(include_str!("../kernels/hopper/stream.ptx"))), "columns");
    for (width, height, blocks) in [(32, 16, 1), (4, 1, 1), (36, 100, 1), (100, 130, 3), (8, 20, 5)] {
        let mut rng = Rng(48);
        let image: Vec<f32> = (0..width * height).map(|_| rng.below(100) as f32).collect();
        let sums = upload(&vec![3f32; width]);
        let map = Tensor::tiled(Kind::F32, upload(&image), &[width as u64, height as u64], &[32, 16]);
        let to = Tensor::tiled(Kind::F32, sums, &[width as u64, 1], &[32, 1]);
        let args = Args::default().map(&map.encode()).map(&to.encode()).int(height);
        runs(kernel, [width.div_ceil(32) as u32, blocks, 1], 160, 0, args, "columns");
        for (x, sum) in download::<f32>(sums, width).into_iter().enumerate() {
            let wanted: f32 = 3.0 + (0..height).map(|y| image[y * width + x]).sum::<f32>();
            assert_eq!(sum, wanted, "{width} x {height} by {blocks}: {x}");
        }
    }
}

#[test]
fn tiles_that_a_block_changes_are_stored_as_changed() {
    let Some(_context) = hopper() else { return };
    let kernel = function(compile(&older(include_str!("../kernels/hopper/stream.ptx"))), "increment");
    for (width, height, blocks) in [(32, 32, 1), (4, 1, 1), (40, 100, 1), (100, 130, 2)] {
        let x = Rng(49).floats(width * height);
        let y = upload(&vec![f32::INFINITY; width * height + 4]);
        let [x_map, y_map] =
            [upload(&x), y].map(|at| Tensor::tiled(Kind::F32, at, &[width as u64, height as u64], &[32, 32]).encode());
        let args = Args::default().map(&x_map).map(&y_map).int(height);
        runs(kernel, [width.div_ceil(32) as u32, blocks, 1], 64, 0, args, "increment");
        let found: Vec<f32> = download(y, width * height + 4);
        assert!((0..x.len()).all(|i| found[i] == x[i] + 1.0), "{width} x {height}");
        assert!(found[x.len()..].iter().all(|y| y.is_infinite()), "written past the end");
    }
}
