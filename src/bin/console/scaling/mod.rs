//! `mlpconv scaling`: a simulation of a training step on ranks that are not at hand, event by event, and what it exchanges.

mod buckets;
mod events;
mod exchange;
mod jitter;
mod links;
mod measure;
mod step;
mod trees;

use mlpconv::ops::shards::BUCKET;
use mlpconv::train::{Preset, TrainConfig};
use mlpconv::{Error, Precision, Result};

use super::exercise::findings::Table;
use super::model::{GAP, Step, gpu};
use super::{emit, say};
use buckets::{Bucket, Node};
use exchange::Exchange;
use jitter::Jitter;
use links::{Links, SOURCES};
use step::{Cluster, Times, Work};

/// The most ranks: as many as shards.
const MOST: usize = 1 << 12;

/// The most steps to simulate or to measure. A larger number is a typing error.
const MOST_STEPS: usize = 1 << 20;

/// What joins the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Over {
    /// H200s, eight a host: NVLink within a host, InfiniBand between hosts
    Gpus,
    /// CPUs: the TCP ring
    Tcp,
}

/// The arguments of `mlpconv scaling`.
#[derive(clap::Args)]
pub struct ScalingArgs {
    /// Ranks, as in 8,64,1024 [default: 8,64,1024; over TCP 2,4,8,16]
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    ranks: Vec<usize>,
    /// What joins the ranks
    #[arg(long, value_enum, default_value = "gpus")]
    over: Over,
    /// The network, whose gradients are exchanged
    #[arg(long, default_value = "d2l")]
    preset: Preset,
    /// The precision of the estimate of a GPU's step: fp32, tf32 or bf16
    #[arg(long, default_value = "bf16")]
    precision: Precision,
    /// Images of a rank where each has as many (weak scaling)
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Images of all ranks where they share them (strong scaling)
    #[arg(long, default_value_t = 8192)]
    total: usize,
    /// Parts of a batch [default: one a rank]
    #[arg(long, value_name = "PARTS")]
    shards: Option<usize>,
    /// The least MB of gradients that are exchanged by themselves, while the backward pass goes on [default: the engine's 2.1]; a large
    /// number for one exchange after it
    #[arg(long, value_name = "MB")]
    bucket: Option<f64>,
    /// Milliseconds of a step of one process with --batch-size images, measured [default: the estimate of `mlpconv model`, of d2l on
    /// an H200]
    #[arg(long, value_name = "MS")]
    step_ms: Option<f64>,
    /// Of --step-ms: the parts of the batch that was measured
    #[arg(long, value_name = "PARTS", default_value_t = 1)]
    step_shards: usize,
    /// Standard deviation of a part's compute time, in percent of it: a guess
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    spread: f64,
    /// Over TCP: microseconds of a hop of the ring
    #[arg(long, value_name = "US", default_value_t = 50.0)]
    latency_us: f64,
    /// Over TCP: GB/s of a hop of the ring [default: 10 Gbit/s Ethernet at its line rate]
    #[arg(long, value_name = "GB/S", default_value_t = 1.25)]
    bandwidth: f64,
    /// Microseconds of a small message between hosts [default: 10, a guess]
    #[arg(long, value_name = "US", default_value_t = 10.0)]
    call_us: f64,
    /// Over TCP: GB/s at which a CPU adds and copies gradients: a guess
    #[arg(long, value_name = "GB/S", default_value_t = 10.0)]
    memory: f64,
    /// Steps to simulate, of which the mean is told
    #[arg(long, default_value_t = 4)]
    steps: usize,
    /// Simulate nothing: measure the ring and the calls of the ranks that `mlpconv launch` has started, as often as --steps says
    #[arg(long)]
    measure: bool,
    /// A line of JSON for each row instead of tables
    #[arg(long)]
    json: bool,
}

/// Microseconds in which a host queues a step that is recorded: a guess.
const QUEUE: f64 = 10.0;

/// What a row is of.
#[derive(Clone, Copy)]
struct Row {
    ranks: usize,
    /// Images of a rank.
    images: f64,
    exchange: Exchange,
}

fn refused(what: &str, problem: impl Into<String>) -> Error {
    Error::Config { what: what.into(), problem: problem.into() }
}

