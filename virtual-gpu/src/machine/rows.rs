//! The registers that an instruction touches.

use super::program::*;

/// Calls `f` with each row of registers that the operation reads or writes, constants among them.
pub(super) fn rows(op: &Op, mut f: impl FnMut(R)) {
    let mut all = |rows: &[R]| rows.iter().copied().filter(|row| *row != NOWHERE).for_each(&mut f);
    match op {
        Op::Pure { f, d, s } => {
            let sources = match f {
                Pure::One(_) => 1,
                Pure::Two(_) => 2,
                Pure::Three(_) => 3,
                Pure::Four(_) => 4,
            };
            all(&[*d]);
            all(&s[..sources]);
        }
        Op::Compare { a, b, .. } => all(&[*a, *b]),
        Op::CompareValue { a, b, d, .. } | Op::Select { d, a, b, .. } => all(&[*a, *b, *d]),
        Op::Unpack { a, parts, .. } => {
            all(&[*a]);
            parts.iter().for_each(|(d, _)| all(&[*d]));
        }
        Op::Carry { d, s, .. } => {
            all(&[*d]);
            all(s);
        }
        Op::Clock { d } | Op::ActiveMask { d } => all(&[*d]),
        Op::Load(access) | Op::Store(access) => {
            all(&[access.base]);
            all(&access.regs[..access.lanes]);
        }
        Op::Atomic { access, b, c, .. } => all(&[access.base, access.regs[0], *b, *c]),
        Op::Shuffle { d, a, b, c, mask, .. } => all(&[*d, *a, *b, *c, *mask]),
        Op::Vote { d, mask, .. } | Op::Elect { d, mask, .. } => all(&[*d, *mask]),
        Op::Match { d, a, mask, .. } | Op::Reduce { d, a, mask, .. } => all(&[*d, *a, *mask]),
        Op::WarpSync { mask } => all(&[*mask]),
        Op::MapToRank { d, address, rank } => all(&[*d, *address, *rank]),
        Op::Barrier { id, count, d, .. } => all(&[*id, *count, *d]),
        Op::AsyncCopy { to, from, source_size, .. } => all(&[*to, *from, *source_size]),
        Op::LoadMatrix { base, d, count, .. } => {
            all(&[*base]);
            all(&d[..*count]);
        }
        Op::StoreMatrix { base, s, count, .. } => {
            all(&[*base]);
            all(&s[..*count]);
        }
        Op::Mma { d, a, b, c, .. } => {
            [d, a, c].into_iter().for_each(|rows| all(rows));
            all(b);
        }
        Op::Mbarrier { base, kind, .. } => {
            all(&[*base]);
            match kind {
                MbarrierOp::Init { count } => all(&[*count]),
                MbarrierOp::ExpectBytes { bytes, .. } => all(&[*bytes]),
                MbarrierOp::Arrive { d, count, bytes, .. } => all(&[*d, *count, bytes.unwrap_or(NOWHERE)]),
                MbarrierOp::Wait { phase, .. } => all(&[*phase]),
                MbarrierOp::Inval | MbarrierOp::CopiesArrive { .. } => {}
            }
        }
        Op::BulkCopy(copy) => {
            all(&[copy.shared.0, copy.size, copy.mbarrier.0, copy.multicast.unwrap_or(NOWHERE)]);
            match &copy.bulk {
                Bulk::Load { from: (at, _) }
                | Bulk::Store { to: (at, _) }
                | Bulk::Within { from: (at, _) }
                | Bulk::Prefetch { from: (at, _) } => all(&[*at]),
                Bulk::Values { values, .. } => all(values),
                Bulk::TensorLoad { map, coords, offsets } | Bulk::TensorPrefetch { map, coords, offsets } => {
                    all(&[map.0]);
                    all(coords);
                    all(offsets.as_deref().unwrap_or_default());
                }
                Bulk::TensorStore { map, coords, .. } => {
                    all(&[map.0]);
                    all(coords);
                }
            }
        }
        // Its own registers are checked when it is issued; the descriptors are read at once.
        Op::Wgmma(wgmma) => {
            all(&[wgmma.b]);
            if let MatrixA::Descriptor(a) = wgmma.a {
                all(&[a]);
            }
        }
        Op::Predicate { .. }
        | Op::Branch { .. }
        | Op::Exit
        | Op::Trap
        | Op::Nothing
        | Op::AsyncCommit
        | Op::AsyncWait { .. }
        | Op::ProxyFence
        | Op::InitFence
        | Op::BulkCommit
        | Op::BulkWait { .. }
        | Op::WgmmaFence
        | Op::WgmmaCommit
        | Op::WgmmaWait { .. }
        | Op::Registers { .. }
        | Op::GridWait
        | Op::ClusterBarrier { .. } => {}
    }
}
