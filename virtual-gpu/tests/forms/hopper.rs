//! Hopper's other instructions: fences, elections, matrix stores, clusters of one block, labels in scopes, and the window of
//! the parameters. The forms that ptxas refuses for sm_90a are at the end.

use super::*;

type ByLane = fn(u64) -> u64;

fn lanes(table: &[(&str, ByLane)]) -> Vec<Form> {
    table.iter().map(|(body, wanted)| form(body, R32, [0; 3], Wanted::ByLane(Box::new(*wanted)))).collect()
}

pub fn across_lanes() -> Vec<Form> {
    lanes(&[
        // One lane of the mask is elected, the same for the same mask; which one is the card's choice.
        ("elect.sync %r5|%p1, -1; vote.sync.ballot.b32 %r6, %p1, -1; popc.b32 %r1, %r6;", |_| 1),
        ("elect.sync _|%p1, 0xffffffff; vote.sync.ballot.b32 %r6, %p1, -1; popc.b32 %r1, %r6;", |_| 1),
        (
            "elect.sync %r5|%p1, -1; setp.eq.u32 %p2, %r5, %r0; xor.pred %p3, %p1, %p2;\n\
             vote.sync.ballot.b32 %r1, %p3, -1;",
            |_| 0,
        ),
        (
            "elect.sync %r5|%p1, -1; elect.sync %r6|%p2, -1; sub.u32 %r1, %r5, %r6; xor.pred %p3, %p1, %p2;\n\
             @%p3 mov.u32 %r1, 1;",
            |_| 0,
        ),
        (
            "mov.u32 %r1, 0; setp.gt.u32 %p0, %r0, 7; @%p0 bra OUT;\nmov.u32 %r7, 0xff;\n\
             elect.sync %r5|%p1, %r7; setp.lt.u32 %p2, %r5, 8; selp.u32 %r1, 1, 0, %p2;\nOUT:",
            |i| if i < 8 { 1 } else { 0 },
        ),
    ])
}

pub fn fences() -> Vec<Form> {
    lanes(&[
        ("fence.proxy.async; mov.u32 %r1, 1;", |_| 1),
        ("fence.proxy.async.global; fence.proxy.async.shared::cta; mov.u32 %r1, 1;", |_| 1),
        ("fence.proxy.async.shared::cluster; mov.u32 %r1, 1;", |_| 1),
        ("fence.proxy.async::generic.acquire.sync_restrict::shared::cluster.cluster; mov.u32 %r1, 1;", |_| 1),
        ("fence.proxy.async::generic.release.sync_restrict::shared::cta.cluster; mov.u32 %r1, 1;", |_| 1),
        ("fence.proxy.tensormap::generic.release.gpu; mov.u32 %r1, 1;", |_| 1),
        ("fence.proxy.tensormap::generic.acquire.gpu [%rd0], 128; mov.u32 %r1, 1;", |_| 1),
        ("griddepcontrol.launch_dependents; griddepcontrol.wait; mov.u32 %r1, 1;", |_| 1),
        ("createpolicy.fractional.L2::evict_first.b64 %rd5, 1.0; mov.u32 %r1, 1;", |_| 1),
        ("createpolicy.fractional.L2::evict_normal.b64 %rd5; mov.u32 %r1, 1;", |_| 1),
        ("createpolicy.fractional.L2::evict_unchanged.b64 %rd5, 0.5; mov.u32 %r1, 1;", |_| 1),
        ("createpolicy.fractional.L2::evict_last.L2::evict_first.b64 %rd5, 0.25; mov.u32 %r1, 1;", |_| 1),
        ("createpolicy.range.global.L2::evict_last.b64 %rd5, [%rd0], 64, 128; mov.u32 %r1, 1;", |_| 1),
    ])
}

pub fn mbarrier_fence() -> Vec<Form> {
    lanes(&[("fence.mbarrier_init.release.cluster; mov.u32 %r1, 1;", |_| 1)])
}

