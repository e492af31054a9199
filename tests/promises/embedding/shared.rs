//! A network that threads share.

use std::thread;

use mlpconv::nn::predict;
use mlpconv::{Backend, Cpu, Shape};

use super::net;
use crate::promise::kept;

/// A network and its backend can be shared, and a trainer can be sent.
fn _shared_by_threads<B: Backend>() {
    fn is_sync<T: Send + Sync>() {}
    fn is_send<T: Send>() {}
    is_sync::<B>();
    is_sync::<mlpconv::nn::Nin<B>>();
    is_sync::<mlpconv::nn::Sequential<B>>();
    is_sync::<Box<dyn mlpconv::nn::Module<B>>>();
    is_send::<super::Trainer<Cpu<f32>, super::Net>>();
}

#[test]
fn a_network_predicts_in_many_threads_at_once() {
    const THREADS: usize = 4;
    let backend = Cpu::<f32>::new();
    let net = net(&backend);
    let images: Vec<f32> = (0..THREADS * 32).map(|i| (i % 17) as f32 / 16.0).collect();
    let logits = |images: &[f32]| predict(&backend, &net, images, Shape::image(2, 1, 4, 4)).unwrap();
    let alone: Vec<Vec<f32>> = images.chunks(32).map(logits).collect();
    assert_eq!(alone.iter().map(Vec::len).sum::<usize>(), THREADS * 2 * 3);
    assert_ne!(alone[0], alone[1]);
    let rounds = 50;
    thread::scope(|scope| {
        for (images, alone) in images.chunks(32).zip(&alone) {
            scope.spawn(move || (0..rounds).for_each(|_| assert_eq!(&logits(images), alone)));
        }
    });
    kept(15, format_args!("{} predictions by {THREADS} threads that share a network: the same bits", rounds * THREADS));
}
