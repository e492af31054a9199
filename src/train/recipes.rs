//! The presets' recipes: the settings that train their networks.

use super::{OnNan, Preset, TrainConfig};
use crate::data::{DataName, Flip, Normalization, known};
use crate::device::Precision;
use crate::ops::shards::AllReduce;
use crate::optim::adamw::{BETAS, EPS, WEIGHT_DECAY};
use crate::optim::{Average, OptimizerKind, Schedule};

impl Preset {
    /// The preset's settings, with the optimiser that its results are of: SGD, and of `stable` and `tuned` AdamW.
    pub fn config(self) -> TrainConfig {
        let d2l = TrainConfig {
            preset: Preset::D2l,
            data: DataName::Known(&known::FASHION_MNIST),
            data_dir: None,
            device: "cpu".into(),
            precision: Precision::Fp32,
            epochs: 10,
            batch_size: 128,
            shards: 1,
            allreduce: AllReduce::Tree,
            optimizer: OptimizerKind::Sgd,
            learning_rate: 0.1,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            beta1: BETAS[0],
            beta2: BETAS[1],
            eps: EPS,
            schedule: Schedule::Constant,
            resize: 224,
            seed: 0,
            on_nan: OnNan::Stop,
            train_limit: None,
            test_limit: None,
            patience: None,
            fliplr: Flip::None,
            translate: 0,
            erasing: 0.0,
            erasing_rest: 0,
            normalize: Normalization::default(),
            label_smoothing: 0.0,
            decay_weights_only: false,
            rate_multipliers: Vec::new(),
            lsuv: false,
            average: Average::None,
            tta: false,
            holdout: 0,
            init: None,
            reset_head: false,
            imported: None,
            changes: Vec::new(),
        };
        match self {
            Preset::D2l => d2l,
            Preset::D2lGluon => TrainConfig { preset: Preset::D2lGluon, epochs: 3, ..d2l },
            Preset::Stable => TrainConfig {
                preset: Preset::Stable,
                optimizer: OptimizerKind::AdamW,
                learning_rate: 0.001,
                weight_decay: WEIGHT_DECAY,
                schedule: Schedule::Cosine { warmup: 1.0 },
                ..d2l
            },
            Preset::Small => TrainConfig {
                preset: Preset::Small,
                epochs: 8,
                learning_rate: 0.025,
                momentum: 0.9,
                schedule: Schedule::Cosine { warmup: 1.0 },
                resize: 28,
                ..d2l
            },
            Preset::Tuned => TrainConfig {
                preset: Preset::Tuned,
                epochs: 45,
                optimizer: OptimizerKind::AdamW,
                learning_rate: 0.002,
                weight_decay: 0.05,
                schedule: Schedule::Cosine { warmup: 1.0 },
                resize: 28,
                fliplr: Flip::Alternate,
                translate: 1,
                erasing: 0.25,
                erasing_rest: 5,
                normalize: Normalization::grey(0.286, 0.353),
                label_smoothing: 0.05,
                decay_weights_only: true,
                average: Average::Tail(0.2),
                tta: true,
                ..d2l
            },
            // The rate is a little lower than `small`'s, because the network is deeper and wider. The weight decay is
            // the usual one of convolutional networks on CIFAR-10.
            Preset::Cifar => TrainConfig {
                preset: Preset::Cifar,
                data: DataName::Known(&known::CIFAR10),
                epochs: 60,
                learning_rate: 0.02,
                momentum: 0.9,
                weight_decay: 1e-4,
                schedule: Schedule::Cosine { warmup: 1.0 },
                resize: 32,
                ..d2l
            },
        }
    }

    /// The preset's settings with the recipe for `optimizer`.
    pub fn config_with(self, optimizer: OptimizerKind) -> TrainConfig {
        let config = self.config();
        match optimizer {
            own if own == config.optimizer => config,
            OptimizerKind::Sgd => {
                TrainConfig { optimizer, learning_rate: 0.02, momentum: 0.9, weight_decay: 5e-4, ..config }
            }
            OptimizerKind::AdamW => TrainConfig {
                optimizer,
                learning_rate: if self == Preset::Small { 0.002 } else { 0.001 },
                momentum: 0.0,
                nesterov: false,
                weight_decay: WEIGHT_DECAY,
                ..config
            },
        }
    }
}
