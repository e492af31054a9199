//! A rank that is lost while it trains.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use mlpconv::Error;
use mlpconv::ranks::RanksError;
use mlpconv::train::{Event, Position, TrainConfig};

use crate::team::{config, fit, loaders, on_ranks, trainer, weights};

/// The others end with an error that names it, at the end of the last complete step.
#[test]
fn the_others_have_the_weights_of_the_last_complete_step() {
    let config = config();
    let mut one = trainer(&config, None);
    let at = Position { epoch: 0, step: 2 };
    let reached = |event: &Event| matches!(event, Event::Step { position, .. } if *position == at);
    fit(&mut one, &config, None, &mut { reached }).unwrap();
    let left = on_ranks(3, |group| {
        let mut trainer = trainer(&config, Some(group));
        let gone = AtomicBool::new(false);
        let ended = fit(&mut trainer, &config, Some(group), &mut |event| {
            if group.rank() == 2 && reached(event) {
                group.leave(Some("no space left on the device"));
                gone.store(true, Ordering::Relaxed);
            }
            false
        });
        let error = ended.unwrap_err();
        if group.rank() != 2 {
            let Error::Ranks(RanksError::Left { rank: 2, why }) = &error else { panic!("{error}") };
            assert_eq!(why, "no space left on the device");
        }
        (trainer.position, weights(&trainer))
    });
    for (position, of_rank) in &left[..2] {
        assert_eq!(*position, at);
        assert!(*of_rank == weights(&one));
    }
}

/// Rank 0 alone finds a step that was not finite, in a save of its own: it ends with the error that names it, and the others with its
/// reason, in order.
#[test]
fn a_save_that_finds_a_number_that_is_not_finite_ends_all() {
    let config = TrainConfig { learning_rate: 1e30, ..config() };
    let errors = on_ranks(2, |group| {
        let mut trainer = trainer(&config, Some(group));
        let [train, test] = loaders(&config, Some(group));
        // No reading is asked for before.
        let ended = trainer.fit(&train, &test, &config.fit_options(1000), &mut |trainer, _| {
            if group.rank() == 0 {
                trainer.reading()?;
            }
            Ok(ControlFlow::Continue(()))
        });
        let error = ended.unwrap_err();
        group.leave(Some(&error.to_string()));
        error.to_string()
    });
    assert!(errors[0].starts_with("epoch 1, step "), "{}", errors[0]);
    assert!(errors[1].contains(&errors[0]) || errors[1].starts_with("epoch 1, step "), "{}", errors[1]);
}
