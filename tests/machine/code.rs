//! Machine code as nvdisasm shows it, and the pipe that each instruction goes to.

use std::ops::AddAssign;

use serde_json::Value;

/// An instruction of 16 bytes.
pub struct Instruction {
    pub opcode: String,
    /// The instruction that a branch goes to.
    pub target: Option<usize>,
    /// Whether it has a predicate.
    pub conditional: bool,
}

/// A kernel's instructions.
pub struct Function<'a> {
    pub name: &'a str,
    pub instructions: Vec<Instruction>,
}

/// The kernels in what `nvdisasm -json` writes, a head and a list of functions. A function whose name begins with a dollar is
/// a kernel's slow path of a division or a root.
pub fn kernels(code: &Value) -> impl Iterator<Item = Function<'_>> {
    let functions = code[1].as_array().expect("a list of functions").iter().map(|function| {
        let instructions = function["sass-instructions"].as_array().expect("a list of instructions");
        Function {
            name: function["function-name"].as_str().expect("a name"),
            instructions: instructions.iter().map(Instruction::new).collect(),
        }
    });
    functions.filter(|function| !function.name.starts_with('$'))
}

impl Instruction {
    fn new(of: &Value) -> Self {
        let opcode = of["opcode"].as_str().expect("an opcode").to_owned();
        let operands = of["operands"].as_str().unwrap_or_default();
        // A branch's target is its last operand; one before it is another predicate.
        let (others, last) = operands.rsplit_once(',').unwrap_or(("", operands));
        let target = last.strip_prefix("0x").and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let branch = matches!(word(&opcode), "BRA" | "BSSY");
        let conditional = of["predicate"].is_string() || word(&opcode) == "BRA" && !others.is_empty();
        Instruction { opcode, target: target.filter(|_| branch).map(|at| at / 16), conditional }
    }

    /// The instructions that may be next, if this one ends a straight line: `at` is its own place.
    pub fn successors(&self, at: usize) -> Option<Vec<usize>> {
        let next = self.conditional.then_some(at + 1);
        match word(&self.opcode) {
            // Taken where the lanes of a warp have parted, which a kernel whose branches are uniform never does.
            "BRA" if self.opcode.starts_with("BRA.DIV") => Some(vec![at + 1]),
            "BRA" => Some(self.target.into_iter().chain(next).collect()),
            "EXIT" | "RET" | "BRX" | "JMX" => Some(next.into_iter().collect()),
            _ => None,
        }
    }

    pub fn loads(&self) -> bool {
        matches!(word(&self.opcode), "LDG" | "LDGSTS")
    }
}

fn word(opcode: &str) -> &str {
    opcode.split('.').next().unwrap_or(opcode)
}

/// Instructions by the pipe that takes them. A scheduler issues one a clock, whatever the pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `mma` and `wgmma`.
    pub tensor: usize,
    /// Multiply-adds, of floats and of integers.
    pub fma: usize,
    /// Other arithmetic, logic, comparisons, selections.
    pub alu: usize,
    /// Conversions between floats and integers, reciprocals and the like.
    pub special: usize,
    /// Shared memory, and shuffles.
    pub shared: usize,
    /// Global memory, copies from there to shared memory among them.
    pub global: usize,
    /// Uniform registers, constants, branches, barriers.
    pub other: usize,
    /// Passes of 128 bytes over shared memory, without conflicts: copies from global memory write there as well.
    pub passes: usize,
}

impl Counts {
    pub fn of<'a>(instructions: impl Iterator<Item = &'a Instruction>) -> Self {
        let mut counts = Counts::default();
        instructions.for_each(|instruction| counts += instruction.counts());
        counts
    }

    pub fn instructions(&self) -> usize {
        self.tensor + self.fma + self.alu + self.special + self.shared + self.global + self.other
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, with: Counts) {
        self.tensor += with.tensor;
        self.fma += with.fma;
        self.alu += with.alu;
        self.special += with.special;
        self.shared += with.shared;
        self.global += with.global;
        self.other += with.other;
        self.passes += with.passes;
    }
}

impl Instruction {
    fn counts(&self) -> Counts {
        let word = word(&self.opcode);
        let mut counts = Counts::default();
        let pipe = match word {
            "HMMA" | "IMMA" | "BMMA" | "DMMA" | "HGMMA" => &mut counts.tensor,
            "FFMA" | "FMUL" | "FADD" | "IMAD" | "HFMA2" | "HADD2" | "HMUL2" => &mut counts.fma,
            "MUFU" | "I2F" | "F2I" | "F2F" | "FRND" | "POPC" | "FLO" | "BREV" => &mut counts.special,
            "LDS" | "LDSM" | "STS" | "ATOMS" | "SHFL" => &mut counts.shared,
            "LDG" | "STG" | "LD" | "ST" | "LDGSTS" | "ATOMG" | "ATOM" | "RED" | "LDL" | "STL" => &mut counts.global,
            "BRA" | "EXIT" | "BSSY" | "BSYNC" | "BAR" | "DEPBAR" | "LDGDEPBAR" | "NOP" | "WARPSYNC" | "CALL"
            | "RET" | "BREAK" | "BMOV" | "YIELD" | "LDC" | "S2R" | "S2UR" | "CS2R" | "R2UR" | "VOTEU" | "ERRBAR"
            | "MEMBAR" | "CCTL" => &mut counts.other,
            // The uniform data path; `UNDEF` is none.
            uniform if uniform.starts_with('U') => &mut counts.other,
            _ => &mut counts.alu,
        };
        *pipe = 1;
        counts.passes = match word {
            // A matrix of 8 rows of 16 bytes a pass.
            "LDSM" => self.opcode.rsplit('.').next().and_then(|count| count.parse().ok()).unwrap_or(1),
            "LDS" | "STS" | "LDGSTS" => self.lane_bytes() / 4,
            "ATOMS" | "SHFL" => 1,
            // Of a warpgroup's products each warp has a quarter: 64 rows, and the columns, of 32 bytes.
            "HGMMA" => (64 + self.columns()) * 32 / 128 / 4,
            _ => 0,
        };
        counts
    }

    /// The columns of a warpgroup's products: 256 of `HGMMA.64x256x16.F32.BF16`.
    fn columns(&self) -> usize {
        let shape = self.opcode.split('.').find(|part| part.contains('x'));
        shape.and_then(|shape| shape.split('x').nth(1)?.parse().ok()).expect("the shape of the products")
    }

    /// Bytes that a lane accesses; fewer than four take as long.
    fn lane_bytes(&self) -> usize {
        let width = |part: &str| matches!(part, "64" | "128").then(|| part.parse::<usize>().ok()).flatten();
        self.opcode.split('.').find_map(width).unwrap_or(32) / 8
    }
}
