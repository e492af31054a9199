//! A backend whose kernels fail on demand: the kernel that is named writes one number that is not finite, or ends the process.

// Each test binary uses only a part of this module.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use mlpconv::device::{Grad, Memory, Role, StepScalars};
use mlpconv::ops::adamw::{self, AdamW, AdamWStep};
use mlpconv::ops::average::{self, Average};
use mlpconv::ops::conv2d::Conv2d;
use mlpconv::ops::cross_entropy::{CrossEntropy, Extents};
use mlpconv::ops::dropout::{Dropout, Mask};
use mlpconv::ops::flatten::Flatten;
use mlpconv::ops::fusion::{Fuse, Fusion, Verdict};
use mlpconv::ops::gather::{DeviceResizer, Gather, Selection};
use mlpconv::ops::global_avgpool::GlobalAvgPool;
use mlpconv::ops::maxpool::MaxPool;
use mlpconv::ops::mlpconv::{MlpConv, MlpConvShape};
use mlpconv::ops::pointwise_maxpool::PointwiseMaxPool;
use mlpconv::ops::pointwise_pair::{PairShape, PointwisePair};
use mlpconv::ops::relu::Relu;
use mlpconv::ops::sgd::{self, Sgd, SgdStep};
use mlpconv::ops::shards::{Addition, Shards, Span};
use mlpconv::ops::{Affine, ChainWanted, Params, Wanted};
use mlpconv::ranks::Group;
use mlpconv::shape::{ConvShape, PoolShape};
use mlpconv::{Backend, Device, Result, Shape};

/// The backend `inner` with faults on demand. Clones share them.
#[derive(Clone)]
pub struct Faulty<B> {
    pub inner: B,
    /// Whether all layers that a fused op can take are fused; otherwise none are.
    pub fused: bool,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    /// The kernel's output that is spoilt, and the number that is written to it.
    armed: Option<(&'static str, f32)>,
    /// The kernel at which the process ends.
    fatal: Option<&'static str>,
    /// The outputs written so far.
    seen: BTreeSet<&'static str>,
    /// The same and the kernels that are not spoilt, one for each call, in order.
    calls: Vec<&'static str>,
}

impl<B: Backend<Scalar = f32>> Faulty<B> {
    pub fn new(inner: B, fused: bool) -> Self {
        Faulty { inner, fused, faults: Arc::default() }
    }

    /// From now on every call of the kernel writes `number` to one element of the output; `None` is no fault.
    pub fn arm(&self, fault: Option<(&'static str, f32)>) {
        self.faults.lock().unwrap().armed = fault;
    }

    /// The outputs of kernels, by name, that have been written so far.
    pub fn seen(&self) -> Vec<&'static str> {
        self.faults.lock().unwrap().seen.iter().copied().collect()
    }

    /// The kernels that have been called so far, by their outputs, one for each call, in order.
    pub fn calls(&self) -> Vec<&'static str> {
        self.faults.lock().unwrap().calls.clone()
    }

    /// From now on the process ends at this kernel.
    pub fn kill(&self, kernel: &'static str) {
        self.faults.lock().unwrap().fatal = Some(kernel);
    }

    /// Notes a call, and ends the process if it is to end here.
    fn reach(&self, kernel: &'static str) {
        let mut faults = self.faults.lock().unwrap();
        faults.calls.push(kernel);
        if faults.fatal == Some(kernel) {
            std::process::abort();
        }
    }

    /// Replaces the largest element of `buf`, if `output` is to be spoilt. The largest is none that a mask zeroes.
    fn spoil(&self, output: &'static str, buf: &mut B::Buf) -> Result<()> {
        self.reach(output);
        let armed = {
            let mut faults = self.faults.lock().unwrap();
            faults.seen.insert(output);
            faults.armed
        };
        let Some((_, number)) = armed.filter(|(armed, _)| *armed == output) else { return Ok(()) };
        let mut values = self.inner.download(buf)?;
        let largest = values.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())).expect("a value");
        *largest = number;
        self.inner.write(buf, &values)
    }
}

