//! Replayed steps. A recording runs no code of the host, so the fault is in the weights: finite numbers so large that the
//! forward pass overflows.

use mlpconv::device::cuda::Cuda;
use mlpconv::train::Resident;
use mlpconv::{Param, Precision};

use super::*;

/// Six batches of an epoch.
fn images() -> Loader {
    let config = LoaderConfig { batch_size: BATCH, height: SIDE, width: SIDE, order: Order::Shuffled { seed: 5 } };
    Loader::new(dataset(6 * BATCH), config).unwrap()
}

fn averaged(cuda: &Cuda, rule: Rule, on_nan: OnNan) -> Trained<Cuda> {
    let mut trainer = trainer(cuda, Net::Averaged, rule);
    trainer.set_on_nan(on_nan).unwrap();
    trainer
}

/// Sets the weights of the first layer.
fn set(trainer: &mut Trained<Cuda>, values: &[f32]) {
    let backend = trainer.backend.clone();
    let (_, param): (_, &mut Param<Cuda>) = trainer.net.params_mut().into_iter().next().unwrap();
    param.set(&backend, values).unwrap();
}

fn first(trainer: &Trained<Cuda>) -> Vec<f32> {
    trainer.backend.download(trainer.net.params()[0].1.data()).unwrap()
}

/// Steps 0 to 5, of which the third and all later ones are replays if `record` is set. In step `fault` the first layer's
/// weights are too large; after it they are what they were. Without a fault that step is left out.
fn train(cuda: &Cuda, rule: Rule, on_nan: OnNan, record: bool, fault: Option<usize>) -> Trained<Cuda> {
    let data = Resident::new(cuda, images()).unwrap();
    let mut trainer = averaged(cuda, rule, on_nan);
    trainer.record = record;
    for step in 0..6 {
        if step == 4 && fault.is_none() {
            trainer.optimizer.count_replay();
            trainer.position.step += 1;
            continue;
        }
        let kept = first(&trainer);
        if Some(step) == fault {
            set(&mut trainer, &vec![3e38; kept.len()]);
        }
        assert_eq!(trainer.step_resident(&data, RATE).unwrap(), BATCH);
        if Some(step) == fault {
            assert!(first(&trainer).iter().all(|&w| w == 3e38), "the update is left out");
            set(&mut trainer, &kept);
        }
    }
    trainer
}

#[test]
fn a_replayed_step_is_left_out() {
    let mut runs = 0;
    for precision in Precision::ALL {
        let Some(cuda) = crate::gpu::gpu(precision) else { return };
        for rule in [Rule::Sgd, Rule::AdamW] {
            let without = state(&train(&cuda, rule, OnNan::Skip, true, None));
            // Without a recording, SGD's step is left out in `every_kernel_on_a_gpu` too.
            let ways: &[bool] = if tries(0, 1) == 0 && matches!(rule, Rule::Sgd) { &[true] } else { &[true, false] };
            for &record in ways {
                let skipped = train(&cuda, rule, OnNan::Skip, record, Some(4));
                assert!(state(&skipped) == without, "{precision}, {rule:?}, replayed {record}");
                let reading = skipped.reading().unwrap();
                assert_eq!(
                    (reading.skipped, reading.samples),
                    (1, 5 * BATCH),
                    "{precision}, {rule:?}, replayed {record}"
                );
                assert!(reading.loss.is_finite());
                runs += 1;
            }
            // With `Stop` nothing of the steps after it is left either.
            let stopped = train(&cuda, rule, OnNan::Stop, true, Some(3));
            let mut shorter = averaged(&cuda, rule, OnNan::Stop);
            let data = Resident::new(&*cuda, images()).unwrap();
            for _ in 0..3 {
                shorter.step_resident(&data, RATE).unwrap();
            }
            assert!(state(&stopped).tensors == state(&shorter).tensors, "{precision}, {rule:?}");
            let error = stopped.reading().unwrap_err();
            assert!(matches!(error, Error::Diverged { epoch: 1, step: 4, .. }), "{precision}, {rule:?}: {error}");
            runs += 1;
        }
    }
    kept(
        6,
        format!("{runs} runs with an overflow in a replayed or an eager step: the weights of a run without that step"),
    );
}

/// The whole loop on a data set in device memory: the host learns of it later, goes back, and names step, op and layer.
#[test]
fn a_run_of_replays_goes_back_to_the_step_and_names_the_op() {
    for precision in Precision::ALL {
        let Some(cuda) = crate::gpu::gpu(precision) else { return };
        let mut trainer = averaged(&cuda, Rule::AdamW, OnNan::Stop);
        let (train, test) = (Resident::new(&*cuda, images()).unwrap(), Resident::new(&*cuda, images()).unwrap());
        // A rate at which the weights are finite after the first update, and no later step is.
        let options = FitOptions { rate: 1e18, report_every: 100, ..options(OnNan::Stop) };
        let mut quiet = |_: &_, _| Ok(ControlFlow::Continue(()));
        let error = trainer.fit(&train, &test, &options, &mut quiet).unwrap_err();
        let Error::Diverged { epoch: 1, step, ref found } = error else { panic!("{precision}: {error}") };
        assert_eq!(trainer.position, Position { epoch: 0, step: step as u32 - 1 }, "{precision}: {error}");
        assert_eq!(trainer.optimizer.counters(), [("updates", step as u64 - 1)], "{precision}: {error}");
        assert!(matches!(&found.place, Place::Forward { layer: Some(_), .. }), "{precision}: {error}");
        state(&trainer).require_finite("a run of replays");
        assert!(trainer.reading().unwrap().loss.is_finite(), "{precision}");
    }
}
