//! One line for each instruction form: a body, its inputs and its expected result. The results were computed by hand or
//! by Rust's own arithmetic, and are those that the PTX manual promises for every card from sm_80 on. What the manual
//! leaves open is either kept out of the result or compared within the bound that the manual states.

mod bulk;
mod convert;
mod float;
mod hopper;
mod integer;
mod mbarrier;
mod memory;
mod select;
mod warp;

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Once;

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
use cudarc::driver::sys::CUresult;

use common::driver::*;
use common::ptxas::{Text, judges};
use common::{Args, entry, header, older};

// Moves the result into `%rd1`, which every lane stores.
const F32: &str = "mov.b32 %r1, %f1; cvt.u64.u32 %rd1, %r1;";
const R32: &str = "cvt.u64.u32 %rd1, %r1;";
const R16: &str = "cvt.u64.u16 %rd1, %rs1;";
const F64: &str = "mov.b64 %rd1, %fd1;";
const P: &str = "selp.b64 %rd1, 1, 0, %p1;";
const R64: &str = "";

const M1: u64 = 0xffff_ffff;

fn f(value: f32) -> u64 {
    value.to_bits().into()
}

fn d(value: f64) -> u64 {
    value.to_bits()
}

enum Wanted {
    Every(u64),
    ByLane(Box<dyn Fn(u64) -> u64>),
    /// A conversion of the bits to a number, the expected number, and the largest difference from it.
    Near(fn(u64) -> f64, f64, f64),
}

/// A body for a block of `threads`. The inputs are in memory, so that no compiler can fold the result: `%rd9` points to
/// them, `%rd2-4` and `%fd2-4` hold the first three, `%r2-4`, `%f2-4` and `%rs2-4` their lower parts.
struct Form {
    body: String,
    inputs: Vec<u64>,
    threads: u32,
    wanted: Wanted,
}

/// A body, the instruction that moves its result, its inputs, and the expected result.
type Row<'a> = (&'a str, &'a str, [u64; 3], u64);

fn form(body: impl AsRef<str>, result: &str, inputs: [u64; 3], wanted: Wanted) -> Form {
    Form { body: format!("{}\n{result}", body.as_ref()), inputs: inputs.into(), threads: 32, wanted }
}

fn rows(table: &[Row]) -> Vec<Form> {
    table.iter().map(|(body, result, inputs, wanted)| form(body, result, *inputs, Wanted::Every(*wanted))).collect()
}

/// The output of each form in bytes: a 64-bit word for each thread, then space that a body may use.
const ROOM: usize = 1024;

/// The variables and the function of the module, which every body may use.
const SHARED_BY_ALL: &str = "\
.const .align 8 .u32 fixed[2] = {11, 22};
.global .align 8 .u32 counter[2] = {33, 44};
.func (.param .b32 result) twice(.param .b32 value)
{
.reg .b32 %r<3>;
ld.param.b32 %r1, [value];
add.s32 %r2, %r1, %r1;
st.param.b32 [result], %r2;
ret;
}
";

fn module(target: &str, forms: &[Form]) -> String {
    // Hopper's forms have come with later versions of PTX.
    let header = if target == "sm_90a" { header(target).replace("8.0", "8.6") } else { header(target) };
    let mut text = header + SHARED_BY_ALL;
    for (i, form) in forms.iter().enumerate() {
        let mut body = "ld.param.u64 %rd9, [in];\nld.global.v2.u64 {%rd2, %rd3}, [%rd9];\n".to_owned();
        body += "ld.global.u64 %rd4, [%rd9+16];\nmov.u64 %rd1, 0;\n";
        for n in 2..5 {
            body += &format!("cvt.u32.u64 %r{n}, %rd{n};\nmov.b32 %f{n}, %r{n};\n");
            body += &format!("mov.b64 %fd{n}, %rd{n};\ncvt.u16.u32 %rs{n}, %r{n};\n");
        }
        body += &form.body;
        body += "\nmul.wide.u32 %rd10, %r0, 8;\nadd.s64 %rd10, %rd0, %rd10;\nst.global.u64 [%rd10], %rd1;";
        text += &entry(&format!("form{i}"), ".param .u64 out, .param .u64 in", &body);
    }
    text
}

