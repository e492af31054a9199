//! The instructions of each kernel's main loop: as a table to read, and as one to compare and to calculate with.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use mlpconv::Precision;
use mlpconv::device::cuda::Unit;

use crate::code::{Counts, Function, kernels};
use crate::gpus::{GPUS, HOPPER};
use crate::main_loop::MainLoop;
use crate::resources::usage;
use crate::tools::Compiled;

/// A kernel on one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub module: String,
    pub kernel: String,
    pub precision: Precision,
    /// `sm_90`.
    pub on: String,
    pub registers: usize,
    pub barriers: usize,
    /// All instructions, in the main loop or not.
    pub instructions: usize,
    pub main_loop: MainLoop,
}

/// The columns of `sass.csv`.
const COLUMNS: &str = "module,kernel,precision,gpu,registers,barriers,instructions,\
                       tensor,fma,alu,special,shared,global,other,passes,seldom,seldom_passes";

const HEAD: &str = "\
# What the kernels' main loops are made of

The machine code that ptxas makes of this build's PTX, as nvdisasm shows it. Written by `make sass`;
`cargo test --test machine` fails where one of sm_90 has more instructions than here, or a kernel spills there.
`sass.csv` beside it has every kernel on every architecture.

A *main loop* is the innermost one that multiplies most. A cell is what one warp executes in one round, which is 64 bytes of K
in the convolutions: the *usual* instructions are on every way round that loads the next tile; the *seldom* ones on some
ways only, such as at a new tap of the filter.

* **mma**, **fma**, **alu**, **shared**, **global**, **other**: the usual instructions by the pipe that takes them. *fma* are
  multiply-adds of floats and of integers; *alu* are logic, comparisons and conversions; *shared* are
  accesses to shared memory, and shuffles; *global* are accesses to global memory, copies to shared memory among them;
  *other* are uniform registers, constants, branches and barriers.
* **usual**: all of them. A scheduler issues one a clock, to one of its warps. **a mma**: for each `mma`, in fp32 for each
  multiply-add of a thread.
* **seldom**: as above. **passes**: of 128 bytes over shared memory, which takes one a clock from its multiprocessor's four
  schedulers together; copies from global memory write there as well. Of a `wgmma`, which four warps start together, each has a
  quarter of the passes. Where 256 of a block's 384 threads copy, the copies are among the seldom ones.
* **sm_80**, **sm_86**, **sm_89**: usual + seldom instructions there. In fp32 ptxas gives the last rounds, which load nothing, a
  loop of their own there, and figures without seldom instructions are of that one.
";

impl Row {
    /// The kernels of a unit.
    fn of(compiled: &Compiled) -> Vec<Self> {
        let Compiled { unit: Unit { module, .. }, precision, on, report, code } = compiled;
        let row = |function: Function<'_>| {
            let used = usage(report, function.name).expect("ptxas tells what each kernel uses");
            Row {
                module: (*module).into(),
                kernel: function.name.into(),
                precision: *precision,
                on: GPUS[*on].name(),
                registers: used.registers,
                barriers: used.barriers,
                instructions: function.instructions.len(),
                main_loop: MainLoop::of(&function).unwrap_or_default(),
            }
        };
        kernels(code).map(row).collect()
    }

    /// The kernels of all units, in the order of the tables.
    pub fn all(compiled: &[Compiled]) -> Vec<Self> {
        let mut rows: Vec<Self> = compiled.iter().flat_map(Row::of).collect();
        let order = |row: &Row| (row.precision as usize, row.module.clone(), row.kernel.clone(), row.on.clone());
        rows.sort_by_key(order);
        rows
    }

    fn key(&self) -> [&str; 4] {
        [&self.module, &self.kernel, self.precision.name(), &self.on]
    }

    fn csv(&self) -> String {
        let MainLoop { usual, seldom } = self.main_loop;
        let Counts { tensor, fma, alu, special, shared, global, other, passes } = usual;
        let numbers = [
            self.registers,
            self.barriers,
            self.instructions,
            tensor,
            fma,
            alu,
            special,
            shared,
            global,
            other,
            passes,
            seldom.instructions(),
            seldom.passes,
        ];
        let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
        format!("{},{}", self.key().join(","), numbers.join(","))
    }
}

