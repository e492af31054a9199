//! Tests of plans as data. The backend's verdicts are a closure, so the tests need no device.

use super::*;
use crate::Cpu;
use crate::nn::{Builder, Custom, Dropout, Flatten, GlobalAvgPool, Init, MaxPool, Module, Nin, Sequential, layers};
use crate::ops::fusion::Fusion;
use crate::tape::{Tape, Var};

type B = Cpu<f32>;

fn builder() -> Builder<B> {
    Builder::new(&Cpu::new(), Init::Zeros, 0)
}

const POOL: MaxPool = MaxPool { window: 3, stride: 2 };

fn everything(_: &Fusion) -> Verdict {
    Ok(())
}

fn nothing(_: &Fusion) -> Verdict {
    Err("no".into())
}

fn plan(net: &impl Module<B>, input: Shape, fuses: &dyn Fn(&Fusion) -> Verdict) -> Plan {
    Plan::new(&layers(net), input, fuses).unwrap()
}

/// Each step's op and the paths of its layers.
fn steps(plan: &Plan) -> Vec<(&'static str, String)> {
    let paths = |step: &Step| {
        let paths: Vec<&str> = plan.layers[step.layers.clone()].iter().map(|layer| &*layer.path).collect();
        paths.join(" ")
    };
    plan.steps.iter().map(|step| (step.kernel.name(), paths(step))).collect()
}

fn named(steps: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    steps.iter().map(|&(name, paths)| (name, paths.to_owned())).collect()
}

#[test]
fn the_books_network_takes_the_longest_patterns() {
    let net = Nin::d2l(&Cpu::<f32>::new(), 0).unwrap();
    let plan = plan(&net, Shape::image(2, 1, 224, 224), &everything);
    let want = [
        ("mlpconv_maxpool", "0.0 0.2 0.4 1"),
        ("mlpconv_maxpool", "2.0 2.2 2.4 3"),
        ("mlpconv_maxpool", "4.0 4.2 4.4 5"),
        ("dropout", "6"),
        ("mlpconv", "7.0 7.2 7.4"),
        ("global_avgpool", "8"),
        ("flatten", "9"),
    ];
    assert_eq!(steps(&plan), named(&want));
    let live: Vec<usize> = plan.layers.iter().map(|layer| layer.live.h()).collect();
    assert_eq!(live, [53, 53, 53, 26, 25, 25, 25, 12, 11, 11, 11, 5, 5, 5, 5, 5, 1, 1]);
    assert!(plan.steps.iter().all(|step| step.passed_over.is_empty()));
}

/// The verdicts of a GPU in bf16: it fuses the first block, the 1×1 convolutions before pools, and the pair of few
/// channels.
#[test]
fn refused_patterns_fall_back_to_shorter_ones() {
    let net = Nin::d2l(&Cpu::<f32>::new(), 0).unwrap();
    let fuses = |fusion: &Fusion| match fusion {
        Fusion::MlpConv { shape, .. } if shape.conv.c > 1 => Err("too many channels".into()),
        Fusion::PointwisePair(shape) if shape.c > 16 => Err("too many registers".into()),
        _ => Ok(()),
    };
    let plan = plan(&net, Shape::image(1, 1, 224, 224), &fuses);
    let want = [
        ("mlpconv_maxpool", "0.0 0.2 0.4 1"),
        ("conv2d", "2.0"),
        ("pointwise", "2.2"),
        ("pointwise_maxpool", "2.4 3"),
        ("conv2d", "4.0"),
        ("pointwise", "4.2"),
        ("pointwise_maxpool", "4.4 5"),
        ("dropout", "6"),
        ("conv2d", "7.0"),
        ("pointwise_pair_mean", "7.2 7.4 8"),
        ("flatten", "9"),
    ];
    assert_eq!(steps(&plan), named(&want));
    let refused: Vec<_> = plan.steps[1].passed_over.iter().map(|passed| (passed.pattern, &*passed.why)).collect();
    assert_eq!(refused, [("mlpconv + maxpool", "too many channels"), ("mlpconv", "too many channels")]);
    let Kernel::Conv2d(shape) = plan.steps[1].kernel else { panic!("a convolution") };
    assert_eq!([shape.h, shape.p, shape.q], [26, 25, 25]);
}