/// A kernel without cluster dimensions is a cluster of one block.
pub fn clusters_of_one_block() -> Vec<Form> {
    let mut forms = lanes(&[
        ("mov.u32 %r1, %cluster_ctarank;", |_| 0),
        ("mov.u32 %r1, %cluster_nctarank;", |_| 1),
        (
            "mov.u32 %r5, %cluster_ctaid.x; mov.u32 %r6, %cluster_ctaid.y; mov.u32 %r7, %cluster_ctaid.z;\n\
             or.b32 %r5, %r5, %r6; or.b32 %r1, %r5, %r7;",
            |_| 0,
        ),
        (
            "mov.u32 %r5, %cluster_nctaid.x; mov.u32 %r6, %cluster_nctaid.y; mov.u32 %r7, %cluster_nctaid.z;\n\
             mad.lo.u32 %r1, %r5, %r6, %r7;",
            |_| 2,
        ),
        ("mov.u32 %r5, %clusterid.x; mov.u32 %r6, %clusterid.y; or.b32 %r1, %r5, %r6;", |_| 0),
        ("mov.u32 %r5, %nclusterid.x; mov.u32 %r6, %nclusterid.y; mad.lo.u32 %r1, %r5, 10, %r6;", |_| 11),
        ("mov.u32 %r8, tile; mapa.shared::cluster.u32 %r9, %r8, 0; getctarank.shared::cluster.u32 %r1, %r9;", |_| 0),
        ("mov.u32 %r8, tile; getctarank.shared::cluster.u32 %r1, %r8;", |_| 0),
        ("mov.u64 %rd5, tile; cvta.shared.u64 %rd6, %rd5; mapa.u64 %rd7, %rd6, 0; getctarank.u64 %r1, %rd7;", |_| 0),
        (
            "mov.u32 %r8, tile; mov.u32 %r5, 0; mapa.shared::cluster.u32 %r9, %r8, %r5; shl.b32 %r6, %r0, 2;\n\
             add.u32 %r9, %r9, %r6; add.u32 %r8, %r8, %r6; st.shared::cluster.u32 [%r9], %r0; ld.shared.u32 %r1, [%r8];",
            |i| i,
        ),
        (
            "mov.u64 %rd5, tile; cvta.shared.u64 %rd6, %rd5; mapa.u64 %rd7, %rd6, 0; shl.b32 %r6, %r0, 2;\n\
             cvt.u64.u32 %rd8, %r6; add.u64 %rd7, %rd7, %rd8; st.u32 [%rd7], %r0; ld.u32 %r1, [%rd7];",
            |i| i,
        ),
        (
            "mov.u64 %rd5, tile; mapa.shared::cluster.u64 %rd6, tile, 0; shl.b32 %r6, %r0, 2; cvt.u64.u32 %rd8, %r6;\n\
             add.u64 %rd6, %rd6, %rd8; st.shared::cluster.u32 [%rd6], %r0; ld.shared::cluster.u32 %r1, [%rd6];",
            |i| i,
        ),
    ]);
    // The barrier of the cluster orders accesses to shared memory.
    let exchange = |barrier: &str| {
        format!(
            "mov.u32 %r8, tile; shl.b32 %r6, %r0, 2; add.u32 %r9, %r8, %r6; st.shared.u32 [%r9], %r0;\n{barrier}\n\
             xor.b32 %r6, %r6, 252; add.u32 %r9, %r8, %r6; ld.shared.u32 %r1, [%r9];"
        )
    };
    for barrier in [
        "barrier.cluster.arrive; barrier.cluster.wait;",
        "barrier.cluster.arrive.release; barrier.cluster.wait.acquire;",
        "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;",
        "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;",
        "bar.sync 0; barrier.cluster.arrive.relaxed; barrier.cluster.wait;",
        "bar.sync 0; barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.acquire.aligned;",
    ] {
        let two = form(exchange(barrier), R32, [0; 3], Wanted::ByLane(Box::new(|lane| 63 - lane)));
        forms.push(Form { threads: 64, ..two });
    }
    forms
}

/// `stmatrix`: register i of lane t is row t / 4 of matrix i, from column 2 (t % 4). Lanes 8 i to 8 i + 7 have the addresses
/// of its rows. Lane t reads word t / 4 * 4 + t % 4 of the last matrix, which makes its own word again, or the transposed.
pub fn matrix_stores() -> Vec<Form> {
    stored_matrices(&[".shared", ".shared::cta"])
}

pub fn matrix_stores_to_generic_addresses() -> Vec<Form> {
    stored_matrices(&[""])
}

fn stored_matrices(spaces: &[&str]) -> Vec<Form> {
    let mut forms = Vec::new();
    for (count, list) in [(1, "%r5"), (2, "%r5, %r6"), (4, "%r5, %r6, %r7, %r10")] {
        for transposed in [false, true] {
            for space in spaces {
                let trans = if transposed { ".trans" } else { "" };
                let address = if space.is_empty() { "%rd6" } else { "%r9" };
                // The halves of lane t's word in matrix i: 100 i + 2 t and the next.
                let words: String = [("%r5", 0), ("%r6", 100), ("%r7", 200), ("%r10", 300)]
                    .iter()
                    .map(|(name, first)| format!("mad.lo.u32 {name}, %r0, 0x20002, {};\n", first * 0x10001 + 0x10000))
                    .collect();
                let body = format!(
                    "mov.u32 %r8, tile; shl.b32 %r9, %r0, 4; add.u32 %r9, %r8, %r9; cvt.u64.u32 %rd5, %r9;\n\
                     cvta.shared.u64 %rd6, %rd5;\n{words}\
                     stmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16 [{address}], {{{list}}};\nbar.warp.sync -1;\n\
                     shl.b32 %r11, %r0, 2; add.u32 %r11, %r11, %r8; ld.shared.u32 %r1, [%r11+{}];",
                    128 * (count - 1)
                );
                let wanted = move |lane: u64| {
                    let first = 100 * (count as u64 - 1);
                    let (row, column) = (lane / 4, lane % 4 * 2);
                    // Value 8 r + c of a matrix is its first plus 8 r + c.
                    let value = |r: u64, c: u64| first + if transposed { 8 * c + r } else { 8 * r + c };
                    value(row, column) | value(row, column + 1) << 16
                };
                forms.push(form(body, R32, [0; 3], Wanted::ByLane(Box::new(wanted))));
            }
        }
    }
    forms
}

