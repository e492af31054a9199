//! Every spelling of a tensor copy, the places where a map may lie, and clusters of one block.

use super::*;
use common::header;

/// A copy into `%r2` of the box at `%r10`, `%r11` of the map at `%rd0`, whose mbarrier is at `%r3`. `%rd7` is a cache policy,
/// `%rs1` the mask of the cluster's only block, and `%rs0` the offset 0.
const COPIES: [&str; 14] = [
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0, {%r10, %r11}], [%r3];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r2], [%rd0, {%r10, %r11}], [%r3];",
    "cp.async.bulk.tensor.2d.shared::cta.global.tile.mbarrier::complete_tx::bytes [%r2], [%rd0, {%r10, %r11}], [%r3];",
    "cp.async.bulk.tensor.2d.tile.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0, {%r10, %r11}], [%r3];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%rd0, {8, 3}], [full];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+0], [%rd0, {%r10, 3}], [%r3+0];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%rd5], [%rd0, {%r10, %r11}], [%rd6];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint \
     [%r2], [%rd0, {%r10, %r11}], [%r3], %rd7;",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster \
     [%r2], [%rd0, {%r10, %r11}], [%r3], %rs1;",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint \
     [%r2], [%rd0, {%r10, %r11}], [%r3], %rs1, %rd7;",
    "prefetch.tensormap [%rd0];\n\
     cp.async.bulk.prefetch.tensor.2d.L2.global [%rd0, {%r10, %r11}];\n\
     cp.async.bulk.prefetch.tensor.2d.L2.global.tile.L2::cache_hint [%rd0, {%r10, %r11}], %rd7;\n\
     cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0, {%r10, %r11}], [%r3];",
    "setp.eq.u32 %p2, %r2, 1;\n\
     @%p2 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [%rd0, {%r10, %r11}], [%r3];\n\
     @!%p2 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0, {%r10, %r11}], [%r3];",
    // The map in global memory, once as it is and once after the fence that a map changed on the device needs.
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd8, {%r10, %r11}], [%r3];",
    "fence.proxy.tensormap::generic.acquire.gpu [%rd8], 128;\nprefetch.tensormap [%rd8];\n\
     cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd8, {%r10, %r11}], [%r3];",
];

pub fn module() -> String {
    let mut text = header("sm_90a").replace("8.0", "8.6");
    for (i, copy) in COPIES.iter().enumerate() {
        text += &format!(
            ".visible .entry copy{i}(.param .align 128 .b8 map[128], .param .u64 out, .param .u64 elsewhere)
{{
.reg .pred %p<4>;
.reg .b16 %rs<2>;
.reg .b32 %r<20>;
.reg .b64 %rd<10>;
.shared .align 1024 .b8 tile[1024];
.shared .align 8 .b64 full;
mov.b64 %rd0, map;
cvta.param.u64 %rd0, %rd0;
ld.param.u64 %rd1, [out];
ld.param.u64 %rd8, [elsewhere];
mov.u32 %r0, %tid.x;
mov.u32 %r2, tile;
mov.u32 %r3, full;
cvt.u64.u32 %rd5, %r2;
cvt.u64.u32 %rd6, %r3;
mov.u32 %r10, 8;
mov.u32 %r11, 3;
mov.u16 %rs1, 1;
createpolicy.fractional.L2::evict_first.b64 %rd7, 1.0;
setp.ne.u32 %p0, %r0, 0;
@!%p0 mbarrier.init.shared::cta.b64 [%r3], 1;
bar.sync 0;
@%p0 bra WAIT;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 1024;
{copy}
WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r3], 0;
@!%p1 bra WAIT;
shl.b32 %r5, %r0, 4;
add.u32 %r6, %r2, %r5;
ld.shared.v4.u32 {{%r12, %r13, %r14, %r15}}, [%r6];
cvt.u64.u32 %rd2, %r5;
add.u64 %rd2, %rd1, %rd2;
st.global.v4.u32 [%rd2], {{%r12, %r13, %r14, %r15}};
ret;
}}
"
        );
    }
    text
}

#[test]
fn a_copy_has_the_same_result_in_every_spelling() {
    let Some(_context) = hopper() else { return };
    let module = compile(&module());
    let values: Vec<u16> = (0..64 * 20).map(|i| i as u16).collect();
    let tensor = Tensor::tiled(Kind::U16, upload(&values), &[64, 20], &[64, 8]);
    let map = tensor.encode();
    let elsewhere = upload(&map);
    let wanted: Vec<u16> = tensor.walk(&[8, 3], &[]).into_iter().map(|at| at.map_or(0, |at| values[at / 2])).collect();
    for (i, copy) in COPIES.iter().enumerate() {
        let out = alloc(1024);
        let args = Args::default().map(&map).ptr(out).ptr(elsewhere);
        runs(function(module, &format!("copy{i}")), [1, 1, 1], 64, 0, args, copy);
        assert_eq!(download::<u16>(out, 512), wanted, "{copy}");
    }
}

/// A kernel that is compiled for clusters runs in clusters of one block. Larger ones are refused: at load, or at launch.
#[test]
fn clusters_have_one_block() {
    let Some(_context) = hopper() else { return };
    let text = |bounds: &str| {
        header("sm_90a")
            + &format!(
                ".visible .entry k(.param .u64 out) {bounds}\n{{\n.reg .b32 %r<4>;\n.reg .b64 %rd<2>;\n\
                 ld.param.u64 %rd0, [out];\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\nmov.u32 %r1, %cluster_nctarank;\n\
                 st.global.u32 [%rd0], %r1;\nret;\n}}\n"
            )
    };
    for bounds in ["", ".explicitcluster\n.reqnctapercluster 1, 1, 1", ".reqnctapercluster 1", ".maxclusterrank 1"] {
        let out = upload(&[7u32]);
        runs(function(compile(&text(bounds)), "k"), [3, 1, 1], 32, 0, Args::default().ptr(out), bounds);
        assert_eq!(download::<u32>(out, 1), [1], "{bounds}");
    }
    if !real() {
        let out = upload(&[7u32]);
        let two = load(&text(".explicitcluster\n.reqnctapercluster 2, 1, 1"));
        let ran = two.map(|module| run(function(module, "k"), [2, 1, 1], [32, 1, 1], 0, &Args::default().ptr(out)));
        assert!(ran.is_err() || ran.is_ok_and(|result| result != CUresult::CUDA_SUCCESS), "a cluster of two blocks");
    }
}