#[test]
fn a_sequential_within_a_sequential_is_flat() {
    let mut build = builder();
    let inner = Sequential::new().push(build.nin_block(1, 8, 3, 1, 1).unwrap());
    let net = Sequential::new().push(Sequential::new().push(inner)).push(Sequential::new().push(POOL));
    let plan = plan(&net, Shape::image(1, 1, 8, 8), &everything);
    assert_eq!(steps(&plan), named(&[("mlpconv_maxpool", "0.0.0.0 0.0.0.2 0.0.0.4 1.0")]));
    assert_eq!(plan.layers[0].live, Shape::image(1, 8, 7, 7), "pixels are left out across containers too");
}

#[test]
fn a_block_without_a_pool_is_whole() {
    let net = builder().nin_block(3, 8, 3, 1, 1).unwrap();
    let plan = plan(&net, Shape::image(2, 3, 8, 8), &everything);
    assert_eq!(steps(&plan), named(&[("mlpconv", "0 2 4")]));
    assert!(plan.layers.iter().all(|layer| layer.live == layer.output));
}

#[test]
fn a_pool_that_reads_everything_leaves_nothing_out() {
    let net = Sequential::new().push(builder().nin_block(3, 8, 3, 1, 1).unwrap()).push(POOL);
    let plan = plan(&net, Shape::image(2, 3, 9, 9), &nothing);
    let want = [("conv2d", "0.0"), ("pointwise", "0.2"), ("pointwise", "0.4"), ("maxpool", "1")];
    assert_eq!(steps(&plan), named(&want));
    assert!(plan.layers.iter().all(|layer| layer.live == layer.output));
    assert_eq!(plan.steps[3].passed_over, []);
    let patterns: Vec<_> = plan.steps[2].passed_over.iter().map(|passed| passed.pattern).collect();
    assert_eq!(patterns, ["1x1 + maxpool"]);
}

#[test]
fn all_pixels_are_computed_if_asked_for() {
    let net = Sequential::new().push(builder().nin_block(3, 8, 3, 1, 1).unwrap()).push(POOL);
    let plan = Plan::with(&layers(&net), Shape::image(2, 3, 8, 8), Pixels::All, &everything).unwrap();
    assert!(plan.layers.iter().all(|layer| layer.live == layer.output));
}

/// A custom layer, which may read all of its input.
struct Halves;

impl Module<B> for Halves {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        layers.push(Layer::new(path, "", Op::Custom(self)));
    }
}

impl Custom<B> for Halves {
    fn name(&self) -> String {
        "Halves".into()
    }

    fn output(&self, input: Shape) -> Result<Shape> {
        Ok(Shape::image(input.n(), input.c(), input.h() / 2, input.w() / 2))
    }

    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        tape.maxpool(&x, 2, 2)
    }
}

#[test]
fn nothing_is_fused_across_a_custom_layer_nor_left_out_before_it() {
    let mut build = builder();
    let net = Sequential::new()
        .push(build.nin_block(1, 8, 3, 1, 1).unwrap())
        .push(Halves)
        .push(POOL)
        .push(build.conv2d(8, 4, 1, 1, 0).unwrap())
        .push(POOL);
    let input = Shape::image(1, 1, 24, 24);
    let plan = plan(&net, input, &everything);
    let want = [("mlpconv", "0.0 0.2 0.4"), ("custom", "1"), ("maxpool", "2"), ("pointwise_maxpool", "3 4")];
    assert_eq!(steps(&plan), named(&want));
    assert_eq!(plan.layers[2].live, Shape::image(1, 8, 24, 24), "the custom layer may read all of it");
    // And it runs as planned.
    let cpu = Cpu::new();
    let mut tape = Tape::new(&cpu, crate::Mode::Inference);
    let x = crate::Device::upload(&cpu, crate::device::Role::Activation, &[0.5; 24 * 24]).unwrap();
    let x = tape.constant(x, input).unwrap();
    assert_eq!(net.forward(&mut tape, x).unwrap().shape(), Shape::image(1, 4, 2, 2));
}