impl<B: Backend<Scalar = f32>> Device for Faulty<B> {
    type Scalar = f32;
    type Buf = B::Buf;
    type Bytes = B::Bytes;
    type Recording = B::Recording;
    type Download = B::Download;

    fn name(&self) -> String {
        self.inner.name()
    }
    fn alloc(&self, role: Role, len: usize) -> Result<B::Buf> {
        self.inner.alloc(role, len)
    }
    fn alloc_lasting(&self, role: Role, len: usize) -> Result<B::Buf> {
        self.inner.alloc_lasting(role, len)
    }
    fn alloc_bytes(&self, len: usize) -> Result<B::Bytes> {
        self.inner.alloc_bytes(len)
    }
    fn alloc_rectified(&self, len: usize) -> Result<B::Buf> {
        self.inner.alloc_rectified(len)
    }
    fn upload(&self, role: Role, host: &[f32]) -> Result<B::Buf> {
        self.inner.upload(role, host)
    }
    fn upload_bytes(&self, host: &[u8]) -> Result<B::Bytes> {
        self.inner.upload_bytes(host)
    }
    fn write(&self, buf: &mut B::Buf, host: &[f32]) -> Result<()> {
        self.inner.write(buf, host)
    }
    fn write_bytes(&self, bytes: &mut B::Bytes, host: &[u8]) -> Result<()> {
        self.inner.write_bytes(bytes, host)
    }
    fn download(&self, buf: &B::Buf) -> Result<Vec<f32>> {
        self.inner.download(buf)
    }
    fn download_bytes(&self, bytes: &B::Bytes) -> Result<Vec<u8>> {
        self.inner.download_bytes(bytes)
    }
    fn download_later(&self, buf: &B::Buf) -> Result<B::Download> {
        self.inner.download_later(buf)
    }
    fn fill(&self, buf: &mut B::Buf, value: f32) -> Result<()> {
        self.inner.fill(buf, value)
    }
    fn relu_mask(&self, y: &B::Buf, dy: &mut B::Buf) -> Result<()> {
        self.inner.relu_mask(y, dy)
    }
    fn record(&self, scalars: &StepScalars, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<B::Recording>> {
        self.inner.record(scalars, work)
    }
    fn warm_up(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.inner.warm_up(work)
    }
    fn synchronize(&self) -> Result<()> {
        self.inner.synchronize()
    }
    fn memory(&self) -> Memory {
        self.inner.memory()
    }
    fn free_memory(&self) -> Result<Option<usize>> {
        self.inner.free_memory()
    }
}

impl<B: Backend<Scalar = f32>> Conv2d for Faulty<B> {
    fn conv2d_fprop(&self, s: &ConvShape, x: &B::Buf, affine: Affine<'_, B::Buf>, y: &mut B::Buf) -> Result<()> {
        self.inner.conv2d_fprop(s, x, affine, y)?;
        self.spoil("conv2d forward", y)
    }
    fn conv2d_dgrad(&self, s: &ConvShape, dy: &B::Buf, w: &B::Buf, dx: &mut Grad<B::Buf>) -> Result<()> {
        self.inner.conv2d_dgrad(s, dy, w, dx)?;
        self.spoil("conv2d input", &mut dx.buf)
    }
    fn conv2d_wgrad(&self, s: &ConvShape, x: &B::Buf, dy: &B::Buf, wanted: Wanted<'_, B::Buf>) -> Result<()> {
        let Wanted { mut dw, mut db } = wanted;
        self.inner.conv2d_wgrad(s, x, dy, Wanted { dw: dw.as_deref_mut(), db: db.as_deref_mut() })?;
        dw.map_or(Ok(()), |dw| self.spoil("conv2d parameter", &mut dw.buf))?;
        db.map_or(Ok(()), |db| self.spoil("conv2d parameter (bias)", &mut db.buf))
    }
}

impl<B: Backend<Scalar = f32>> MaxPool for Faulty<B> {
    fn maxpool_fprop(&self, s: &PoolShape, x: &B::Buf, y: &mut B::Buf, index: Option<&mut B::Bytes>) -> Result<()> {
        self.inner.maxpool_fprop(s, x, y, index)?;
        self.spoil("maxpool forward", y)
    }
    fn maxpool_dgrad(&self, s: &PoolShape, dy: &B::Buf, index: &B::Bytes, dx: &mut Grad<B::Buf>) -> Result<()> {
        self.inner.maxpool_dgrad(s, dy, index, dx)?;
        self.spoil("maxpool input", &mut dx.buf)
    }
}

impl<B: Backend<Scalar = f32>> GlobalAvgPool for Faulty<B> {
    fn global_avgpool_fprop(&self, shape: Shape, x: &B::Buf, y: &mut B::Buf) -> Result<()> {
        self.inner.global_avgpool_fprop(shape, x, y)?;
        self.spoil("global_avgpool forward", y)
    }
    fn global_avgpool_dgrad(&self, shape: Shape, dy: &B::Buf, dx: &mut Grad<B::Buf>) -> Result<()> {
        self.inner.global_avgpool_dgrad(shape, dy, dx)?;
        self.spoil("global_avgpool input", &mut dx.buf)
    }
}

impl<B: Backend<Scalar = f32>> Relu for Faulty<B> {
    fn relu_fprop(&self, x: &B::Buf, y: &mut B::Buf) -> Result<()> {
        self.inner.relu_fprop(x, y)?;
        self.spoil("relu forward", y)
    }
    fn relu_dgrad(&self, y: &B::Buf, dy: &B::Buf, dx: &mut Grad<B::Buf>) -> Result<()> {
        self.inner.relu_dgrad(y, dy, dx)?;
        self.spoil("relu input", &mut dx.buf)
    }
}

impl<B: Backend<Scalar = f32>> Dropout for Faulty<B> {
    fn dropout_fprop(&self, mask: &Mask, x: &B::Buf, y: &mut B::Buf) -> Result<()> {
        self.inner.dropout_fprop(mask, x, y)?;
        self.spoil("dropout forward", y)
    }
    fn dropout_dgrad(&self, mask: &Mask, dy: &B::Buf, dx: &mut Grad<B::Buf>) -> Result<()> {
        self.inner.dropout_dgrad(mask, dy, dx)?;
        self.spoil("dropout input", &mut dx.buf)
    }
}

impl<B: Backend<Scalar = f32>> Flatten for Faulty<B> {
    fn flatten_fprop(&self, shape: Shape, x: &B::Buf, y: &mut B::Buf) -> Result<()> {
        self.inner.flatten_fprop(shape, x, y)?;
        self.spoil("flatten forward", y)
    }
    fn flatten_dgrad(&self, shape: Shape, dy: &B::Buf, dx: &mut Grad<B::Buf>) -> Result<()> {
        self.inner.flatten_dgrad(shape, dy, dx)?;
        self.spoil("flatten input", &mut dx.buf)
    }
}

impl<B: Backend<Scalar = f32>> CrossEntropy for Faulty<B> {
    fn cross_entropy(
        &self,
        extents: Extents,
        logits: &B::Buf,
        labels: &B::Bytes,
        smoothing: f64,
        mut dlogits: Option<&mut B::Buf>,
        meter: &mut B::Buf,
    ) -> Result<()> {
        self.inner.cross_entropy(extents, logits, labels, smoothing, dlogits.as_deref_mut(), meter)?;
        dlogits.map_or(Ok(()), |dlogits| self.spoil("cross_entropy forward", dlogits))
    }
}

impl<B: Backend<Scalar = f32>> PointwisePair for Faulty<B> {
    fn pointwise_pair_fprop(&self, s: &PairShape, x: &B::Buf, p: Params<'_, B::Buf, 2>, y: &mut B::Buf) -> Result<()> {
        self.inner.pointwise_pair_fprop(s, x, p, y)?;
        self.spoil("pointwise_pair forward", y)
    }
    fn pointwise_pair_backward(
        &self,
        shape: &PairShape,
        x: &B::Buf,
        params: Params<'_, B::Buf, 2>,
        dy: &B::Buf,
        mut wanted: ChainWanted<'_, B::Buf, 2>,
    ) -> Result<()> {
        self.inner.pointwise_pair_backward(shape, x, params, dy, lend(&mut wanted))?;
        self.spoil_chain(wanted, "pointwise_pair input", "pointwise_pair parameter")
    }
}

impl<B: Backend<Scalar = f32>> MlpConv for Faulty<B> {
    fn mlpconv_fprop(
        &self,
        shape: &MlpConvShape,
        x: &B::Buf,
        params: Params<'_, B::Buf, 3>,
        y: &mut B::Buf,
        index: Option<&mut B::Bytes>,
    ) -> Result<()> {
        self.inner.mlpconv_fprop(shape, x, params, y, index)?;
        self.spoil("mlpconv forward", y)
    }
    fn mlpconv_backward(
        &self,
        shape: &MlpConvShape,
        x: &B::Buf,
        params: Params<'_, B::Buf, 3>,
        dy: &B::Buf,
        index: Option<&B::Bytes>,
        mut wanted: ChainWanted<'_, B::Buf, 3>,
    ) -> Result<()> {
        self.inner.mlpconv_backward(shape, x, params, dy, index, lend(&mut wanted))?;
        self.spoil_chain(wanted, "mlpconv input", "mlpconv parameter")
    }
}

fn lend<'a, Buf, const N: usize>(wanted: &'a mut ChainWanted<'_, Buf, N>) -> ChainWanted<'a, Buf, N> {
    let layers = wanted.layers.each_mut();
    let layers = layers.map(|layer| Wanted { dw: layer.dw.as_deref_mut(), db: layer.db.as_deref_mut() });
    ChainWanted { dx: wanted.dx.as_deref_mut(), layers }
}

impl<B: Backend<Scalar = f32>> Faulty<B> {
    fn spoil_chain<const N: usize>(
        &self,
        wanted: ChainWanted<'_, B::Buf, N>,
        input: &'static str,
        parameter: &'static str,
    ) -> Result<()> {
        wanted.dx.map_or(Ok(()), |dx| self.spoil(input, &mut dx.buf))?;
        for Wanted { dw, db } in wanted.layers {
            for gradient in [dw, db].into_iter().flatten() {
                self.spoil(parameter, &mut gradient.buf)?;
            }
        }
        Ok(())
    }
}

impl<B: Backend<Scalar = f32>> PointwiseMaxPool for Faulty<B> {
    fn pointwise_maxpool_fprop(
        &self,
        shape: &ConvShape,
        pool: &PoolShape,
        x: &B::Buf,
        affine: Affine<'_, B::Buf>,
        y: &mut B::Buf,
        index: Option<&mut B::Bytes>,
    ) -> Result<()> {
        self.inner.pointwise_maxpool_fprop(shape, pool, x, affine, y, index)?;
        self.spoil("pointwise_maxpool forward", y)
    }
}

impl<B: Backend<Scalar = f32>> Fuse for Faulty<B> {
    fn fuses(&self, _: &Fusion) -> Verdict {
        if self.fused { Ok(()) } else { Err("these tests run it layer by layer".into()) }
    }
}

impl<B: Backend<Scalar = f32>> Sgd for Faulty<B> {
    fn sgd(&self, step: &SgdStep<f32>, items: &mut [sgd::Item<'_, Self>], guard: Option<&mut B::Buf>) -> Result<()> {
        self.reach("sgd");
        let inner = items.iter_mut().map(|item| sgd::Item {
            param: &mut *item.param,
            grad: item.grad,
            velocity: item.velocity.as_deref_mut(),
            rate_multiplier: item.rate_multiplier,
            decay_multiplier: item.decay_multiplier,
        });
        self.inner.sgd(step, &mut inner.collect::<Vec<_>>(), guard)
    }
}

impl<B: Backend<Scalar = f32>> AdamW for Faulty<B> {
    fn adamw(
        &self,
        step: &AdamWStep<f32>,
        items: &mut [adamw::Item<'_, Self>],
        guard: Option<&mut B::Buf>,
    ) -> Result<()> {
        let inner = items.iter_mut().map(|item| adamw::Item {
            param: &mut *item.param,
            grad: item.grad,
            exp_avg: &mut *item.exp_avg,
            exp_avg_sq: &mut *item.exp_avg_sq,
            rate_multiplier: item.rate_multiplier,
            decay_multiplier: item.decay_multiplier,
        });
        self.inner.adamw(step, &mut inner.collect::<Vec<_>>(), guard)
    }
}

impl<B: Backend<Scalar = f32>> Average for Faulty<B> {
    fn average(&self, keep: f32, items: &mut [average::Item<'_, Self>], guard: Option<&mut B::Buf>) -> Result<()> {
        let inner = items.iter_mut().map(|item| average::Item { param: item.param, average: &mut *item.average });
        self.inner.average(keep, &mut inner.collect::<Vec<_>>(), guard)
    }
}

impl<B: Backend<Scalar = f32>> Shards for Faulty<B> {
    type Communicator = B::Communicator;