pub fn csv(rows: &[Row]) -> String {
    let lines: Vec<String> = rows.iter().map(Row::csv).collect();
    format!("{COLUMNS}\n{}\n", lines.join("\n"))
}

/// What has grown in comparison with a committed table, each in a line: instructions of a main loop, usual or seldom, or
/// registers. Kernels of the rows' GPUs that one of the tables lacks are told as well.
pub fn grown(committed: &str, rows: &[Row]) -> Vec<String> {
    let key = |line: &str| line.splitn(5, ',').take(4).collect::<Vec<_>>().join(",");
    let numbers = |line: &str| -> Vec<usize> {
        line.split(',').skip(4).map(|digits| digits.parse().unwrap_or_default()).collect()
    };
    let of_these = |line: &str| rows.iter().any(|row| line.split(',').nth(3) == Some(&row.on));
    let keys: BTreeSet<String> = rows.iter().map(|row| row.key().join(",")).collect();
    let gone = committed.lines().skip(1).filter(|line| of_these(line)).map(key).filter(|key| !keys.contains(key));
    let mut problems: Vec<String> = gone.map(|key| format!("{key} is no longer there")).collect();
    for row in rows {
        let key_of_row = row.key().join(",");
        let Some(old) = committed.lines().find(|line| key(line) == key_of_row) else {
            problems.push(format!("{key_of_row} is not in it"));
            continue;
        };
        let (old, new) = (numbers(old), numbers(&row.csv()));
        // Registers; the usual instructions and passes; the seldom ones.
        let figures = |of: &[usize]| [of[0], of[3..10].iter().sum(), of[10], of[11]];
        let names = ["registers", "usual instructions", "passes", "seldom instructions"];
        for ((what, old), new) in names.into_iter().zip(figures(&old)).zip(figures(&new)) {
            if new > old {
                problems.push(format!("{key_of_row}: {new} {what} instead of {old}"));
            }
        }
    }
    problems
}

pub fn markdown(versions: &str, rows: &[Row]) -> String {
    let mut text = format!("{HEAD}\n{versions}\n");
    let multiplies = |row: &Row| matches!(row.module.as_str(), "conv2d" | "pointwise" | "mlpconv");
    let others = |gpu: usize| GPUS[gpu].name();
    for precision in Precision::ALL {
        let name = GPUS[HOPPER].name();
        write!(
            text,
            "\n## {precision}, {name}\n\n\
             | kernel | registers | mma | fma | alu | shared | global | other | usual | a mma | seldom | passes | {} | {} | {} |\n\
             |---|{}\n",
            others(0),
            others(1),
            others(2),
            "---:|".repeat(14)
        )
        .expect("a string takes text");
        let own = rows.iter().filter(|row| row.precision == precision && row.on == name && multiplies(row));
        for row in own.filter(|row| row.main_loop != MainLoop::default()) {
            let MainLoop { usual, seldom } = row.main_loop;
            let Counts { tensor, fma, alu, special, shared, global, other, passes } = usual;
            let (all, multiplies) = (usual.instructions(), if tensor > 0 { tensor } else { fma });
            let each = all as f64 / multiplies.max(1) as f64;
            write!(
                text,
                "| `{}` | {} | {tensor} | {fma} | {} | {shared} | {global} | {other} | {all} | {each:.2} | {} | {passes} |",
                row.kernel,
                row.registers,
                alu + special,
                seldom.instructions()
            )
            .expect("a string takes text");
            for gpu in (0..GPUS.len()).filter(|gpu| *gpu != HOPPER) {
                let same = |other: &&Row| other.key()[..3] == row.key()[..3] && other.on == others(gpu);
                let other = rows.iter().find(same);
                let cell = other.map(|other| {
                    let MainLoop { usual, seldom } = other.main_loop;
                    format!(" {} + {} |", usual.instructions(), seldom.instructions())
                });
                text += cell.as_deref().unwrap_or(" |");
            }
            text.push('\n');
        }
    }
    text
}