fn wrong(form: &Form, found: &[u64]) -> Option<String> {
    let Form { body, inputs, wanted, .. } = form;
    let lane = found.iter().enumerate().position(|(lane, found)| match wanted {
        Wanted::Every(wanted) => found != wanted,
        Wanted::ByLane(wanted) => *found != wanted(lane as u64),
        // A comparison with NaN is false, so a NaN is never near.
        Wanted::Near(read, wanted, bound) => !((read(*found) - wanted).abs() <= *bound || read(*found) == *wanted),
    })?;
    let wanted = match wanted {
        Wanted::Every(wanted) => format!("{wanted:#x}"),
        Wanted::ByLane(wanted) => format!("{:#x}", wanted(lane as u64)),
        Wanted::Near(read, wanted, bound) => format!("{wanted:e}, give or take {bound:e} ({:e})", read(found[lane])),
    };
    Some(format!("{}\n{inputs:x?}: lane {lane} has {:#x}, not {wanted}\n", body.trim(), found[lane]))
}

/// A context on a device that has all of the forms; only the virtual GPU can be configured.
fn newest() -> Context {
    static NEWEST: Once = Once::new();
    NEWEST.call_once(|| {
        // SAFETY: every test calls this first, and nothing else in this process accesses the environment through C.
        unsafe { std::env::set_var("VIRTUAL_GPU_SM", "9.0") }
    });
    context()
}

/// Runs the forms, all in one module, and reports every one whose result is wrong.
fn judge(target: &str, forms: &[Form]) {
    let _context = newest();
    let major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    if target == "sm_90" && major < 9 || target == "sm_90a" && major != 9 {
        eprintln!("{} forms are not tested: they need a card of {target}", forms.len());
        return;
    }
    let module = compile(&module(target, forms));
    let out = upload(&vec![0u8; ROOM * forms.len()]);
    // Each form's inputs are aligned for a 16-byte copy.
    let (mut inputs, mut starts) = (Vec::new(), Vec::new());
    for form in forms {
        starts.push(8 * inputs.len());
        inputs.extend(&form.inputs);
        inputs.resize(inputs.len().next_multiple_of(2), 0);
    }
    let inputs = upload(&inputs);
    for (i, form) in forms.iter().enumerate() {
        let args = Args::default().ptr(out + (i * ROOM) as u64).ptr(inputs + starts[i] as u64);
        let result = run(function(module, &format!("form{i}")), [1, 1, 1], [form.threads, 1, 1], 0, &args);
        assert_eq!(result, CUresult::CUDA_SUCCESS, "{}", form.body);
    }
    let found: Vec<u64> = download(out, ROOM / 8 * forms.len());
    let wrong: Vec<String> = forms
        .iter()
        .zip(found.chunks(ROOM / 8))
        .filter_map(|(form, found)| wrong(form, &found[..form.threads as usize]))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), forms.len(), wrong.join("\n"));
}

/// A test for each group of forms, and a list of all groups for `ptxas`.
macro_rules! groups {
    ($($name:ident: $target:literal, $forms:expr;)*) => {
        $(
            #[test]
            fn $name() {
                judge($target, &$forms());
            }
        )*
        const GROUPS: &[(&str, &str, fn() -> Vec<Form>)] = &[$((stringify!($name), $target, $forms)),*];
    };
}