pub fn scopes_and_windows() -> Vec<Form> {
    let mut forms = lanes(&[
        // A label belongs to the scope that it stands in.
        (
            "mov.u32 %r1, 0;\n{\n.reg .pred p;\nAGAIN:\nadd.u32 %r1, %r1, 1;\nsetp.lt.u32 p, %r1, 3;\n@p bra AGAIN;\n}\n\
             {\n.reg .pred p;\nAGAIN:\nadd.u32 %r1, %r1, 10;\nsetp.lt.u32 p, %r1, 50;\n@p bra AGAIN;\n}",
            |_| 53,
        ),
        (
            "mov.u32 %r1, %r0;\n{\nLAB_WAIT:\nsetp.gt.u32 %p1, %r1, 40;\n@%p1 bra DONE;\nadd.u32 %r1, %r1, 1;\n\
             bra LAB_WAIT;\nDONE:\n}\n{\nLAB_WAIT:\nsetp.gt.u32 %p1, %r1, 60;\n@%p1 bra DONE;\nadd.u32 %r1, %r1, 1;\n\
             bra LAB_WAIT;\nDONE:\n}",
            |_| 61,
        ),
        // The inner scope hides the outer one's label and register; a jump may leave scopes.
        (
            "mov.u32 %r1, 0;\nAGAIN:\nadd.u32 %r1, %r1, 100;\n{\n.reg .b32 n;\nmov.u32 n, 0;\nAGAIN:\nadd.u32 n, n, 1;\n\
             add.u32 %r1, %r1, 1;\nsetp.lt.u32 %p1, n, 5;\n@%p1 bra AGAIN;\n{\nsetp.gt.u32 %p2, %r1, 200;\n\
             @%p2 bra OUT;\n}\n}\nbra AGAIN;\nOUT:",
            |_| 210,
        ),
    ]);
    // A parameter's generic address.
    let window = "mov.b64 %rd5, in; cvta.param.u64 %rd6, %rd5; ld.u64 %rd7, [%rd6]; sub.u64 %rd1, %rd7, %rd9;";
    forms.push(form(window, R64, [0; 3], Wanted::Every(0)));
    let direct = "cvta.param.u64 %rd6, out; ld.u64 %rd7, [%rd6+8]; sub.u64 %rd1, %rd7, %rd9;";
    forms.push(form(direct, R64, [0; 3], Wanted::Every(0)));
    forms
}

