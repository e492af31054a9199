//! Tensor copies with bad addresses, maps and coordinates, and their sources and destinations.

use super::*;

const LOAD: &str = "cp.async.bulk.tensor.2d.shared::cluster";
const STORE: &str = "cp.async.bulk.tensor.2d.global";

fn loaded() -> String {
    format!("{}{}{BOX}{WAIT}", init(1), expect(1024))
}

/// Fills the tile's first 1024 bytes, and stores them as the box at `%r20`, `%r21`.
fn stored(x: i32, y: i32, after: &str) -> String {
    format!(
        "shl.b32 %r3, %r0, 3;\nadd.u32 %r3, %r3, %r2;\nst.shared.v2.u32 [%r3], {{%r0, %r0}};\nfence.proxy.async;\nbar.sync 0;\n\
         mov.u32 %r20, {x}; mov.u32 %r21, {y};\n\
         @%p0 cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd20, {{%r20, %r21}}], [%r2];\n{after}"
    )
}

const READ_OUT: &str = "@%p0 cp.async.bulk.commit_group;\n@%p0 cp.async.bulk.wait_group.read 0;\n";

#[test]
fn misplaced_boxes_are_caught() {
    use TrapKind::*;
    fine("a box at the start of the tile", &loaded(), 32);
    bug(
        "destination at no multiple of 128",
        &loaded().replace("[%r2], [%rd20", "[%r2+64], [%rd20"),
        32,
        TensorCopy,
        LOAD,
    );
    let beyond = loaded().replace("[%r2], [%rd20", "[%r2+15872], [%rd20");
    bug("box beyond the shared memory", &beyond, 32, TensorCopy, LOAD);
    fine("a store at the start", &stored(0, 0, READ_OUT), 128);
    fine("a store that leaves the tensor at its end", &stored(32, 60, READ_OUT), 128);
    fine("a store behind the tensor", &stored(0, 64, READ_OUT), 128);
    bug("a store that starts before the tensor", &stored(0, -1, READ_OUT), 128, TensorCopy, STORE);
    bug("a store that starts left of the tensor", &stored(-8, 0, READ_OUT), 128, TensorCopy, STORE);
    fine("a load that starts before the tensor", &loaded().replace("%r21, 0", "%r21, -3"), 32);
    let odd = stored(0, 0, READ_OUT).replace("], [%r2];", "], [%r2+16];");
    bug("a store from no multiple of 128", &odd, 128, TensorCopy, STORE);
}

#[test]
fn boxes_over_live_mbarriers_are_caught() {
    let body = format!(
        "add.u32 %r1, %r2, 512;\n{}@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 1024;\n{BOX}{WAIT}",
        init(1)
    );
    bug("a box over its own mbarrier", &body, 32, TrapKind::Mbarrier, LOAD);
    fine("beside it", &body.replace("add.u32 %r1, %r2, 512;", "add.u32 %r1, %r2, 1024;"), 32);
}

#[test]
fn maps_that_are_none_or_others_are_caught() {
    use TrapKind::*;
    let machine = hopper();
    let numbers = upload(&machine, &[0x3f80u16; 64 * 64]);
    let tensor = Tensor::tiled(Kind::Bf16, numbers, &[64, 64], &[64, 8]).swizzled(128);
    let ptx = module("", &loaded());
    let with = |map: &[u8; 128], ptx: &str| hand_with(&machine, ptx, map, 1, 32);
    passes("the map", with(&tensor.on(&machine), &ptx));
    trapped("noise for a map", &ptx, with(&[0x5a; 128], &ptx), TensorCopy, LOAD);
    let cube = Tensor::tiled(Kind::Bf16, numbers, &[64, 8, 8], &[64, 8, 1]);
    trapped("a map of rank 3", &ptx, with(&cube.on(&machine), &ptx), TensorCopy, LOAD);
    let images = Tensor::im2col(Kind::Bf16, numbers, &[64, 8, 8], (&[0], &[0]), (64, 8));
    let three = ptx.replace("tensor.2d", "tensor.3d").replace("{%r20, %r21}", "{%r20, %r21, %r20}");
    passes("a copy of rank 3", with(&cube.on(&machine), &three));
    trapped("a map of im2col for a tiled copy", &three, with(&images.on(&machine), &three), TensorCopy, "tensor.3d");
    let shifted = ptx.replace("cvta.param.u64 %rd20, %rd20;", "cvta.param.u64 %rd20, %rd20; add.u64 %rd20, %rd20, 32;");
    trapped("a map at no multiple of 64", &shifted, with(&tensor.on(&machine), &shifted), TensorCopy, LOAD);
    let elsewhere = ptx.replace("cvta.param.u64 %rd20, %rd20;", "mov.u64 %rd20, %rd0;");
    trapped("a pointer to something else", &elsewhere, with(&tensor.on(&machine), &elsewhere), TensorCopy, LOAD);
    // A tensor that is larger than its allocation: the copy leaves the allocation.
    let short = upload(&machine, &[0x3f80u16; 64 * 4]);
    let large = Tensor::tiled(Kind::Bf16, short, &[64, 64], &[64, 8]).swizzled(128);
    trapped("a tensor beyond its allocation", &ptx, with(&large.on(&machine), &ptx), IllegalAddress, LOAD);
    let fresh = machine.alloc(64 * 64 * 2).expect("memory");
    let unwritten = Tensor::tiled(Kind::Bf16, fresh, &[64, 64], &[64, 8]).swizzled(128);
    trapped("a tensor that was never written", &ptx, with(&unwritten.on(&machine), &ptx), Uninitialised, LOAD);
    let map = tensor.on(&machine);
    machine.free(numbers).expect("it is alive");
    trapped("a freed tensor", &ptx, with(&map, &ptx), TensorCopy, LOAD);
}

