//! What the model is of: the launches of a training step as the virtual GPU counts them, and the machine code of their kernels.
//! Both tables are made by `make counters` and `make sass`.

use mlpconv::Precision;

const STEP: &str = include_str!("../../../../kernels/measured/step.csv");
const SASS: &str = include_str!("../../../../kernels/measured/sass.csv");

/// A launch of a step, counted for `images` images.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kernel: String,
    pub images: usize,
    /// Whether it runs on the second stream. The model takes the last of these and the launch after it as a pair.
    pub beside: bool,
    pub blocks: usize,
    /// Warps of a block, and its dynamic shared memory in bytes.
    pub warps: usize,
    pub shared: usize,
    /// Bytes of memory that it reads and writes once, and that its lanes ask for.
    pub moved: f64,
    pub asked: f64,
    pub flops: f64,
    pub mma: f64,
    /// Instructions of warps, in PTX.
    pub instructions: f64,
    /// Accesses to shared memory, and passes beyond the fewest.
    pub accesses: f64,
    pub conflicts: f64,
}

/// A kernel's machine code on one architecture.
#[derive(Debug)]
pub struct Code {
    pub registers: usize,
    /// All instructions.
    pub instructions: f64,
    /// Of the main loop: `mma`, the usual instructions and passes over shared memory, and the seldom instructions.
    pub mma: f64,
    pub usual: f64,
    pub passes: f64,
    pub seldom: f64,
}

fn cells(line: &'static str) -> (Vec<&'static str>, Vec<f64>) {
    let cells: Vec<&str> = line.split(',').collect();
    let numbers = cells.iter().map(|cell| cell.parse().unwrap_or(f64::NAN)).collect();
    (cells, numbers)
}

/// The launches of a step at a precision, in their order, each with its kernel's code.
pub fn launches(precision: Precision, architecture: &str) -> Vec<(Launch, Code)> {
    let rows = STEP.lines().skip(1).map(cells).filter(|(cells, _)| cells.first() == Some(&precision.name()));
    let launch = |(cells, numbers): (Vec<&'static str>, Vec<f64>)| Launch {
        images: numbers[1] as usize,
        kernel: cells[2].to_owned(),
        beside: numbers[3] != 0.0,
        blocks: numbers[4] as usize,
        warps: (numbers[5] as usize).div_ceil(32),
        shared: numbers[6] as usize,
        moved: numbers[7],
        asked: numbers[8],
        flops: numbers[9],
        mma: numbers[10],
        instructions: numbers[11],
        accesses: numbers[12],
        conflicts: numbers[13],
    };
    let coded = |launch: Launch| {
        let code = code(&launch.kernel, precision, architecture)?;
        Some((launch, code))
    };
    rows.map(launch).filter_map(coded).collect()
}

/// How many launches of a step were counted at a precision.
#[cfg(test)]
pub fn counted(precision: Precision) -> usize {
    STEP.lines().filter(|line| line.split(',').next() == Some(precision.name())).count()
}

/// The code of a kernel.
pub fn code(kernel: &str, precision: Precision, architecture: &str) -> Option<Code> {
    let wanted = |cells: &[&str]| cells[1..4] == [kernel, precision.name(), architecture];
    let (_, numbers) = SASS.lines().skip(1).map(cells).find(|(cells, _)| wanted(cells))?;
    Some(Code {
        registers: numbers[4] as usize,
        instructions: numbers[6],
        mma: numbers[7],
        usual: numbers[7..14].iter().sum(),
        passes: numbers[14],
        seldom: numbers[15],
    })
}