/// Forms that ptxas refuses for sm_90a.
pub const REFUSED: &[&str] = &[
    "mbarrier.test_wait.shared::cluster.b64 %p1, [%r8], %rd5;",
    "mbarrier.try_wait.parity.shared::cluster.b64 %p1, [%r8], 0;",
    "mbarrier.arrive.shared::cluster.b64 %rd5, [%r8];",
    "mbarrier.arrive.expect_tx.shared::cluster.b64 %rd5, [%r8], 16;",
    "mbarrier.arrive.noComplete.shared::cta.b64 %rd5, [%r8];",
    "mbarrier.init.shared::cta.b32 [%r8], 1;",
    "mbarrier.init.global.b64 [%rd0], 1;",
    "mbarrier.expect_tx.shared::cta.b64 %rd5, [%r8], 16;",
    "mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r8], 0, 100;",
    "mbarrier.arrive.acquire.cta.shared::cta.b64 _, [%r8];",
    "mbarrier.test_wait.release.cta.shared::cta.b64 %p1, [%r8], %rd5;",
    "cp.async.bulk.shared::cluster.global [%r8], [%rd0], 16, [%r8];",
    "cp.async.bulk.global.shared::cta [%rd0], [%r8], 16;",
    "cp.async.bulk.shared::cta.global.bulk_group [%r8], [%rd0], 16;",
    "cp.async.bulk.wait_group;",
    "cp.async.bulk.wait_group %r1;",
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f16 [%rd0], [%r8], 16;",
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.bf16 [%rd0], [%r8], 16;",
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.f32 [%rd0], [%r8], 16;",
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.f32 [%rd0], [%r8], 16;",
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.inc.u64 [%rd0], [%r8], 16;",
    "cp.async.bulk.tensor.6d.shared::cluster.global.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1,%r1,%r1,%r1,%r1,%r1}], [%r8];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1}], [%r8];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1, %r2, %r3}], [%r8];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r8], [out, {%r1, %r2}], [%r8];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1, %r2}], [%r8], {};",
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1, %r2, %r3, %r4}], [%r8], {%r5, %r6};",
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1, %r2, %r3, %r4}], [%r8];",
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1, %r2, %r3, %r4}], [%r8], {%rs5};",
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col::w.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1, %r2, %r3, %r4}], [%r8], {%rs5, %rs6};",
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col::w::128.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1, %r2, %r3, %r4}], [%r8], {%rs5, %rs6};",
    "cp.async.bulk.tensor.2d.shared::cluster.global.tile::gather4.mbarrier::complete_tx::bytes [%r8], [%rd0, {%r1, %r2, %r3, %r4, %r5}], [%r8];",
    "cp.async.bulk.tensor.2d.global.shared::cta.tile::scatter4.bulk_group [%rd0, {%r1, %r2, %r3, %r4, %r5}], [%r8];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.cta_group::1 [%r8], [%rd0, {%r1, %r2}], [%r8];",
    "cp.async.bulk.tensor.4d.global.shared::cta.im2col.bulk_group [%rd0, {%r1, %r2, %r3, %r4}], [%r8];",
    "cp.async.bulk.tensor.2d.global.shared::cta.im2col_no_offs.bulk_group [%rd0, {%r1, %r2}], [%r8];",
    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.u32.bulk_group [%rd0, {%r1, %r2}], [%r8];",
    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd0, {%r1, %r2}], [%r8];",
    "fence.proxy.async.local;",
    "fence.mbarrier_init.release.cta;",
    "wgmma.commit_group.aligned;",
    "wgmma.wait_group.sync.aligned %r1;",
    "wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3,%f4,%f5}, %rd5, %rd6, 1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k8.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, %rd5, %rd6, 1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.tf32.tf32 {%f0,%f1,%f2,%f3}, %rd5, %rd6, 1, 1, 1;",
    "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%f0,%f1,%f2,%f3}, %rd5, %rd6, 1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, %rd5, %rd6, 1, 1, 1;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, {%r1,%r2,%r3,%r4}, %rd6, 1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0,%f1,%f2}, %rd5, %rd6, 1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, %rd5, %rd6, 1, 2, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.f16 {%f0,%f1,%f2,%f3}, %rd5, %rd6, 1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n264k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, %rd5, %rd6, 1, 1, 1, 0, 0;",
    "elect.sync %r1|%p1;",
    "elect.sync _|_, -1;",
    "setmaxnreg.inc.sync.aligned.u32 20;",
    "setmaxnreg.inc.sync.aligned.u32 100;",
    "setmaxnreg.dec.sync.aligned.u32 264;",
    "setmaxnreg.inc.sync.aligned.u32 %r1;",
    "griddepcontrol.launch;",
    "stmatrix.sync.aligned.m8n8.x3.shared.b16 [%r8], {%r1, %r2, %r3};",
    "stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r8], {%r1};",
    "stmatrix.sync.aligned.m8n8.x1.global.b16 [%rd0], {%r1};",
    "mapa.shared.u32 %r1, %r8, 0;",
    "barrier.cluster.sync;",
    "{\nIN:\n}\nbra IN;",
    "{\nIN:\nIN:\n}",
];

/// Forms of sm_90a that sm_90 lacks.
pub const REFUSED_WITHOUT_A: &[&str] = &[
    "wgmma.fence.sync.aligned;",
    "wgmma.commit_group.sync.aligned;",
    "wgmma.wait_group.sync.aligned 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, %rd5, %rd6, 1, 1, 1, 0, 0;",
    "setmaxnreg.inc.sync.aligned.u32 104;",
];

/// Forms of sm_90 that sm_80 lacks.
pub const REFUSED_BEFORE: &[&str] = &[
    "mbarrier.try_wait.shared.b64 %p1, [%r8], %rd5;",
    "mbarrier.arrive.expect_tx.shared.b64 _, [%r8], 16;",
    "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r8], 16;",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r8], [%rd0], 16, [%r8];",
    "cp.async.bulk.commit_group;",
    "fence.proxy.async;",
    "elect.sync %r1|%p1, -1;",
    "griddepcontrol.wait;",
    "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r8], {%r1};",
    "mapa.shared::cluster.u32 %r1, %r8, 0;",
    "barrier.cluster.arrive;",
    "mov.u32 %r1, %cluster_ctarank;",
];
