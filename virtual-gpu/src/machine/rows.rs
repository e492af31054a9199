//! The registers that an instruction reads and writes.

use super::program::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

/// Calls `f` with each row of registers that the operation reads or writes, but for constants.
pub(super) fn rows(op: &mut Op, mut f: impl FnMut(&mut R, Use)) {
    let mut all = |rows: &mut [R], how: Use| {
        rows.iter_mut().filter(|row| **row != NOWHERE && **row & CONSTANT == 0).for_each(|row| f(row, how));
    };
    macro_rules! read {
        ($($row:expr),*) => {{$( all(std::slice::from_mut($row), Use::Read); )*}};
    }
    macro_rules! write {
        ($($row:expr),*) => {{$( all(std::slice::from_mut($row), Use::Write); )*}};
    }
    match op {
        Op::Pure { f, d, s } => {
            let sources = match f {
                Pure::One(_) => 1,
                Pure::Two(_) => 2,
                Pure::Three(_) => 3,
                Pure::Four(_) => 4,
            };
            all(&mut s[..sources], Use::Read);
            write!(d);
        }
        Op::Compare { a, b, .. } => read!(a, b),
        Op::CompareValue { a, b, d, .. } | Op::Select { d, a, b, .. } => {
            read!(a, b);
            write!(d);
        }
        Op::Unpack { a, parts, .. } => {
            read!(a);
            parts.iter_mut().for_each(|(d, _)| all(std::slice::from_mut(d), Use::Write));
        }
        Op::Carry { d, s, .. } => {
            all(s, Use::Read);
            write!(d);
        }
        Op::Clock { d } | Op::ActiveMask { d } => write!(d),
        Op::Load(access) => {
            read!(&mut access.base);
            all(&mut access.regs[..access.lanes], Use::Write);
        }
        Op::Store(access) => {
            read!(&mut access.base);
            all(&mut access.regs[..access.lanes], Use::Read);
        }
        Op::Atomic { access, b, c, .. } => {
            read!(&mut access.base, b, c);
            write!(&mut access.regs[0]);
        }
        Op::Shuffle { d, a, b, c, mask, .. } => {
            read!(a, b, c, mask);
            write!(d);
        }
        Op::Vote { d, mask, .. } | Op::Elect { d, mask, .. } => {
            read!(mask);
            write!(d);
        }
        Op::Match { d, a, mask, .. } | Op::Reduce { d, a, mask, .. } => {
            read!(a, mask);
            write!(d);
        }
        Op::WarpSync { mask } => read!(mask),
        Op::MapToRank { d, address, rank } => {
            read!(address, rank);
            write!(d);
        }
        Op::Barrier { id, count, d, .. } => {
            read!(id, count);
            write!(d);
        }
        Op::AsyncCopy { to, from, source_size, .. } => read!(to, from, source_size),
        Op::LoadMatrix { base, d, count, .. } => {
            read!(base);
            all(&mut d[..*count], Use::Write);
        }
        Op::StoreMatrix { base, s, count, .. } => {
            read!(base);
            all(&mut s[..*count], Use::Read);
        }
        Op::Mma { d, a, b, c, .. } => {
            all(a, Use::Read);
            all(b, Use::Read);
            all(c, Use::Read);
            all(d, Use::Write);
        }
        Op::Mbarrier { base, kind, .. } => {
            read!(base);
            match kind {
                MbarrierOp::Init { count } => read!(count),
                MbarrierOp::ExpectBytes { bytes, .. } => read!(bytes),
                MbarrierOp::Arrive { d, count, bytes, .. } => {
                    read!(count);
                    all(bytes.as_mut_slice(), Use::Read);
                    write!(d);
                }
                MbarrierOp::Wait { phase, .. } => read!(phase),
                MbarrierOp::Inval | MbarrierOp::CopiesArrive { .. } => {}
            }
        }
        Op::BulkCopy(copy) => {
            read!(&mut copy.shared.0, &mut copy.size, &mut copy.mbarrier.0);
            all(copy.multicast.as_mut_slice(), Use::Read);
            match &mut copy.bulk {
                Bulk::Load { from: (at, _) }
                | Bulk::Store { to: (at, _) }
                | Bulk::Within { from: (at, _) }
                | Bulk::Prefetch { from: (at, _) } => read!(at),
                Bulk::Values { values, .. } => all(values, Use::Read),
                Bulk::TensorLoad { map, coords, offsets } | Bulk::TensorPrefetch { map, coords, offsets } => {
                    read!(&mut map.0);
                    all(coords, Use::Read);
                    all(offsets.as_deref_mut().unwrap_or_default(), Use::Read);
                }
                Bulk::TensorStore { map, coords, .. } => {
                    read!(&mut map.0);
                    all(coords, Use::Read);
                }
            }
        }
        // Its accumulators and registers of A are checked when it is issued; the descriptors are read at once.
        Op::Wgmma(wgmma) => {
            read!(&mut wgmma.b);
            if let MatrixA::Descriptor(a) = &mut wgmma.a {
                read!(a);
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
