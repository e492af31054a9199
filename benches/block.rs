//! `cargo bench --bench block`: the gain of fusion. Three comparisons: d2l's first block with its pool as one op
//! against its convolutions and the pool one after the other; the last 1×1 convolution of each block with the pool, as
//! one kernel against two; the last two layers of the network with the average, as one op against three. A backend that
//! does not fuse a case runs only the parts. See `benches/README.md`.

mod harness;

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use mlpconv::device::{Grad, Role, Write};
use mlpconv::ops::fusion::Fusion;
use mlpconv::ops::mlpconv::MlpConvShape;
use mlpconv::ops::pointwise_pair::PairShape;
use mlpconv::ops::{Affine, ChainWanted, Params, Wanted};
use mlpconv::shape::Window;
use mlpconv::{Result, Shape};

use harness::{Bench, Device, Row, Table, Timed, measure, noise, rectified};

/// Images in a batch: on a GPU, on a CPU.
const BATCH: [usize; 2] = [128, 8];

/// The blocks of d2l's NiN that end in a pool, without the pixels that the pool does not read.
fn blocks(n: usize) -> [(&'static str, MlpConvShape); 3] {
    [
        ("block1 96 53x53", [1, 96, 11, 4, 0, 224], 53),
        ("block2 256 25x25", [96, 256, 5, 1, 2, 26], 25),
        ("block3 384 11x11", [256, 384, 3, 1, 1, 12], 11),
    ]
    .map(|(name, [c, k, filter, stride, pad, size], read)| {
        let weights = [Shape::weight(k, c, filter, filter), Shape::weight(k, k, 1, 1), Shape::weight(k, k, 1, 1)];
        let whole =
            MlpConvShape::new(Shape::image(n, c, size, size), weights, Window { stride, pad }).expect("a block");
        let read = MlpConvShape { conv: whole.conv.cropped(read, read), ..whole };
        (name, read.pooled(3, 2).expect("a pool"))
    })
}

/// The tensors of a block.
struct Tensors<B: Timed> {
    x: Arc<B::Buf>,
    w: [B::Buf; 3],
    b: [B::Buf; 3],
    /// The outputs of the convolutions, and their gradients.
    a: [Arc<B::Buf>; 3],
    da: [Grad<B::Buf>; 3],
    /// The pool's output, or its gradient.
    y: B::Buf,
    index: B::Bytes,
    dx: Option<Grad<B::Buf>>,
    dw: [Grad<B::Buf>; 3],
    db: [Grad<B::Buf>; 3],
}

impl<B: Timed> Tensors<B> {
    fn new(backend: &B, shape: &MlpConvShape) -> Result<Self> {
        let noise = |role, len| noise(backend, role, len);
        let grad = |role, len| noise(role, len).map(|buf| Grad::new(buf, Write::Overwrite));
        let (conv, [second, third]) = (&shape.conv, [shape.second(), shape.third()]);
        let weights = [conv.weight().len(), second.c * second.k, third.c * third.k];
        let channels = [conv.k, shape.k2, shape.k3];
        let outputs = channels.map(|k| conv.pixels() * k);
        let pooled = shape.output().len();
        // The gradient of the network's input is not computed.
        let dx = if conv.c == 1 { None } else { Some(grad(Role::Activation, conv.input().len())?) };
        Ok(Tensors {
            x: rectified(backend, conv.input())?.into(),
            w: try_map(weights, |len| noise(Role::Parameter, len))?,
            b: try_map(channels, |len| noise(Role::Parameter, len))?,
            a: try_map(channels, |k| rectified(backend, Shape::image(conv.n, k, conv.p, conv.q)).map(Arc::new))?,
            da: try_map(outputs, |len| grad(Role::Activation, len))?,
            y: noise(Role::Activation, pooled)?,
            index: backend.upload_bytes(&(0..pooled).map(|i| (i % 9) as u8).collect::<Vec<_>>())?,
            dx,
            dw: try_map(weights, |len| grad(Role::Parameter, len))?,
            db: try_map(channels, |len| grad(Role::Parameter, len))?,
        })
    }

    /// Runs the block as one op.
    fn one(&mut self, backend: &B, shape: &MlpConvShape, pass: &str) -> Result<()> {
        let Tensors { x, w, b, y, index, dx, dw, db, .. } = self;
        let params = Params { w: w.each_ref(), b: b.each_ref(), relu: true };
        if pass == "forward" {
            return backend.mlpconv_fprop(shape, x, params, y, Some(index));
        }
        dx.iter_mut().for_each(|dx| dx.set_mask(x.clone()));
        let wanted = ChainWanted { dx: dx.as_mut(), layers: layers(dw, db) };
        backend.mlpconv_backward(shape, x, params, y, Some(index), wanted)
    }

    /// Runs the block's parts one after the other, as a tape does.
    fn parts(&mut self, backend: &B, shape: &MlpConvShape, pass: &str) -> Result<()> {
        let Tensors { x, w, b, a: [a1, a2, a3], da: [da1, da2, da3], y, index, dx, dw, db } = self;
        let ([dw1, dw2, dw3], [db1, db2, db3]) = (dw, db);
        let (conv, second, third) = (&shape.conv, shape.second(), shape.third());
        let pool = shape.pool.as_ref().expect("each has one");
        if pass == "forward" {
            let params = Params { w: w.each_ref(), b: b.each_ref(), relu: true };
            backend.conv2d_fprop(conv, x, params.layer(0), own(a1))?;
            backend.conv2d_fprop(&second, a1, params.layer(1), own(a2))?;
            backend.conv2d_fprop(&third, a2, params.layer(2), own(a3))?;
            return backend.maxpool_fprop(pool, a3, y, Some(index));
        }
        backend.maxpool_dgrad(pool, y, index, da3)?;
        da2.set_mask(a2.clone());
        da1.set_mask(a1.clone());
        backend.conv2d_wgrad(&third, a2, &da3.buf, Wanted { dw: Some(dw3), db: Some(db3) })?;
        backend.conv2d_dgrad(&third, &da3.buf, &w[2], da2)?;
        backend.conv2d_wgrad(&second, a1, &da2.buf, Wanted { dw: Some(dw2), db: Some(db2) })?;
        backend.conv2d_dgrad(&second, &da2.buf, &w[1], da1)?;
        backend.conv2d_wgrad(conv, x, &da1.buf, Wanted { dw: Some(dw1), db: Some(db1) })?;
        match dx {
            Some(dx) => {
                dx.set_mask(x.clone());
                backend.conv2d_dgrad(conv, &da1.buf, &w[0], dx)
            }
            None => Ok(()),
        }
    }

    /// Runs the last convolution and the pool, as one kernel if `one`, else one after the other.
    fn pooled(&mut self, backend: &B, shape: &MlpConvShape, one: bool) -> Result<()> {
        let Tensors { w, b, a: [_, a2, a3], y, index, .. } = self;
        let (third, pool) = (shape.third(), shape.pool.as_ref().expect("each has one"));
        let affine = Affine { w: &w[2], bias: Some(&b[2]), relu: true };
        if one {
            return backend.pointwise_maxpool_fprop(&third, pool, a2, affine, y, Some(index));
        }
        backend.conv2d_fprop(&third, a2, affine, own(a3))?;
        backend.maxpool_fprop(pool, a3, y, Some(index))
    }
}

/// The end of the network: its last two convolutions, of ten channels, and the mean of each image.
struct End<B: Timed> {
    shape: PairShape,
    x: Arc<B::Buf>,
    w: [B::Buf; 2],
    b: [B::Buf; 2],
    hidden: Arc<B::Buf>,
    y: Arc<B::Buf>,
    /// The means, or their gradient.
    mean: B::Buf,
    dhidden: Grad<B::Buf>,
    dy: Grad<B::Buf>,
    dx: Grad<B::Buf>,
    dw: [Grad<B::Buf>; 2],
    db: [Grad<B::Buf>; 2],
}

impl<B: Timed> End<B> {
    fn new(backend: &B, shape: PairShape) -> Result<Self> {
        let noise = |role, len| noise(backend, role, len);
        let grad = |role, len| noise(role, len).map(|buf| Grad::new(buf, Write::Overwrite));
        let (weights, activations, channels) = (shape.c * shape.k2, shape.m * shape.c, shape.k2);
        Ok(End {
            shape,
            x: noise(Role::Activation, activations)?.into(),
            w: [noise(Role::Parameter, weights)?, noise(Role::Parameter, weights)?],
            b: [noise(Role::Parameter, channels)?, noise(Role::Parameter, channels)?],
            hidden: noise(Role::Activation, activations)?.into(),
            y: noise(Role::Activation, activations)?.into(),
            mean: noise(Role::Activation, shape.averaged().expect("a mean").pooled().len())?,
            dhidden: grad(Role::Activation, activations)?,
            dy: grad(Role::Activation, activations)?,
            dx: grad(Role::Activation, activations)?,
            dw: [grad(Role::Parameter, weights)?, grad(Role::Parameter, weights)?],
            db: [grad(Role::Parameter, channels)?, grad(Role::Parameter, channels)?],
        })
    }

    fn one(&mut self, backend: &B, pass: &str) -> Result<()> {
        let End { shape, x, w, b, mean, dx, dw, db, .. } = self;
        let params = Params { w: w.each_ref(), b: b.each_ref(), relu: true };
        if pass == "forward" {
            return backend.pointwise_pair_fprop(shape, x, params, mean);
        }
        dx.set_mask(x.clone());
        backend.pointwise_pair_backward(shape, x, params, mean, ChainWanted { dx: Some(dx), layers: layers(dw, db) })
    }

    fn parts(&mut self, backend: &B, pass: &str) -> Result<()> {
        let End { shape, x, w, b, hidden, y, mean, dhidden, dy, dx, dw: [dw2, dw3], db: [db2, db3] } = self;
        let (second, third, images) = (shape.second(), shape.third(), shape.averaged().expect("a mean"));
        if pass == "forward" {
            let params = Params { w: w.each_ref(), b: b.each_ref(), relu: true };
            backend.conv2d_fprop(&second, x, params.layer(0), own(hidden))?;
            backend.conv2d_fprop(&third, hidden, params.layer(1), own(y))?;
            return backend.global_avgpool_fprop(images, y, mean);
        }
        for (grad, value) in [(&mut *dy, &*y), (&mut *dhidden, &*hidden), (&mut *dx, &*x)] {
            grad.set_mask(value.clone());
        }
        backend.global_avgpool_dgrad(images, mean, dy)?;
        backend.conv2d_wgrad(&third, hidden, &dy.buf, Wanted { dw: Some(dw3), db: Some(db3) })?;
        backend.conv2d_dgrad(&third, &dy.buf, &w[1], dhidden)?;
        backend.conv2d_wgrad(&second, x, &dhidden.buf, Wanted { dw: Some(dw2), db: Some(db2) })?;
        backend.conv2d_dgrad(&second, &dhidden.buf, &w[0], dx)
    }
}

/// A buffer to be written to. Masks that share it have been taken by the kernels before.
fn own<Buf>(buf: &mut Arc<Buf>) -> &mut Buf {
    Arc::get_mut(buf).expect("no gradient holds it as its mask")
}

/// Each layer's gradients, all of which are wanted.
fn layers<'a, Buf, const N: usize>(dw: &'a mut [Grad<Buf>; N], db: &'a mut [Grad<Buf>; N]) -> [Wanted<'a, Buf>; N] {
    let mut layers = dw.iter_mut().zip(db).map(|(dw, db)| Wanted { dw: Some(dw), db: Some(db) });
    std::array::from_fn(|_| layers.next().expect("as many as there are layers"))
}