/// Prints the tables, or measures.
///
/// # Errors
/// [`Error::Config`] for an option out of its range; [`Error::Ranks`] if a rank is lost.
pub fn scaling(args: &ScalingArgs) -> Result<()> {
    let node = Node::of(args.preset)?;
    for (what, count, most) in [
        ("batch-size", args.batch_size, TrainConfig::MAX_BATCH),
        ("total", args.total, TrainConfig::MAX_BATCH),
        ("steps", args.steps, MOST_STEPS),
        ("step-shards", args.step_shards, MOST),
    ] {
        if !(1..=most).contains(&count) {
            return Err(refused(what, format!("{count} must be at least 1, and at most {most}")));
        }
    }
    if args.measure {
        return measure::measure(node.bytes(), args.steps, args.json);
    }
    let ranks = match (&args.ranks[..], args.over) {
        ([], Over::Gpus) => &[8, 64, 1024],
        ([], Over::Tcp) => &[2, 4, 8, 16][..],
        (ranks, _) => ranks,
    };
    if let Some(count) = ranks.iter().find(|&&count| !(1..=MOST).contains(&count)) {
        return Err(refused("ranks", format!("{count} must be between 1 and {MOST}")));
    }
    if let Some(shards) = args.shards.filter(|shards| !(ranks.iter().max()..=Some(&MOST)).contains(&Some(shards))) {
        return Err(refused("shards", format!("{shards} must be between the number of ranks and {MOST}")));
    }
    let numbers = [("latency-us", args.latency_us), ("call-us", args.call_us), ("spread", args.spread)];
    if let Some((what, _)) = numbers.iter().find(|(_, number)| !number.is_finite() || *number < 0.0) {
        return Err(refused(what, "must be a number that is not negative"));
    }
    let [step_ms, bucket] = [args.step_ms, args.bucket].map(|number| number.unwrap_or(1.0));
    let numbers = [("bandwidth", args.bandwidth), ("memory", args.memory), ("step-ms", step_ms), ("bucket", bucket)];
    if let Some((what, _)) = numbers.iter().find(|(_, number)| !number.is_finite() || *number <= 0.0) {
        return Err(refused(what, "must be a positive number"));
    }
    if args.step_ms.is_none() && (args.over == Over::Tcp || args.preset != Preset::D2l) {
        return Err(refused("step-ms", "must be given: only the step of d2l on GPUs is estimated"));
    }
    let exchanges = match args.over {
        Over::Gpus => &[Exchange::Gather, Exchange::Nccl, Exchange::Scatter][..],
        Over::Tcp => &[Exchange::Gather, Exchange::Scatter],
    };
    let rows = |images: &dyn Fn(usize) -> f64| -> Vec<Row> {
        let of = |&ranks: &usize| exchanges.iter().map(move |&exchange| (ranks, exchange));
        ranks.iter().flat_map(of).map(|(ranks, exchange)| Row { ranks, images: images(ranks), exchange }).collect()
    };
    let weak = rows(&|_| args.batch_size as f64);
    let strong = rows(&|ranks| args.total as f64 / ranks as f64);
    if !args.json {
        say(format_args!("{}\n", title(args, &node)));
    }
    told(args, &node, "weak", &format!("Weak scaling: {} images a rank", args.batch_size), &weak)?;
    told(args, &node, "strong", &format!("Strong scaling: {} images on all ranks", args.total), &strong)?;
    if !args.json {
        say(format_args!(
            "in: what comes in to each rank a step; wait: for the slowest rank; exchange: what the backward pass does not hide; rest: \
             additions, unpacking, update"
        ));
        say(format_args!("efficiency: of one rank with as many images (weak), or with all of them (strong)"));
        say(format_args!("scattered tree: not built, see docs/scaling.md"));
        if args.over == Over::Gpus {
            say(format_args!("{SOURCES}"));
        }
    }
    Ok(())
}

fn title(args: &ScalingArgs, node: &Node) -> String {
    let (preset, spread) = (args.preset, args.spread);
    let what = match (args.over, args.step_ms) {
        (Over::Gpus, None) => format!("a step of {preset} in {} on H200s, whose compute is estimated", args.precision),
        (Over::Gpus, Some(ms)) => format!("a step of {preset} on H200s, whose compute is given: {ms} ms"),
        (Over::Tcp, ms) => {
            format!("a step of {preset} on CPUs over TCP, whose compute is given: {} ms", ms.unwrap_or_default())
        }
    };
    let parts = match node.buckets(least(args), |_| 0.0).len() {
        1 => "one bucket".into(),
        count => format!("{count} buckets"),
    };
    format!(
        "Simulation: {what}, {:.3} MB of gradients in {parts}, spread {spread} % (a guess unless measured)\nNothing here was measured \
         on such ranks.",
        node.bytes() as f64 / 1e6
    )
}

/// The least elements of a bucket.
fn least(args: &ScalingArgs) -> usize {
    args.bucket.map_or(BUCKET, |megabytes| (megabytes * 1e6 / size_of::<f32>() as f64) as usize)
}

