//! The links between ranks: latencies and bandwidths, each with its source. None was measured by this project, unless options
//! give what `--measure` has measured on the machine at hand.

/// A way for messages. One message of `bytes` occupies it for `overhead + bytes / bandwidth`, and is there `latency` later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Microseconds.
    pub latency: f64,
    /// Bytes a microsecond: a thousandth of a GB/s.
    pub bandwidth: f64,
}

impl Link {
    pub fn busy(&self, bytes: f64) -> f64 {
        bytes / self.bandwidth
    }
}

/// How ranks are joined: hosts of `per_host` ranks, links inside and between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Links {
    pub per_host: usize,
    pub inside: Link,
    /// From host to host, all NICs of a host together: NCCL has rings and trees through each of them.
    pub between: Link,
    /// The latencies of a hop up or down a tree, inside and between.
    pub tree: [f64; 2],
    /// The share of the bandwidth that trees reach, from 64 KB on for each doubling of the bytes.
    pub tree_shares: &'static [f64],
    /// Microseconds before the first byte moves.
    pub base: f64,
    /// What a rank pays for each message that it sends to another host by itself, in microseconds.
    pub overhead: f64,
    /// The largest message; longer ones are cut.
    pub piece: f64,
}

/// GPUs of a host.
const PER_HOST: usize = 8;

/// Bytes a microsecond of each direction of a GPU's NVLink, as NCCL reaches it. Of 900 GB/s (NVIDIA's H200 data sheet, both
/// directions) 450 are one direction's; NCCL's protocol leaves 370, which nccl-tests shows as the bus bandwidth of
/// `NCCL_ALGO=RING`: NCCL's author in NVIDIA/nccl-tests, issue 212.
const NVLINK: f64 = 370e3;

/// Bytes a microsecond of a NIC. NDR InfiniBand has 400 Gbit/s; 46 to 48 GB/s are what NCCL reaches: NVIDIA/nccl-tests,
/// issue 290, by a maintainer.
pub const NIC: f64 = 47e3;

/// Microseconds that a host takes to post a message to the network (`getNetOverhead` for Intel hosts, NCCL's tuning.cc).
const POST: f64 = 1.0;

/// A protocol of NCCL: the constants of its own cost model, NVIDIA/nccl v2.28, `src/graph/tuning.cc`: `baseLatencies` and
/// `hwLatencies` of rings and trees, over NVLink and the network, and the bandwidth that is left for data, of a GPU's NVLink and
/// of all NICs of a host.
struct Protocol {
    base: f64,
    ring: [f64; 2],
    tree: [f64; 2],
    bandwidth: [f64; 2],
    /// `treeCorrectionFactor` from 64 KB to 32 MB.
    tree_shares: &'static [f64],
}

/// All NICs of a host.
const NICS: f64 = NIC * PER_HOST as f64;