#[test]
fn rows_are_left_out_through_pointwise_layers_and_not_beyond_a_filter() {
    let mut build = builder();
    let net = Sequential::new()
        .push(build.conv2d(1, 4, 3, 1, 1).unwrap())
        .push(build.conv2d(4, 4, 3, 1, 1).unwrap())
        .push(crate::nn::Relu)
        .push(build.conv2d(4, 4, 1, 1, 0).unwrap())
        .push(POOL)
        .push(Dropout(0.5))
        .push(MaxPool { window: 2, stride: 2 })
        .push(GlobalAvgPool)
        .push(Flatten);
    let plan = plan(&net, Shape::image(1, 1, 12, 12), &nothing);
    let live: Vec<usize> = plan.layers.iter().map(|layer| layer.live.h()).collect();
    assert_eq!(live, [12, 11, 11, 11, 5, 5, 2, 1, 1], "dropout's mask goes by the elements' places");
}

#[test]
fn a_1x1_convolution_on_the_networks_input_is_not_cropped() {
    let net = Sequential::new().push(builder().conv2d(3, 4, 1, 1, 0).unwrap()).push(POOL);
    let plan = plan(&net, Shape::image(1, 3, 8, 8), &nothing);
    assert_eq!(plan.layers[0].live, Shape::image(1, 4, 8, 8));
    assert_eq!(steps(&plan), named(&[("pointwise", "0"), ("maxpool", "1")]));
}

#[test]
fn layers_that_share_parameters_run_one_by_one() {
    struct Tied(crate::nn::Conv2d<B>);
    impl Module<B> for Tied {
        fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
            for name in ["a", "b"] {
                self.0.layers(&crate::nn::join(path, name), layers);
            }
        }
    }
    let net = Tied(builder().conv2d(4, 4, 1, 1, 0).unwrap().with_relu());
    let plan = plan(&net, Shape::image(1, 4, 5, 5), &everything);
    assert_eq!(steps(&plan), named(&[("pointwise", "a"), ("pointwise", "b")]));
    assert_eq!(plan.steps[0].passed_over[0].why, "two of the layers share their parameters");
}

#[test]
fn a_layer_that_cannot_take_its_input_is_named() {
    let net = Sequential::new().push(POOL);
    let problem = Plan::new(&layers::<B, _>(&net), Shape::image(1, 1, 2, 2), &nothing).unwrap_err().to_string();
    assert!(problem.starts_with("maxpool: window 3x3 is larger"), "{problem}");
}

#[test]
fn a_plan_runs_its_own_layers_and_input_alone() {
    let cpu = Cpu::new();
    let net = Sequential::new().push(MaxPool { window: 2, stride: 2 });
    let plan = plan(&net, Shape::image(1, 1, 4, 4), &nothing);
    let run = |layers: &[Layer<'_, B>], shape: Shape| {
        let mut tape = Tape::new(&cpu, crate::Mode::Inference);
        let x = crate::Device::upload(&cpu, crate::device::Role::Activation, &vec![0.0; shape.len()]).unwrap();
        let x = tape.constant(x, shape).unwrap();
        plan.run(layers, &mut tape, x).map(|y| y.shape())
    };
    assert_eq!(run(&layers(&net), Shape::image(1, 1, 4, 4)).unwrap(), Shape::image(1, 1, 2, 2));
    assert!(run(&layers(&net), Shape::image(1, 1, 5, 4)).unwrap_err().to_string().contains("planned for [1, 1, 4, 4]"));
    assert!(run(&[], Shape::image(1, 1, 4, 4)).unwrap_err().to_string().contains("not those of the plan"));
}