/// The work of a rank with so many images, and the buckets of its gradients.
fn work(args: &ScalingArgs, node: &Node, images: f64) -> Result<(Work, Vec<Bucket>)> {
    let (call, bytes) = (args.call_us, node.bytes() as f64);
    let cut = |left: &dyn Fn(usize) -> f64| node.buckets(least(args), left);
    let by_macs = || cut(&|depth| node.left_of_macs(depth));
    match args.over {
        Over::Gpus => {
            let on = gpu("h200")?;
            let (compute, update, buckets) = match args.step_ms {
                Some(ms) => (ms * 1e3 * images / args.batch_size as f64, 0.0, by_macs()),
                None => {
                    let step = Step::of(on, args.precision, images.round().max(1.0) as usize);
                    let buckets = cut(&|depth| Node::left_of_launches(&step.launches, depth));
                    (step.compute(), step.update, buckets)
                }
            };
            let memory = on.memory * 1e6;
            Ok((Work { compute, update, memory, gap: GAP, queue: QUEUE, call, votes_every: 8 }, buckets))
        }
        Over::Tcp => {
            let memory = args.memory * 1e3;
            let pass = |nodes: f64| nodes * bytes / memory;
            // Plain sgd reads parameters and gradients, and writes parameters.
            let (copy, add, update) = (pass(2.0), pass(3.0), pass(3.0));
            // What was measured has its own packing and additions.
            let shards = args.step_shards as f64;
            let apart = if args.step_shards > 1 { (shards + 1.0) * copy + (shards - 1.0) * add } else { 0.0 };
            let step = args.step_ms.unwrap_or_default() * 1e3;
            let compute = (step - apart - update).max(0.0) * images / args.batch_size as f64;
            Ok((Work { compute, update, memory, gap: 0.0, queue: 0.0, call, votes_every: 1 }, by_macs()))
        }
    }
}

/// The times of a row, and its efficiency.
fn simulated(args: &ScalingArgs, node: &Node, kind: &str, row: &Row) -> Result<(Cluster, Times, f64)> {
    let &Row { ranks, images, exchange } = row;
    let links = match args.over {
        Over::Gpus => Links::gpus(ranks).to_vec(),
        Over::Tcp => vec![Links::tcp(args.latency_us, args.bandwidth * 1e3)],
    };
    let spread = Jitter { share: args.spread / 100.0, seed: 1 };
    let shards = args.shards.unwrap_or(ranks);
    let (each, mut buckets) = work(args, node, images)?;
    if ranks == 1 {
        // There is nothing to hide.
        buckets = node.buckets(usize::MAX, |_| 0.0);
    }
    let cluster = Cluster { ranks, shards, buckets, exchange, links, work: each, spread };
    let times = cluster.simulate(args.steps);
    let all = ranks as f64 * images;
    let alone = if kind == "weak" { images } else { all };
    let (Work { compute, update, .. }, _) = work(args, node, alone)?;
    let efficiency = (compute + update) / alone / (ranks as f64 * times.step) * all;
    Ok((cluster, times, efficiency))
}

/// Tells rows, as a table or as JSON.
fn told(args: &ScalingArgs, node: &Node, kind: &str, title: &str, rows: &[Row]) -> Result<()> {
    let head = [
        "ranks",
        "exchange",
        "images",
        "in, MB",
        "compute",
        "wait",
        "exchange",
        "rest",
        "step, ms",
        "images/s",
        "efficiency",
    ];
    let mut table = Table::new(head);
    for row in rows {
        let (cluster, times, efficiency) = simulated(args, node, kind, row)?;
        let &Row { ranks, images, exchange } = row;
        let (traffic, rate) = (cluster.traffic(), ranks as f64 * images / times.step * 1e6);
        if args.json {
            emit(serde_json::json!({
                "scaling": kind, "ranks": ranks, "exchange": exchange.name(), "images": images, "in_bytes": traffic,
                "compute_us": times.compute, "wait_us": times.straggling, "exchange_us": times.exchange,
                "rest_us": times.finish, "host_us": times.host, "step_us": times.step, "img_s": rate, "efficiency": efficiency,
            }));
            continue;
        }
        let ms = |time: f64| format!("{:.3}", time / 1e3);
        table.push([
            ranks.to_string(),
            exchange.name().into(),
            format!("{images}"),
            format!("{:.1}", traffic / 1e6),
            ms(times.compute),
            ms(times.straggling),
            ms(times.exchange),
            ms(times.finish),
            ms(times.step),
            format!("{rate:.0}"),
            format!("{:.1} %", 100.0 * efficiency),
        ]);
    }
    if !args.json {
        say(format_args!("{title}; times in ms\n\n{}\n", table.text()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_update_of_a_step_is_the_same_for_any_batch() {
        let on = gpu("h200").unwrap();
        let [few, many] = [16, 128].map(|images| Step::of(on, Precision::Bf16, images));
        let (time, longer, update) = (few.compute(), many.compute(), few.update);
        assert!(time < longer && longer < 8.0 * time, "{time} {longer}");
        assert!(update == many.update && update < 0.05 * longer, "{update} {longer}");
    }

    #[test]
    fn an_order_of_one_shard_a_rank_sends_one_node() {
        for ranks in [2, 8, 64, 1024] {
            let order = mlpconv::ops::shards::Order::new(ranks, ranks, 0).unwrap();
            assert_eq!((order.sent(), order.merges().len()), (1, ranks - 1));
        }
    }
}