/// For few bytes: half of what it sends are flags, and hosts wait for them. The bandwidth is that of trees in a host (`1 / 3.8`; a
/// ring has up to 141 GB/s), and `llMaxBws` of more than two hosts.
const LL: Protocol = Protocol {
    base: 6.8,
    ring: [0.6, 2.7],
    tree: [0.6, 5.0],
    bandwidth: [NVLINK / 3.8, 20.4e3],
    tree_shares: &[0.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
};
const LL128: Protocol = Protocol {
    base: 14.0,
    ring: [1.9, 4.0],
    tree: [1.25, 8.5],
    bandwidth: [0.92 * NVLINK, 0.92 * NICS],
    tree_shares: &[0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.8, 0.9, 0.9],
};
const SIMPLE: Protocol = Protocol {
    base: 8.4,
    ring: [3.4, 14.0],
    tree: [4.0, 14.0],
    bandwidth: [NVLINK, NICS],
    tree_shares: &[0.6, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7],
};

/// Where the figures of GPUs are from.
pub const SOURCES: &str = "NVLink: NVIDIA's H200 data sheet, 900 GB/s in both directions, of which NCCL reaches 370 of one direction's 450 \
                           (NVIDIA/nccl-tests, issue 212); an NDR InfiniBand NIC for each GPU: 47 GB/s (NVIDIA/nccl-tests, issue \
                           290); latencies: the constants of NCCL's own cost model (NVIDIA/nccl v2.28, src/graph/tuning.cc)";

impl Links {
    /// So many H200s in hosts of eight, by the protocols of which NCCL takes the fastest one.
    pub fn gpus(ranks: usize) -> [Links; 3] {
        // A ring that leaves its host posts each hop.
        let least = if ranks > PER_HOST { POST } else { 0.0 };
        [LL, LL128, SIMPLE].map(|Protocol { base, ring: [inside, between], tree, bandwidth, tree_shares }| Links {
            per_host: PER_HOST,
            inside: Link { latency: inside.max(least), bandwidth: bandwidth[0] },
            between: Link { latency: between, bandwidth: bandwidth[1] },
            tree,
            tree_shares,
            base,
            overhead: POST,
            piece: f64::INFINITY,
        })
    }

    /// The ring of `src/ranks/ring.rs`: one connection from each rank to the next.
    pub fn tcp(latency: f64, bandwidth: f64) -> Links {
        let link = Link { latency, bandwidth };
        // Its blocks.
        let piece = f64::from(8 << 20);
        Links {
            per_host: 1,
            inside: link,
            between: link,
            tree: [latency; 2],
            tree_shares: &[],
            base: 0.0,
            overhead: 0.0,
            piece,
        }
    }

    pub fn host(&self, rank: usize) -> usize {
        rank / self.per_host
    }

    /// The link from a rank to another.
    pub fn link(&self, from: usize, to: usize) -> &Link {
        if self.host(from) == self.host(to) { &self.inside } else { &self.between }
    }

    /// The share of the bandwidth that trees reach with so many bytes.
    pub fn tree_share(&self, bytes: f64) -> f64 {
        let doublings = (bytes / f64::from(64 << 10)).max(1.0).log2() as usize;
        self.tree_shares.get(doublings).or(self.tree_shares.last()).copied().unwrap_or(1.0)
    }

    /// The time of messages of `bytes` that go around the ring `times` times, all hops but one each, without waiting for ranks.
    pub fn ring(&self, ranks: usize, bytes: f64, times: usize) -> f64 {
        let (times, all) = (times as f64, (ranks - 1) as f64);
        let hosts = ranks.div_ceil(self.per_host);
        // The hop that is left out is one inside of a host, unless there is none.
        let between = if hosts > 1 { (hosts as f64).min(all) } else { 0.0 };
        let slowest = match hosts {
            1 => self.inside.busy(bytes),
            _ => self.inside.busy(bytes).max(self.between.busy(bytes)),
        };
        let latency = (all - between) * self.inside.latency + between * self.between.latency;
        self.base + times * (latency + all * slowest)
    }

    /// The time of a sum of `bytes` up and down two trees, half of it by each, as NCCL estimates it.
    pub fn trees(&self, ranks: usize, bytes: f64) -> f64 {
        let (hosts, within) = (ranks.div_ceil(self.per_host), self.per_host.min(ranks) - 1);
        let up = within as f64 * self.tree[0] + f64::from(hosts.ilog2()) * self.tree[1];
        let link = if hosts > 1 { &self.between } else { &self.inside };
        self.base + 2.0 * (up + link.busy(bytes) / self.tree_share(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums by NCCL on eight H100s of one host, in PyTorch: ByteDance-Seed/Triton-distributed, issue 57. MiB, and microseconds.
    const PUBLISHED: [(f64, f64); 3] = [(4.0, 59.43), (8.0, 90.51), (16.0, 135.68)];

    #[test]
    fn rings_of_eight_gpus_are_within_15_percent_of_published_times() {
        for (size, published) in PUBLISHED {
            let part = size * f64::from(1 << 20) / 8.0;
            let time = Links::gpus(8).iter().map(|links| links.ring(8, part, 2)).fold(f64::INFINITY, f64::min);
            assert!((0.85..1.15).contains(&(time / published)), "{size} MiB: {time} for {published} us");
        }
    }
}