fn try_map<T, U>(values: [T; 3], mut of: impl FnMut(T) -> Result<U>) -> Result<[U; 3]> {
    let [a, b, c] = values;
    Ok([of(a)?, of(b)?, of(c)?])
}

/// Benches all cases of blocks on one backend.
fn run<B: Timed>(criterion: &mut Criterion, table: &mut Table, backend: &B, batch: usize) {
    let precision = backend.precision();
    for pass in ["forward", "backward", "1x1 and pool"] {
        let mut group = criterion.benchmark_group(format!("block {precision} {pass}"));
        for (block, shape) in blocks(batch) {
            let pooled = pass == "1x1 and pool";
            let fusion = match pooled {
                true => Fusion::PointwiseMaxPool(shape.third(), shape.pool.expect("each has one")),
                false => Fusion::MlpConv { shape, relu: true },
            };
            let fuses = backend.fuses(&fusion).is_ok();
            for one in [true, false].into_iter().filter(|&one| fuses || !one) {
                let name = format!("{block}, {}", if one { "one op" } else { "its parts" });
                let once = |tensors: &mut Tensors<B>| {
                    match (pooled, one) {
                        (true, _) => tensors.pooled(backend, &shape, one),
                        (false, true) => tensors.one(backend, &shape, pass),
                        (false, false) => tensors.parts(backend, &shape, pass),
                    }?;
                    black_box(&tensors.y);
                    Ok(())
                };
                let make = || Tensors::new(backend, &shape);
                if let Some(times) = measure(&mut group, backend, &name, make, once) {
                    let (group, pass) = ("block", pass.to_owned());
                    let flops = 2.0 * macs(&shape, &pass) as f64;
                    table.push(Row { group, case: name, pass, precision, times, flops, bytes: None, images: batch });
                }
            }
        }
        group.finish();
    }
}

