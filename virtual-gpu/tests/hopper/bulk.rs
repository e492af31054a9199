//! Copies without a tensor map: `kernels/hopper/bulk.cu`.

use super::*;

#[test]
fn bulk_copies_move_every_value_in_both_directions() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/bulk.ptx"))), "twice");
    for (n, blocks) in [(4, 1), (512, 1), (516, 1), (3000, 1), (3004, 2), (1024, 7)] {
        let x = Rng(37).floats(n);
        let (dx, dy) = (upload(&x), upload(&vec![f32::INFINITY; n + 4]));
        let args = Args::default().ptr(dx).ptr(dy).int(n);
        runs(kernel, [blocks, 1, 1], 128, 0, args, "twice");
        let y: Vec<f32> = download(dy, n + 4);
        assert!((0..n).all(|i| y[i] == 2.0 * x[i]), "{n} by {blocks}");
        assert!(y[n..].iter().all(|y| y.is_infinite()), "written past the end");
    }
}

#[test]
fn bulk_reductions_of_all_blocks_add_up() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/bulk.ptx"))), "add_up");
    for (n, blocks) in [(1, 1), (64, 1), (5003, 9)] {
        let mut rng = Rng(38);
        let x: Vec<u32> = (0..n).map(|_| rng.bits() as u32).collect();
        let (dx, sums) = (upload(&x), upload(&[7u32; 64]));
        let args = Args::default().ptr(dx).ptr(sums).int(n);
        runs(kernel, [blocks, 1, 1], 64, 0, args, "add_up");
        let mut wanted = [7u32; 64];
        x.iter().enumerate().for_each(|(i, x)| wanted[i % 64] = wanted[i % 64].wrapping_add(*x));
        assert_eq!(download::<u32>(sums, 64), wanted, "{n} by {blocks}");
    }
}

#[test]
fn cp_async_arrives_at_an_mbarrier_when_its_copies_are_done() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/bulk.ptx"))), "reverse");
    for (n, blocks) in [(256, 1), (2560, 1), (1792, 3)] {
        let x = Rng(39).floats(n);
        let (dx, dy) = (upload(&x), alloc(4 * n));
        let args = Args::default().ptr(dx).ptr(dy).int(n);
        runs(kernel, [blocks, 1, 1], 64, 0, args, "reverse");
        let y: Vec<f32> = download(dy, n);
        assert!((0..n).all(|i| y[i] == x[n - 1 - i]), "{n} by {blocks}");
    }
}
