//! Buckets: the parts of a node that ranks exchange while the backward pass goes on, and how much of it is left when each begins.

use mlpconv::nn::{LayerSummary, Module, Summary};
use mlpconv::ops::shards::Layout;
use mlpconv::train::Preset;
use mlpconv::{Cpu, Result, Shape};

/// A bucket of a rank's node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub bytes: f64,
    /// The share of a shard's compute, both ways, that is left when the backward pass has completed the bucket's gradients.
    pub left: f64,
}

/// A preset's node: where its gradients lie, and which layers the backward pass has been through when each is there.
#[derive(Debug)]
pub struct Node {
    layout: Layout,
    /// For each parameter, the layers with parameters from the last one to its own.
    depths: Vec<usize>,
    /// The layers with parameters, from the first one.
    layers: Vec<LayerSummary>,
}

impl Node {
    pub fn of(preset: Preset) -> Result<Self> {
        let (net, size) = (preset.net(&Cpu::<f32>::new(), 0)?, preset.config().resize);
        let params = net.params();
        let layout = Layout::new(params.iter().map(|(_, param)| param.shape().len()));
        let channels = params.first().map_or(1, |(_, param)| param.shape().c());
        let mut layers = Summary::new(&net, Shape::image(1, channels, size, size))?.layers;
        layers.retain(|layer| layer.params > 0);
        let of = |layer: &LayerSummary, name: &str| {
            name.strip_prefix(&*layer.path).is_some_and(|rest| rest.starts_with('.'))
        };
        let depth = |name: &str| layers.iter().rev().take_while(|layer| !of(layer, name)).count() + 1;
        let depths = params.iter().map(|(name, _)| depth(name)).collect();
        Ok(Node { layout, depths, layers })
    }

    pub fn bytes(&self) -> usize {
        self.layout.len() * size_of::<f32>()
    }

    /// The buckets of at least so many elements, in the order of their exchange. `left` is asked for what is left of a shard's
    /// compute when the backward pass has been through so many layers with parameters.
    pub fn buckets(&self, least: usize, left: impl Fn(usize) -> f64) -> Vec<Bucket> {
        let buckets = self.layout.buckets(least).into_iter();
        // The backward pass comes to the first parameter of a bucket last.
        let depth = |param: usize| self.depths.get(param).copied().unwrap_or(0);
        let bucket = |bucket: mlpconv::ops::shards::Bucket| Bucket {
            bytes: (bucket.elements.len() * size_of::<f32>()) as f64,
            left: left(depth(bucket.params.start)),
        };
        buckets.map(bucket).collect()
    }

    /// What is left by the estimate of launches: all behind the one that completes the gradients.
    pub fn left_of_launches(launches: &[(String, f64)], depth: usize) -> f64 {
        let (mut done, mut left, mut all) = (0, 0.0, 0.0);
        for (kernel, time) in launches {
            all += time;
            if done >= depth {
                left += time;
            }
            done += completes(kernel);
        }
        left / all
    }

    /// What is left if compute takes time in proportion to multiply-adds, an assumption: the backward pass is two thirds of it, but
    /// for the first layer, whose input has no gradient. The gradients of a layer's parameters come before that of its input.
    pub fn left_of_macs(&self, depth: usize) -> f64 {
        let all: usize = self.layers.iter().map(LayerSummary::training_macs).sum();
        let (before, through) = self.layers.split_at(self.layers.len().saturating_sub(depth));
        let back: usize = before.iter().map(|layer| layer.training_macs() - layer.macs).sum();
        let input = through.first().map_or(0, |layer| layer.training_macs() - 2 * layer.macs);
        (back + input) as f64 / all as f64
    }
}

/// The layers whose parameters' gradients a launch completes.
fn completes(kernel: &str) -> usize {
    match kernel {
        // The two pointwise convolutions of a block.
        "pointwise_pair_backward" | "mlpconv_maxpool_backward" => 2,
        _ => usize::from(kernel.contains("_wgrad")),
    }
}

#[cfg(test)]
mod tests {
    use mlpconv::Precision;
    use mlpconv::ops::shards::BUCKET;

    use super::super::super::model::{Step, gpu};
    use super::*;

    #[test]
    fn a_node_is_the_gradients_and_the_sums_of_the_loss() {
        // Each gradient begins at a multiple of four.
        for (preset, parameters) in [(Preset::D2l, 1_992_166), (Preset::Small, 397_574)] {
            let elements = Node::of(preset).unwrap().bytes() / 4;
            assert!((parameters..parameters + 128).contains(&elements), "{preset}: {elements}");
        }
    }

    #[test]
    fn launches_complete_each_layer_of_d2l_once() {
        let node = Node::of(Preset::D2l).unwrap();
        for precision in Precision::ALL {
            let Step { launches, .. } = Step::of(gpu("h200").unwrap(), precision, 128);
            let completed: usize = launches.iter().map(|(kernel, _)| completes(kernel)).sum();
            assert_eq!((completed, node.depths[0]), (node.layers.len(), node.layers.len()), "{precision}");
        }
    }

    /// By sizes: blocks 4 and 3, block 2, block 1. By hand, from the list of `mlpconv model`: 542 and 283 of 952 microseconds.
    #[test]
    fn d2l_has_three_buckets_of_which_the_last_completes_the_way_back() {
        let node = Node::of(Preset::D2l).unwrap();
        let Step { launches, .. } = Step::of(gpu("h200").unwrap(), Precision::Bf16, 128);
        let buckets = node.buckets(BUCKET, |depth| Node::left_of_launches(&launches, depth));
        let megabytes = buckets.iter().map(|bucket| (bucket.bytes / 1e4).round() / 1e2);
        assert_eq!(megabytes.collect::<Vec<_>>(), [4.86, 2.98, 0.12]);
        assert_eq!(buckets.iter().map(|bucket| bucket.bytes).sum::<f64>(), node.bytes() as f64);
        let all: f64 = launches.iter().map(|(_, time)| time).sum();
        assert_eq!(buckets.iter().map(|bucket| (bucket.left * all).round()).collect::<Vec<_>>(), [542.0, 283.0, 0.0]);
        let macs = node.buckets(BUCKET, |depth| node.left_of_macs(depth));
        let lefts: Vec<f64> = macs.iter().map(|bucket| bucket.left).collect();
        assert!((0.4..0.66).contains(&lefts[0]) && (0.1..0.4).contains(&lefts[1]) && lefts[2] == 0.0, "{lefts:?}");
    }

    #[test]
    fn small_has_one_bucket_at_the_end_of_the_way_back() {
        let node = Node::of(Preset::Small).unwrap();
        let buckets = node.buckets(BUCKET, |depth| node.left_of_macs(depth));
        assert_eq!(buckets, [Bucket { bytes: node.bytes() as f64, left: 0.0 }]);
    }

    #[test]
    fn two_thirds_are_left_before_the_way_back_but_for_the_first_layers_input() {
        let node = Node::of(Preset::D2l).unwrap();
        let first = node.layers[0].macs as f64;
        let forward: f64 = node.layers.iter().map(|layer| layer.macs as f64).sum();
        let left = node.left_of_macs(0);
        assert!((left - (2.0 * forward - first) / (3.0 * forward - first)).abs() < 1e-12, "{left}");
    }
}
