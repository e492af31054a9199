//! The GPUs of the model: published figures, each with its source, and a few guesses that a card can replace.

use mlpconv::{Error, Result};

use super::occupancy::{LIMITS, Limits};

/// A GPU. Clocks are its multiprocessors'.
#[derive(Debug)]
pub struct Gpu {
    /// As `--gpu` has it.
    pub name: &'static str,
    pub title: &'static str,
    pub capability: (u32, u32),
    pub multiprocessors: usize,
    pub gigahertz: f64,
    /// Clocks of a partition's tensor core for an `mma` of 16×8×16 bf16 or 16×8×8 TF32 products.
    pub mma: f64,
    /// Operations of bf16 a clock of a multiprocessor by warpgroups (`wgmma`), where there are such.
    pub wgmma: f64,
    /// Warps of fp32 multiply-adds that a multiprocessor takes a clock.
    pub fma: f64,
    /// Bytes a clock that the second-level cache gives to all multiprocessors.
    pub l2: f64,
    /// Terabytes a second of memory.
    pub memory: f64,
    /// Where the figures are from.
    pub sources: &'static str,
}

/// Microseconds from the end of a kernel to the beginning of the next in a graph: a guess.
pub const GAP: f64 = 1.0;

/// Of the time that a multiprocessor's blocks take together, what a block takes that is alone there, beyond its share: a guess.
pub const ALONE: f64 = 0.3;

/// The H100 has the same die.
const H200: Gpu = Gpu {
    name: "h200",
    title: "H200 SXM",
    capability: (9, 0),
    multiprocessors: 132,
    gigahertz: 1.83,
    mma: 4.0 / 0.629,
    wgmma: 4096.0,
    fma: 4.0,
    l2: 4472.0,
    memory: 4.8,
    sources: "NVIDIA's data sheet: 132 multiprocessors, 989 TFLOP/s bf16, which is 4096 a clock at 1.83 GHz, 4.8 TB/s; Luo et \
              al., arXiv 2402.13499: mma.sync does 62.9 % of that (section 6.2; of wgmma all is assumed), the L2 of the same die 4472 bytes a clock (table V)",
};

pub const GPUS: [Gpu; 5] = [
    H200,
    Gpu {
        name: "h100",
        title: "H100 SXM",
        memory: 3.35,
        sources: "NVIDIA's product page: 132 multiprocessors, 989 TFLOP/s bf16, 3.35 TB/s; the rest as of the H200",
        ..H200
    },
    Gpu {
        name: "a100",
        title: "A100 SXM, 80 GB",
        capability: (8, 0),
        multiprocessors: 108,
        gigahertz: 1.41,
        mma: 8.0,
        wgmma: 0.0,
        fma: 2.0,
        l2: 5120.0,
        memory: 2.039,
        sources: "NVIDIA's A100 whitepaper: 108 multiprocessors, 1.41 GHz, 312 TFLOP/s bf16, 19.5 fp32 (table 4), 5120 bytes of the L2 a \
                  clock (page 35); the data sheet: 2.039 TB/s",
    },
    Gpu {
        name: "4090",
        title: "GeForce RTX 4090",
        capability: (8, 9),
        multiprocessors: 128,
        gigahertz: 2.52,
        mma: 32.0,
        wgmma: 0.0,
        fma: 4.0,
        l2: 2048.0,
        memory: 1.008,
        sources: "NVIDIA's Ada whitepaper: 128 multiprocessors, 2.52 GHz, 165 TFLOP/s bf16 with sums in fp32, 1.008 TB/s; the L2's \
                  2048 bytes a clock are a guess",
    },
    Gpu {
        name: "3090",
        title: "GeForce RTX 3090",
        capability: (8, 6),
        multiprocessors: 82,
        gigahertz: 1.695,
        mma: 32.0,
        wgmma: 0.0,
        fma: 4.0,
        l2: 1536.0,
        memory: 0.936,
        sources: "NVIDIA's GA102 whitepaper: 82 multiprocessors, 1.695 GHz, 71 TFLOP/s bf16 with sums in fp32, 0.936 TB/s; the L2's \
                  1536 bytes a clock are a guess",
    },
];

impl Gpu {
    /// As its rows in `sass.csv` have it.
    pub fn architecture(&self) -> String {
        let (major, minor) = self.capability;
        format!("sm_{major}{minor}")
    }

    /// What a multiprocessor holds.
    pub fn limits(&self) -> &'static Limits {
        let found = LIMITS.iter().find(|(capability, _)| *capability == self.capability);
        &found.expect("the limits of each GPU's capability").1
    }
}

/// The GPU of a name.
///
/// # Errors
/// [`Error::Config`] for another name.
pub fn gpu(name: &str) -> Result<&'static Gpu> {
    GPUS.iter().find(|gpu| gpu.name == name).ok_or_else(|| {
        let names: Vec<&str> = GPUS.iter().map(|gpu| gpu.name).collect();
        Error::Config { what: "gpu".into(), problem: format!("{name} is none of {}", names.join(", ")) }
    })
}