groups! {
    integer_arithmetic_is_exact: "sm_80", integer::arithmetic;
    integer_arithmetic_is_exact_for_every_type: "sm_80", integer::of_every_type;
    logic_and_bit_operations_are_exact: "sm_80", integer::logic_and_bits;
    moves_and_selections_are_exact: "sm_80", select::moves;
    comparisons_follow_the_order_and_nan_rules: "sm_80", select::comparisons;
    bf16_comparisons_are_exact_on_sm_90: "sm_90", select::comparisons_of_sm_90;
    float_arithmetic_is_exact: "sm_80", float::exact;
    float_arithmetic_rounds_exactly_in_every_mode: "sm_80", float::rounded;
    approximate_functions_are_within_the_manuals_bounds: "sm_80", float::approximate;
    half_precision_arithmetic_is_exact: "sm_80", float::halves;
    bf16_arithmetic_is_within_the_manuals_bounds_on_sm_90: "sm_90", float::halves_of_sm_90;
    float_conversions_round_and_saturate_exactly: "sm_80", convert::floats;
    bf16_and_tf32_conversions_round_and_saturate_exactly_on_sm_90: "sm_90", convert::floats_of_sm_90;
    integer_conversions_round_and_saturate_exactly: "sm_80", convert::integers;
    loads_return_stored_values_in_every_state_space: "sm_80", memory::loads_and_stores;
    atomics_update_memory_and_return_the_old_value: "sm_80", memory::atomics;
    bf16_atomics_update_memory_on_sm_90: "sm_90", memory::atomics_of_sm_90;
    completed_cp_async_groups_fill_shared_memory: "sm_80", memory::copies;
    special_registers_and_warp_wide_instructions_are_exact: "sm_80", warp::across_lanes;
    barriers_order_accesses_and_reduce_predicates: "sm_80", warp::barriers;
    ldmatrix_and_mma_follow_the_manuals_layouts: "sm_80", warp::matrix_products;
    divergent_lanes_reconverge: "sm_80", warp::control_flow;
    mbarriers_count_arrivals_and_bytes: "sm_90a", mbarrier::objects;
    mbarriers_take_arrivals_in_every_spelling: "sm_90a", mbarrier::arrivals;
    mbarriers_are_waited_for_in_every_spelling: "sm_90a", mbarrier::waits;
    cp_async_arrives_at_mbarriers: "sm_90a", mbarrier::of_cp_async;
    bulk_copies_fill_shared_memory: "sm_90a", bulk::loads;
    asynchronous_stores_complete_bytes_of_an_mbarrier: "sm_90a", bulk::stores_that_complete_bytes;
    bulk_copies_fill_global_memory: "sm_90a", bulk::stores;
    bulk_reductions_update_global_memory: "sm_90a", bulk::reductions;
    bulk_reductions_of_halves_have_minima_and_maxima: "sm_90a", bulk::minima_of_halves;
    one_lane_is_elected: "sm_90a", hopper::across_lanes;
    fences_and_policies_of_hopper_have_no_result: "sm_90a", hopper::fences;
    a_block_alone_is_a_cluster: "sm_90a", hopper::clusters_of_one_block;
    stmatrix_follows_the_manuals_layout: "sm_90a", hopper::matrix_stores;
    stmatrix_takes_generic_addresses: "sm_90a", hopper::matrix_stores_to_generic_addresses;
    the_fence_of_mbarrier_init_has_no_result: "sm_90a", hopper::mbarrier_fence;
    labels_have_scopes_and_parameters_generic_addresses: "sm_90a", hopper::scopes_and_windows;
}

/// Malformed forms, which no card accepts.
const REFUSED: &[&str] = &[
    "add.sat.bf16 %rs1, %rs2, %rs3;",
    "add.sat.u32 %r1, %r2, %r3;",
    "mad.f32 %f1, %f2, %f3, %f4;",
    "mad.f64 %fd1, %fd2, %fd3, %fd4;",
    "fma.f32 %f1, %f2, %f3, %f4;",
    "fma.rn.sat.bf16 %rs1, %rs2, %rs3, %rs4;",
    "fma.rn.sat.relu.f16 %rs1, %rs2, %rs3, %rs4;",
    "ex2.approx.bf16 %rs1, %rs2;",
    "ex2.approx.ftz.f16 %rs1, %rs2;",
    "copysign.ftz.f32 %f1, %f2, %f3;",
    "testp.approx.finite.f32 %p1, %f2;",
    "testp.ftz.finite.f32 %p1, %f2;",
    "cvt.f16.f32 %rs1, %f2;",
    "cvt.rm.relu.f16.f32 %rs1, %f2;",
    "cvt.rn.f16.f16 %rs1, %rs2;",
    "cvt.rn.sat.bf16.f32 %rs1, %f2;",
    "cvt.rna.relu.tf32.f32 %r1, %f2;",
    "cvt.rp.tf32.f32 %r1, %f2;",
    "cvt.rzi.ftz.s32.f16 %r1, %rs2;",
    "cvt.sat.f32.bf16 %f1, %rs2;",
    "cvt.sat.s32.s32 %r1, %r2;",
    "cvt.sat.s64.u32 %rd1, %r2;",
    "mov.f16 %rs1, %rs2;",
    "selp.f16 %rs1, %rs2, %rs3, %p1;",
    "selp.pred %p1, %p2, %p3, %p4;",
    "set.lt.f32.f16 %f1, %rs2, %rs3;",
    "set.lt.s16.f32 %rs1, %f2, %f3;",
    "setp.lo.f32 %p1, %f2, %f3;",
    "setp.lo.s32 %p1, %r2, %r3;",
    "setp.num.s32 %p1, %r2, %r3;",
    "ld.acquire.global.u32 %r1, [%rd0];",
    "ld.global.f16 %rs1, [%rd0];",
    "ld.global.nc.relaxed.gpu.u32 %r1, [%rd0];",
    "ld.global.wb.u32 %r1, [%rd0];",
    "ld.gpu.global.u32 %r1, [%rd0];",
    "ld.release.gpu.global.u32 %r1, [%rd0];",
    "ld.volatile.global.cg.u32 %r1, [%rd0];",
    "ldu.global.cg.u32 %r1, [%rd0];",
    "ldu.shared.u32 %r1, [%r8];",
    "st.acquire.gpu.global.u32 [%rd0], %r1;",
    "st.global.bf16 [%rd0], %rs1;",
    "st.global.ca.u32 [%rd0], %r1;",
    "st.global.nc.u32 [%rd0], %r1;",
    "st.relaxed.global.u32 [%rd0], %r1;",
    "atom.global.add.s64 %rd1, [%rd0], %rd2;",
    "atom.volatile.global.add.u32 %r1, [%rd0], %r2;",
    "atom.weak.global.add.u32 %r1, [%rd0], %r2;",
    "red.acq_rel.gpu.global.add.u32 [%rd0], %r2;",
    "red.acquire.gpu.global.add.u32 [%rd0], %r2;",
];

