//! The kernels of a step in shards, on every backend and precision, on lengths that divide nothing.

#[cfg(feature = "cuda")]
use mlpconv::Precision;
use mlpconv::device::Role;
use mlpconv::ops::shards::{Addition, Layout, SUMS, Span};
use mlpconv::{Backend, Cpu};

const LENS: [usize; 5] = [1, 7, 1030, 64, 4099];

/// Tensors whose elements tell where they are.
fn tensors(shift: usize) -> Vec<Vec<f32>> {
    let tensor = |(t, len): (usize, usize)| (0..len).map(|i| (i * 13 + t * 7 + shift) as f32 * 0.37 - 50.0).collect();
    LENS.into_iter().enumerate().map(tensor).collect()
}

fn packs_adds_and_unpacks<B: Backend<Scalar = f32>>(backend: &B) {
    let layout = Layout::new(LENS);
    let node = layout.len();
    let upload = |values: &[f32]| backend.upload(Role::Parameter, values).unwrap();
    let mut nodes = upload(&vec![0.0; 3 * node]);
    // Two nodes: the middle one, and the last.
    for (place, shift) in [(1, 0), (2, 1000)] {
        let buffers: Vec<_> = tensors(shift).iter().map(|tensor| upload(tensor)).collect();
        let places = layout.starts().iter().map(|start| place * node + start);
        backend.shard_pack(&buffers.iter().zip(places).collect::<Vec<_>>(), &mut nodes).unwrap();
    }
    let all = backend.download(&nodes).unwrap();
    assert!(all[..node].iter().all(|value| *value == 0.0), "the first node is untouched");
    for (place, shift) in [(1, 0), (2, 1000)] {
        let (first, of_node) = (place * node, tensors(shift));
        for (tensor, start) in of_node.iter().zip(layout.starts()) {
            assert_eq!(all[first + start..][..tensor.len()], tensor[..]);
            let end = start + tensor.len();
            let gap = end..end.next_multiple_of(4);
            assert!(all[first + gap.start..first + gap.end].iter().all(|value| *value == 0.0), "gaps stay zero");
        }
    }
    // In two buckets, of which the first begins within the node.
    let additions = [Addition { to: 1, from: 2 }, Addition { to: 0, from: 1 }];
    let cut = layout.starts()[3];
    for (first, len) in [(cut, node - cut), (0, cut)] {
        backend.shard_add(&mut nodes, Span { first, stride: node, len }, &additions).unwrap();
    }
    let mut sums: Vec<_> = LENS.iter().map(|&len| upload(&vec![f32::NAN; len])).collect();
    backend
        .shard_unpack(&nodes, &mut sums.iter_mut().zip(layout.starts().iter().copied()).collect::<Vec<_>>())
        .unwrap();
    for ((sum, a), b) in sums.iter().zip(tensors(0)).zip(tensors(1000)) {
        let wanted: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(backend.download(sum).unwrap(), wanted);
    }
    backend.shard_clear(&mut nodes, node, node).unwrap();
    let all = backend.download(&nodes).unwrap();
    assert!(all[node..2 * node].iter().all(|value| *value == 0.0));
    assert!(all[2 * node..].iter().any(|value| *value != 0.0), "nothing else is cleared");
}

/// More additions than a launch has room for, each of which needs the one before it.
fn adds_in_order<B: Backend<Scalar = f32>>(backend: &B) {
    const NODES: usize = 150;
    let value = |place: usize, i: usize| (place * 31 + i * 17) as f32 * 0.013 - 1.0 / (1 + place) as f32;
    let (stride, len) = (24, 20);
    let mut nodes = vec![7.0; 4 + NODES * stride];
    for place in 0..NODES {
        (0..len).for_each(|i| nodes[4 + place * stride + i] = value(place, i));
    }
    let mut on_device = backend.upload(Role::Parameter, &nodes).unwrap();
    let chain: Vec<_> = (0..NODES - 1).rev().map(|to| Addition { to, from: to + 1 }).collect();
    backend.shard_add(&mut on_device, Span { first: 4, stride, len }, &chain).unwrap();
    for Addition { to, from } in chain {
        (0..len).for_each(|i| nodes[4 + to * stride + i] += nodes[4 + from * stride + i]);
    }
    assert!(backend.download(&on_device).unwrap() == nodes);
}

/// The words of a running loss: sums, left out, now, late, policy, lost (`src/device/guard.rs`).
fn counts_or_leaves_out<B: Backend<Scalar = f32>>(backend: &B) {
    const STOP: f32 = 2.0;
    let count = |sums: [f32; 3], policy: f32| {
        let mut node = vec![0.0; 4 + SUMS];
        node[4..7].copy_from_slice(&sums);
        let nodes = backend.upload(Role::Parameter, &node).unwrap();
        let words = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, policy, 0.0];
        let mut meter = backend.upload(Role::Parameter, &words).unwrap();
        backend.shard_count(None, &nodes, 4, 12, &mut meter).unwrap();
        backend.download(&meter).unwrap()
    };
    assert_eq!(count([0.5, 4.0, 1.0], STOP), [1.5, 6.0, 4.0, 0.0, 0.0, 0.0, 0.0, STOP, 0.0]);
    assert_eq!(count([f32::NAN, 4.0, 1.0], STOP), [1.0, 2.0, 3.0, 12.0, 1.0, 1.0, 0.0, STOP, 0.0]);
    assert_eq!(count([f32::INFINITY, 0.0, 0.0], 1.0), [1.0, 2.0, 3.0, 12.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn nodes_hold_what_was_packed() {
    packs_adds_and_unpacks(&Cpu::<f32>::new());
    adds_in_order(&Cpu::<f32>::new());
    #[cfg(feature = "cuda")]
    for precision in Precision::ALL {
        let Some(gpu) = crate::gpu::gpu(precision) else { return };
        packs_adds_and_unpacks(&*gpu);
        adds_in_order(&*gpu);
    }
}

#[test]
fn steps_are_counted_or_left_out() {
    counts_or_leaves_out(&Cpu::<f32>::new());
    #[cfg(feature = "cuda")]
    for precision in Precision::ALL {
        let Some(gpu) = crate::gpu::gpu(precision) else { return };
        counts_or_leaves_out(&*gpu);
    }
}
