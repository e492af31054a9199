//! The calls of a group, and how they fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn every_call_gives_all_ranks_the_same() {
    for count in [1, 2, 3, 8] {
        ranks(count, short(), move |group| {
            let rank = group.rank();
            assert_eq!((group.ranks(), group.place().rank), (count, rank));
            for round in 0..3 {
                let own = vec![rank as u8; 3 * rank + round];
                let all: Vec<_> = (0..count).map(|rank| vec![rank as u8; 3 * rank + round]).collect();
                assert_eq!(group.exchange(&own).unwrap(), all);
                let told = group.broadcast((rank == 0).then_some(b"from rank 0")).unwrap();
                assert_eq!(told, b"from rank 0");
                assert!(group.any(rank == count - 1).unwrap());
                assert!(!group.any(false).unwrap());
                group.barrier().unwrap();
                group.agree("settings", &[("epochs".into(), "3".into())]).unwrap();
                for len in [0, 1, 1000, 100_003] {
                    let block = |rank: usize| (0..len).map(move |i| (i * 7 + rank * 31 + round) as u8);
                    let mut all = vec![0; len * count];
                    group.all_gather(&block(rank).collect::<Vec<_>>(), &mut all).unwrap();
                    assert!(all == (0..count).flat_map(block).collect::<Vec<_>>());
                }
            }
            group.barrier().unwrap();
            assert_eq!(group.failure(), None);
            group.leave(None);
            assert_eq!(group.failure(), None);
            assert!(matches!(error(group.barrier()), RanksError::Left { rank: own, .. } if own == rank));
        });
    }
}

#[test]
fn blocks_larger_than_a_piece_go_round() {
    ranks(3, short(), |group| {
        let len = 9_000_001;
        let own = vec![group.rank() as u8 + 1; len];
        let mut all = vec![0; 3 * len];
        group.all_gather(&own, &mut all).unwrap();
        for (rank, block) in all.chunks(len).enumerate() {
            assert!(block.iter().all(|&byte| byte == rank as u8 + 1), "{rank}");
        }
        let large = vec![5; 5_000_000];
        assert!(group.broadcast((group.rank() == 0).then_some(&large)).unwrap() == large);
        group.leave(None);
    });
}

#[test]
fn ranks_that_differ_fail_everywhere_and_can_go_on() {
    let said = ranks(3, short(), |group| {
        let epochs = if group.rank() == 2 { "4" } else { "3" };
        let entries = [("data".into(), "mnist".into()), ("epochs".into(), epochs.into())];
        let said = error(group.agree("settings", &entries)).to_string();
        group.barrier().unwrap();
        group.leave(None);
        said
    });
    assert_eq!(said, vec!["the ranks differ in settings: epochs is 3 on ranks 0 and 1, 4 on rank 2"; 3]);
}

#[test]
fn lengths_that_do_not_fit_fail_everywhere_and_can_go_on() {
    for wrong in 0..3 {
        let said = ranks(3, short(), move |group| {
            let len = if group.rank() == wrong { 11 } else { 10 };
            let said = error(group.all_gather(&vec![0; len], &mut vec![0; 3 * len])).to_string();
            let room =
                error(group.all_gather(&[0; 10], &mut vec![0; 29 + usize::from(group.rank() != wrong)])).to_string();
            group.barrier().unwrap();
            group.leave(None);
            (said, room)
        });
        for (said_here, room) in &said {
            assert!(said_here.contains("has 10 bytes") || said_here.contains("has 11 bytes"), "{said_here}");
            assert!(room.contains(&format!("rank {wrong} has room for 29 bytes")), "{room}");
            assert_eq!(*said_here, said[0].0);
        }
    }
}

#[test]
fn different_calls_fail_everywhere() {
    let said = ranks(3, short(), |group| match group.rank() {
        1 => error(group.any(true)),
        _ => error(group.barrier()),
    });
    for said in said {
        assert!(matches!(&said, RanksError::Mismatch { problem } if problem.contains("rank 1 makes any")), "{said}");
    }
    let said = ranks(3, short(), |group| error(group.broadcast(Some(b"all of them"))));
    assert!(said.iter().all(|said| matches!(said, RanksError::Mismatch { .. })), "{said:?}");
}

#[test]
fn a_rank_that_leaves_with_a_reason_fails_the_others() {
    for leaver in [0, 2] {
        let hooks = Arc::new(AtomicUsize::new(0));
        let counted = hooks.clone();
        let said = ranks(3, short(), move |group| {
            let counted = counted.clone();
            group.on_failure(Box::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
            if group.rank() == leaver {
                group.leave(Some("no memory for its batch"));
                return None;
            }
            let said = error(group.barrier());
            assert_eq!(group.failure().as_ref(), Some(&said));
            assert_eq!(error(group.all_gather(&[1], &mut [0; 3])), said);
            assert_eq!(counted_by(group), 1, "at once");
            Some(said)
        });
        let expected = RanksError::Left { rank: leaver, why: "no memory for its batch".into() };
        for (rank, said) in said.into_iter().enumerate() {
            assert_eq!(said, (rank != leaver).then(|| expected.clone()));
        }
        assert_eq!(hooks.load(Ordering::SeqCst), 2, "those of the others, once each");
    }
}

/// How many hooks have been called that are given to a group now that it has failed: each at once.
fn counted_by(group: &Group) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    group.on_failure(Box::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
    count.load(Ordering::SeqCst)
}

#[test]
fn a_rank_that_is_done_fails_those_that_still_call() {
    for leaver in [0, 2] {
        let said = ranks(3, short(), move |group| {
            if group.rank() == leaver {
                group.leave(None);
                return None;
            }
            thread::sleep(Duration::from_millis(100));
            // The failure is that of a call, which rank 0 or this rank makes.
            assert!(group.failure().is_none() || group.rank() == 1 && leaver == 2);
            Some(error(group.barrier()))
        });
        for said in said.into_iter().flatten() {
            assert!(
                matches!(&said, RanksError::Left { rank, why } if *rank == leaver && why.contains("done")),
                "{said}"
            );
        }
    }
}

#[test]
fn a_rank_that_is_dropped_is_lost_at_once() {
    for lost in [0, 1] {
        let began = Instant::now();
        let said = ranks(3, short(), move |group| {
            let rank = group.rank();
            if rank == lost {
                // The others have met as well by then.
                thread::sleep(Duration::from_millis(200));
                return None;
            }
            Some(error(group.barrier()))
        });
        for said in said.into_iter().flatten() {
            let expected = matches!(&said, RanksError::Lost { rank, .. } if *rank == lost);
            assert!(expected, "{said}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[test]
fn a_call_that_takes_too_long_names_the_ranks_that_did_not_come() {
    for late in [0, 2] {
        let timeouts = Timeouts { collective: Duration::from_millis(700), ..short() };
        let said = ranks(4, timeouts, move |group| {
            if group.rank() == late {
                thread::sleep(Duration::from_secs(2));
                return group.failure();
            }
            Some(error(group.exchange(b"here")))
        });
        for said in said {
            let said = said.unwrap();
            assert!(matches!(&said, RanksError::TimedOut { missing, .. } if *missing == [late]), "{said}");
            assert!(said.to_string().starts_with("exchange (call 2) was not done within"), "{said}");
        }
    }
}

#[test]
fn a_hook_may_own_the_group() {
    ranks(2, short(), |group| {
        let owner = group.clone();
        group.on_failure(Box::new(move || drop(owner)));
        if group.rank() == 0 {
            group.leave(Some("enough"));
        } else {
            error(group.barrier());
        }
    });
}