/// Weights that have been replaced by others have another plan, and a plan does not run them.
#[test]
fn replaced_weights_are_planned_anew() {
    let cpu = Cpu::new();
    let mut net = Sequential::new().push(builder().conv2d(1, 4, 5, 1, 0).unwrap());
    let input = Shape::image(1, 1, 8, 8);
    let forward = |net: &Sequential<B>| {
        let mut tape = Tape::new(&cpu, crate::Mode::Inference);
        let x = crate::Device::upload(&cpu, crate::device::Role::Activation, &[0.5; 64]).unwrap();
        let x = tape.constant(x, input).unwrap();
        net.forward(&mut tape, x).map(|y| y.shape())
    };
    assert_eq!(forward(&net).unwrap(), Shape::image(1, 4, 4, 4));
    let old = plan(&net, input, &nothing);
    let mut params = net.params_mut();
    *params[0].1 = crate::Param::new(&cpu, Shape::weight(2, 1, 3, 3), &[0.0; 18]).unwrap();
    *params[1].1 = crate::Param::new(&cpu, Shape::vector(2), &[0.0; 2]).unwrap();
    drop(params);
    assert!(!old.fits(&layers(&net)));
    assert_eq!(forward(&net).unwrap(), Shape::image(1, 2, 6, 6));
}

/// A custom layer whose output has another shape than it states.
struct Liar;

impl Module<B> for Liar {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        layers.push(Layer::new(path, "", Op::Custom(self)));
    }
}

impl Custom<B> for Liar {
    fn name(&self) -> String {
        "Liar".into()
    }

    fn output(&self, input: Shape) -> Result<Shape> {
        Ok(input)
    }

    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        tape.maxpool(&x, 2, 2)
    }
}

#[test]
fn a_custom_layer_that_gives_another_shape_is_named() {
    let cpu = Cpu::new();
    let net = Sequential::new().push(Liar).push(builder().conv2d(1, 4, 3, 1, 1).unwrap());
    let mut tape = Tape::new(&cpu, crate::Mode::Inference);
    let x = crate::Device::upload(&cpu, crate::device::Role::Activation, &[0.5; 64]).unwrap();
    let x = tape.constant(x, Shape::image(1, 1, 8, 8)).unwrap();
    let problem = net.forward(&mut tape, x).map(|_| ()).unwrap_err().to_string();
    assert_eq!(problem, "plan: layer 0 gave [1, 1, 4, 4], and stated [1, 1, 8, 8]");
}

/// What a GPU of these limits takes, without a device.
#[cfg(feature = "cuda")]
mod on_a_gpu {
    use super::*;
    use crate::Precision;
    use crate::device::cuda::Limits;

    const H200: Limits = Limits::h200(Precision::Bf16);

    #[test]
    fn a_block_whose_pool_has_no_kernel_is_followed_by_it() {
        let block = |linear: bool| {
            let block = builder().nin_block(1, 96, 11, 4, 0).unwrap();
            if linear { block.with_linear_output() } else { block }
        };
        let steps = |linear, pool: MaxPool, gpu: Limits| {
            let net = Sequential::new().push(block(linear)).push(pool);
            let plan = plan(&net, Shape::image(128, 1, 224, 224), &|fusion| fusion.suits(&gpu));
            let why = plan.steps()[0].passed_over.first().map(|passed| passed.why.clone()).unwrap_or_default();
            (plan.steps().iter().map(|step| step.kernel.name()).collect::<Vec<_>>(), why)
        };
        assert_eq!(steps(false, POOL, H200), (vec!["mlpconv_maxpool"], String::new()));
        for (linear, pool, gpu, why) in [
            (true, POOL, H200, "ends without one"),
            (false, MaxPool { window: 2, stride: 2 }, H200, "not 2x2 at stride 2"),
            (false, POOL, Limits { shared_memory: 99 << 10, ..H200 }, "bytes of shared memory"),
        ] {
            let (steps, said) = steps(linear, pool, gpu);
            assert_eq!(steps, ["mlpconv", "maxpool"], "{why}");
            assert!(said.contains(why), "{said}");
        }
    }
}
