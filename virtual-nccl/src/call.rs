//! What a collective is: its kind, count and type. The hub compares these between ranks.

use std::fmt;

use crate::error::{Code, Outcome};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AllGather,
    AllReduce,
}

/// `ncclDataType_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    Int8 = 0,
    Uint8 = 1,
    Int32 = 2,
    Uint32 = 3,
    Int64 = 4,
    Uint64 = 5,
    Float16 = 6,
    Float32 = 7,
    Float64 = 8,
    Bfloat16 = 9,
}

impl Type {
    pub fn of(number: i64) -> Option<Type> {
        use Type::*;
        let all = [Int8, Uint8, Int32, Uint32, Int64, Uint64, Float16, Float32, Float64, Bfloat16];
        all.into_iter().find(|known| *known as i64 == number)
    }

    pub fn bytes(self) -> usize {
        match self {
            Type::Int8 | Type::Uint8 => 1,
            Type::Float16 | Type::Bfloat16 => 2,
            Type::Int32 | Type::Uint32 | Type::Float32 => 4,
            Type::Int64 | Type::Uint64 | Type::Float64 => 8,
        }
    }

    /// Whether the hub can add values of this type.
    fn is_summed(self) -> bool {
        !matches!(self, Type::Int8 | Type::Uint8 | Type::Float16 | Type::Bfloat16)
    }
}

/// A collective, apart from where its values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub kind: Kind,
    /// Of values that each rank sends.
    pub count: u64,
    pub of: Type,
}

/// The largest input and the largest output, in bytes. It bounds what a damaged message makes a process allocate.
pub const MOST: usize = 1 << 30;

impl Call {
    /// A collective of `ranks` ranks that this library can do. `op` is an all-reduce's `ncclRedOp_t`.
    pub fn new(kind: Kind, count: usize, of: i32, op: i32, ranks: usize) -> Outcome<Call> {
        let of = Type::of(of.into())
            .ok_or_else(|| Code::InvalidArgument.because(format!("{of} is no data type that virtual-nccl knows")))?;
        if kind == Kind::AllReduce && op != 0 {
            return Err(Code::InvalidArgument.because(format!("virtual-nccl only sums, and has no reduction {op}")));
        }
        if kind == Kind::AllReduce && !of.is_summed() {
            return Err(Code::InvalidArgument.because(format!("virtual-nccl does not sum values of type {of:?}")));
        }
        let call = Call { kind, count: count as u64, of };
        let bytes = count.checked_mul(of.bytes()).and_then(|bytes| bytes.checked_mul(ranks));
        if bytes.is_none_or(|bytes| bytes > MOST) {
            return Err(Code::InvalidArgument.because(format!("{call} of {ranks} ranks has more than {MOST} bytes")));
        }
        Ok(call)
    }

    /// The bytes that a rank sends.
    pub fn input(&self) -> usize {
        self.count as usize * self.of.bytes()
    }

    /// The bytes that each of `ranks` ranks receives.
    pub fn output(&self, ranks: usize) -> usize {
        match self.kind {
            Kind::AllGather => self.input() * ranks,
            Kind::AllReduce => self.input(),
        }
    }

    /// What differs from another collective, in words.
    pub fn differs_in(&self, other: &Call) -> Option<&'static str> {
        match () {
            () if self.kind != other.kind => Some("kind"),
            () if self.of != other.of => Some("type"),
            () if self.count != other.count => Some("count"),
            () => None,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Call { kind, count, of } = self;
        write!(f, "nccl{kind:?} of {count} {of:?}")
    }
}