#[test]
fn boxes_used_before_they_are_there_or_after_are_caught() {
    use TrapKind::*;
    let read = "ld.shared.u32 %r5, [%r2];\n";
    fine("a box that was waited for", &format!("{}{read}", loaded()), 64);
    bug("a box that was not waited for", &format!("{}{read}", loaded().replace(WAIT, "")), 64, AsyncCopy, "ld.shared");
    // The first warp waits for the second, which reads with a barrier in between that orders the two.
    let published = loaded().replace(WAIT, &format!("@!%p9 bra OUT;\n{WAIT}OUT:\nbar.sync 0;\n{read}"));
    fine("a box that another warp waited for", &published, 64);
    let unpublished = published.replace("OUT:\nbar.sync 0;", "OUT:");
    bug("a box that another warp waited for, with no barrier", &unpublished, 64, AsyncCopy, "ld.shared");
    bug("end with a load in flight", &loaded().replace(WAIT, ""), 32, InFlight, LOAD);
    let overwritten = loaded().replace(WAIT, &format!("@%p0 st.shared.u32 [%r2], %r0;\n{WAIT}"));
    bug("a store into a box in flight", &overwritten, 32, InFlight, "st.shared");

    let write = "st.shared.u32 [%r3], 9;\n";
    fine("source overwritten once it was read", &stored(0, 0, &format!("{READ_OUT}bar.sync 0;\n{write}")), 128);
    let commit = "@%p0 cp.async.bulk.commit_group;\n";
    bug("source overwritten while it is read", &stored(0, 0, &format!("{commit}{write}")), 128, InFlight, "st.shared");
    let others = stored(0, 0, &format!("{READ_OUT}{write}"));
    bug("source overwritten by warps that do not know", &others, 128, InFlight, "st.shared");
    bug("end with a store in flight", &stored(0, 0, commit), 128, InFlight, STORE);
    bug("end with a store that was not committed", &stored(0, 0, ""), 128, InFlight, STORE);
    let unfenced = stored(0, 0, READ_OUT).replace("fence.proxy.async;\n", "");
    bug("source without a proxy fence", &unfenced, 128, ProxyFence, STORE);
    let late = stored(0, 0, READ_OUT).replace("bar.sync 0;\n", "");
    bug("source that other warps write with no barrier", &late, 128, SharedRace, STORE);
    let half = stored(0, 0, READ_OUT).replace("st.shared.v2", "@%p9 st.shared.v2");
    bug("source that nobody writes", &half, 128, Uninitialised, STORE);
}

/// The blocks' boxes in global memory: two may not store different values to one, nor read what another has stored.
#[test]
fn boxes_that_blocks_share_in_global_memory_are_caught() {
    use TrapKind::*;
    let machine = hopper();
    let numbers = upload(&machine, &[1u32; 32 * 512]);
    let map = Tensor::tiled(Kind::U32, numbers, &[32, 512], &[32, 8]).on(&machine);
    let blocks = |body: &str| hand_with(&machine, &module("", body), &map, 64, 128);
    // Each block stores its own number, to its own rows or all to the first.
    let tile = "mov.u32 %r5, %ctaid.x;\nadd.u32 %r6, %r5, 5;\nshl.b32 %r3, %r0, 3;\nadd.u32 %r3, %r3, %r2;\n\
        st.shared.v2.u32 [%r3], {%r6, %r6};\nfence.proxy.async;\nbar.sync 0;\nmov.u32 %r20, 0;\n";
    let store = format!("@%p0 {STORE}.shared::cta.bulk_group [%rd20, {{%r20, %r21}}], [%r2];\n");
    let own = format!("{tile}shl.b32 %r21, %r5, 3;\n{store}{READ_OUT}");
    passes("each block stores its own box", blocks(&own));
    let same = own.replace("shl.b32 %r21, %r5, 3;", "mov.u32 %r21, 0;");
    let ptx = module("", &same);
    trapped("all blocks store one box", &ptx, blocks(&same), GlobalRace, STORE);
    let reduce =
        same.replace(STORE, "cp.reduce.async.bulk.tensor.2d.global").replace("cta.bulk_group", "cta.add.bulk_group");
    passes("all blocks add to one box", blocks(&reduce));
    let load = format!(
        "@%p0 cp.async.bulk.wait_group 0;\n{}{}sub.u32 %r21, %r21, 64;\n\
         @%p0 {LOAD}.global.mbarrier::complete_tx::bytes [%r2], [%rd20, {{%r20, %r21}}], [%r1];\n{WAIT}",
        init(1),
        expect(1024)
    );
    let other = format!("{own}setp.lt.u32 %p3, %r5, 8;\n@%p3 ret;\n{load}");
    let ptx = module("", &other);
    trapped("a box that another block stored", &ptx, blocks(&other), GlobalRace, LOAD);
    let back = format!("{own}{}", load.replace("sub.u32 %r21, %r21, 64;\n", ""));
    passes("a box that the block stored itself", blocks(&back));
    let element = "@%p0 ld.global.u32 %r7, [%rd0];\n";
    passes("memory that no block stores", blocks(&format!("{own}{element}")));
}
