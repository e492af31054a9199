//! A rank that is lost while it trains.

use std::sync::atomic::{AtomicBool, Ordering};

use mlpconv::Error;
use mlpconv::ranks::RanksError;
use mlpconv::train::{Event, Position};

use crate::team::{config, fit, on_ranks, trainer, weights};

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
