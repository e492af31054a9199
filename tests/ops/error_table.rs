//! A table of every kernel's error, to find a suspicious kernel. (`make errors` writes the committed one.)

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{env, fs};

use mlpconv::{Backend, Cpu};

use crate::arithmetic::Arithmetic;
use crate::reference::measured;
use crate::{table, update};

type Column = BTreeMap<(&'static str, &'static str), f64>;

fn column<B: Backend>(backend: &B, arithmetic: Arithmetic) -> Column {
    let mut column = measured(backend, arithmetic).0.clone();
    for (name, updates) in table::updates() {
        let shares = updates.iter().map(|update| update::check(backend, arithmetic, update));
        column.insert((name, "update"), shares.fold(0.0, f64::max));
    }
    column
}

#[test]
fn a_table_of_the_errors_is_written() {
    let cpu = (Arithmetic::CpuF32, Some(column(&Cpu::<f32>::new(), Arithmetic::CpuF32)));
    let columns: Vec<_> = std::iter::once(cpu).chain(cuda()).collect();
    let report = markdown(&columns);
    if let Some(path) = env::var_os("MLPCONV_ERRORS") {
        return fs::write(path, report).unwrap();
    }
    // Figures may differ between compilers. The rows, each an op and a pass, must be the same.
    let rows = |report: &str| -> Vec<String> {
        let cells = report.lines().filter(|line| line.starts_with("| "));
        cells.map(|line| line.split(" | ").take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    let committed = fs::read_to_string("kernels/measured/ERRORS.md").unwrap_or_default();
    assert_eq!(rows(&committed), rows(&report), "kernels/measured/ERRORS.md is stale; `make errors` renews it");
}

#[cfg(feature = "cuda")]
fn cuda() -> [(Arithmetic, Option<Column>); 3] {
    use mlpconv::Precision::{Bf16, Fp32, Tf32};
    let precisions = [(Fp32, Arithmetic::CudaFp32), (Tf32, Arithmetic::CudaTf32), (Bf16, Arithmetic::CudaBf16)];
    precisions
        .map(|(precision, arithmetic)| (arithmetic, crate::gpu::gpu(precision).map(|gpu| column(&*gpu, arithmetic))))
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> [(Arithmetic, Option<Column>); 0] {
    []
}

fn markdown(columns: &[(Arithmetic, Option<Column>)]) -> String {
    let mut text = String::from(
        "# How far off the kernels are\n\n\
         The largest error of any element in all cases of `tests/ops/table.rs`, as a share of the bound that follows\n\
         from the number of roundings (`tests/ops/arithmetic.rs`): more than 1 fails the tests, 0 is exact to the bit.\n\
         Storing a number as TF32 or bf16 may take all of its bound. Written by `make errors`.\n\n",
    );
    let names: Vec<&str> = columns.iter().map(|(arithmetic, _)| arithmetic.name()).collect();
    writeln!(text, "| op | pass | {} |\n|---|---|{}", names.join(" | "), "---:|".repeat(names.len())).unwrap();
    for (op, pass) in columns[0].1.iter().flatten().map(|(key, _)| *key) {
        let cell = |column: &Option<Column>| match column.as_ref().map(|column| column[&(op, pass)]) {
            Some(0.0) => "0".to_owned(),
            Some(share) => format!("{share:.2}"),
            None => "–".to_owned(),
        };
        let cells: Vec<String> = columns.iter().map(|(_, column)| cell(column)).collect();
        writeln!(text, "| {op} | {pass} | {} |", cells.join(" | ")).unwrap();
    }
    text
}