/// The modules that every compiler must refuse: malformed forms, and forms that sm_80 lacks.
fn refused() -> Vec<(String, &'static str)> {
    let none = REFUSED.iter().map(|body| (form(body, "", [0; 3], Wanted::Every(0)), "sm_90"));
    let newer = GROUPS.iter().filter(|group| group.1 == "sm_90").flat_map(|group| group.2());
    let listed = [(hopper::REFUSED, "sm_90a"), (hopper::REFUSED_WITHOUT_A, "sm_90"), (hopper::REFUSED_BEFORE, "sm_80")];
    let listed = listed
        .into_iter()
        .flat_map(|(bodies, target)| bodies.iter().map(move |body| (form(body, "", [0; 3], Wanted::Every(0)), target)));
    none.chain(newer.map(|form| (form, "sm_80")))
        .chain(listed)
        .map(|(form, target)| (module(target, &[form]), target))
        .collect()
}

#[test]
fn malformed_forms_are_refused() {
    let _context = newest();
    let loads: Vec<String> = refused()
        .into_iter()
        .filter(|(text, _)| load(text).is_ok())
        .map(|(text, target)| {
            let ours = text.split_once("cvt.u16.u32 %rs4, %r4;\n").map_or("", |(_, body)| body);
            format!("{target}: {}", ours.split("\nmul.wide.u32 %rd10").next().unwrap_or_default())
        })
        .collect();
    assert!(loads.is_empty(), "these load:\n{}", loads.join("\n"));
}

/// Checks without a card that the tests contain no form that a card's driver would refuse.
#[test]
fn ptxas_accepts_every_form_and_refuses_every_malformed_one() {
    if real() {
        return;
    }
    let mut texts = vec![("driver".to_owned(), "sm_80", include_str!("../driver/kernels.ptx").to_owned())];
    let kernels = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels")).expect("a folder");
    for path in
        kernels.map(|file| file.expect("a file").path()).filter(|path| path.extension().is_some_and(|e| e == "ptx"))
    {
        let text = older(&std::fs::read_to_string(&path).expect("a text"));
        texts.push((path.file_stem().expect("a name").to_string_lossy().into_owned(), "sm_80", text));
    }
    // All forms of a target in one module: starting the compiler takes longer than compiling a form.
    for target in ["sm_80", "sm_90", "sm_90a"] {
        let groups = GROUPS.iter().filter(|group| group.1 == target);
        let forms: Vec<Form> = groups.flat_map(|group| group.2()).collect();
        texts.push((target.to_owned(), target, module(target, &forms)));
    }
    for (i, (text, target)) in refused().into_iter().enumerate() {
        texts.push((format!("refused{i}"), target, text));
    }
    let mut all = Vec::new();
    for (name, target, ptx) in &texts {
        let accepted = !name.starts_with("refused");
        let newer = (*target == "sm_80" && accepted).then_some("sm_90");
        for architecture in std::iter::once(*target).chain(newer) {
            all.push(Text { name, architecture, ptx, accepted });
        }
    }
    judges(&all);
}