    type Request = B::Request;

    const VOTES_EVERY: usize = B::VOTES_EVERY;

    fn join(&self, group: &Arc<Group>) -> Result<B::Communicator> {
        self.inner.join(group)
    }
    fn shard_pack(&self, gradients: &[(&B::Buf, usize)], nodes: &mut B::Buf) -> Result<()> {
        self.reach("shard_pack");
        self.inner.shard_pack(gradients, nodes)
    }
    fn shard_unpack(&self, nodes: &B::Buf, gradients: &mut [(&mut B::Buf, usize)]) -> Result<()> {
        self.inner.shard_unpack(nodes, gradients)
    }
    fn shard_add(&self, nodes: &mut B::Buf, span: Span, additions: &[Addition]) -> Result<()> {
        self.inner.shard_add(nodes, span, additions)
    }
    fn shard_clear(&self, nodes: &mut B::Buf, at: usize, len: usize) -> Result<()> {
        self.inner.shard_clear(nodes, at, len)
    }
    fn all_gather(
        &self,
        with: &B::Communicator,
        own: &B::Buf,
        from: Range<usize>,
        all: &mut B::Buf,
        to: usize,
    ) -> Result<B::Request> {
        self.reach("all_gather");
        self.inner.all_gather(with, own, from, all, to)
    }
    fn all_reduce(&self, with: &B::Communicator, nodes: &mut B::Buf, part: Range<usize>) -> Result<B::Request> {
        self.inner.all_reduce(with, nodes, part)
    }
    fn complete(&self, with: &B::Communicator, request: B::Request, nodes: &mut B::Buf) -> Result<()> {
        self.reach("complete, before");
        self.inner.complete(with, request, nodes)?;
        self.reach("complete, after");
        Ok(())
    }
    fn shard_count(
        &self,
        with: Option<&B::Communicator>,
        nodes: &B::Buf,
        at: usize,
        samples: usize,
        meter: &mut B::Buf,
    ) -> Result<()> {
        self.reach("shard_count");
        self.inner.shard_count(with, nodes, at, samples, meter)
    }
}

impl<B: Backend<Scalar = f32>> Gather for Faulty<B> {
    fn gather(&self, _: &DeviceResizer<Self>, _: &Selection<'_, Self>, _: &mut B::Buf, _: &mut B::Bytes) -> Result<()> {
        unreachable!("these tests take their batches from the host")
    }
}