/// Benches the network's end on one backend.
fn run_end<B: Timed>(criterion: &mut Criterion, table: &mut Table, backend: &B, batch: usize) {
    let (precision, shape) = (backend.precision(), PairShape { m: 25 * batch, c: 10, k2: 10, k3: 10, mean: Some(25) });
    let fuses = backend.fuses(&Fusion::PointwisePair(shape)).is_ok();
    for pass in ["forward", "backward"] {
        let mut group = criterion.benchmark_group(format!("end {precision} {pass}"));
        for one in [true, false].into_iter().filter(|&one| fuses || !one) {
            let name = format!("pair 10 5x5 and average, {}", if one { "one op" } else { "its parts" });
            let once = |end: &mut End<B>| {
                if one { end.one(backend, pass) } else { end.parts(backend, pass) }?;
                black_box(&end.mean);
                Ok(())
            };
            if let Some(times) = measure(&mut group, backend, &name, || End::new(backend, shape), once) {
                let flops = 2.0
                    * (shape.m * shape.c * (shape.k2 + shape.k3)) as f64
                    * if pass == "forward" { 1.0 } else { 2.0 };
                let (group, pass) = ("end", pass.to_owned());
                table.push(Row { group, case: name, pass, precision, times, flops, bytes: None, images: batch });
            }
        }
        group.finish();
    }
}

/// The multiply-adds of a pass. Those that a fused backward pass recomputes are not counted.
fn macs(shape: &MlpConvShape, pass: &str) -> usize {
    let [second, third] = [shape.second(), shape.third()].map(|g| g.macs());
    let first = shape.conv.macs();
    match pass {
        "forward" => first + second + third,
        "backward" => first * if shape.conv.c == 1 { 1 } else { 2 } + 2 * (second + third),
        _ => third,
    }
}

struct Blocks;

impl Bench for Blocks {
    const NAME: &'static str = "block";
    const BATCH: [usize; 2] = BATCH;

    fn run<B: Timed>(criterion: &mut Criterion, table: &mut Table, backend: &B, batch: usize, _: Device) {
        run(criterion, table, backend, batch);
        run_end(criterion, table, backend, batch);
    }
}

fn main() {
    harness::run::<Blocks>();
}
