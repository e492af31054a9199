//! Measures the ring and the calls of ranks on the machine at hand, for a simulation of it.

use std::time::Instant;

use mlpconv::ranks::Group;
use mlpconv::{Error, Result};

use super::super::train::meet;
use super::super::{emit, say};

/// Bytes so few that their time is latency.
const FEW: usize = 16;

/// What was measured, in microseconds and bytes a microsecond.
#[derive(Debug)]
struct Measured {
    /// A vote: a part to rank 0 and an answer.
    vote: f64,
    /// A hop of the ring.
    latency: f64,
    bandwidth: f64,
}

impl Measured {
    fn of(group: &Group, bytes: usize, rounds: usize) -> Result<Self> {
        let hops = (group.ranks() - 1) as f64;
        let vote = median(rounds, || group.any(false).map(drop))?;
        let gather = |bytes: usize| {
            let (own, mut all) = (vec![1; bytes], vec![0; bytes * group.ranks()]);
            median(rounds, || group.all_gather(&own, &mut all))
        };
        // A gather makes a call first.
        let (few, many) = (gather(FEW)?, gather(bytes)?);
        // On a machine so busy that few bytes take as long, all of the time is the transfer's.
        let (latency, busy) = (((few - vote) / hops).max(0.0), if many > few { many - few } else { many });
        Ok(Measured { vote, latency, bandwidth: bytes as f64 * hops / busy })
    }
}

/// The median time of some work, in microseconds, after a few times that do not count.
fn median(rounds: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    const WARM: usize = 3;
    let mut times = Vec::new();
    for round in 0..WARM + rounds {
        let began = Instant::now();
        work()?;
        if round >= WARM {
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Measures as one of the ranks that a launcher has started. Rank 0 tells.
///
/// # Errors
/// [`Error::Config`] for a single rank; [`Error::Ranks`] if a rank is lost.
pub fn measure(node: usize, rounds: usize, json: bool) -> Result<()> {
    let Some(group) = meet()? else {
        let problem = "needs ranks: mlpconv launch -n 2 -- scaling --measure";
        return Err(Error::Config { what: "measure".into(), problem: problem.into() });
    };
    let measured = Measured::of(&group, node, rounds);
    if let (Ok(Measured { vote, latency, bandwidth }), 0) = (&measured, group.rank()) {
        let (ranks, rate) = (group.ranks(), bandwidth / 1e3);
        // Rank 0 takes the parts at once, and sends the answers one after the other.
        let call = vote / ranks as f64;
        if json {
            emit(serde_json::json!({
                "ranks": ranks, "bytes": node, "vote_us": vote, "call_us": call, "latency_us": latency, "bandwidth": rate,
            }));
        } else {
            say(format_args!(
                "{ranks} ranks, {node} bytes: a vote {vote:.1} us, a hop of the ring {latency:.1} us and {rate:.3} GB/s\n\
                 --call-us {call:.1} --latency-us {latency:.1} --bandwidth {rate:.3}"
            ));
        }
    }
    group.leave(measured.as_ref().err().map(ToString::to_string).as_deref());
    measured.map(drop)
}
