//! Counters of a launch: instructions, bytes, sectors and conflicts. They are the same on every run.

use std::fmt::Write;

/// The classes by which instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Class {
    Float,
    Double,
    Half,
    Integer,
    Special,
    Convert,
    Move,
    Compare,
    Branch,
    Global,
    Shared,
    Local,
    Constant,
    Atomic,
    Shuffle,
    Barrier,
    Mma,
    AsyncCopy,
    Other,
}

impl Class {
    pub const ALL: [(Class, &'static str); 19] = [
        (Class::Float, "float"),
        (Class::Double, "double"),
        (Class::Half, "half"),
        (Class::Integer, "integer"),
        (Class::Special, "special"),
        (Class::Convert, "convert"),
        (Class::Move, "move"),
        (Class::Compare, "compare"),
        (Class::Branch, "branch"),
        (Class::Global, "global"),
        (Class::Shared, "shared"),
        (Class::Local, "local"),
        (Class::Constant, "constant"),
        (Class::Atomic, "atomic"),
        (Class::Shuffle, "shuffle"),
        (Class::Barrier, "barrier"),
        (Class::Mma, "mma"),
        (Class::AsyncCopy, "async_copy"),
        (Class::Other, "other"),
    ];
}

/// The counters of one launch. Unless `Config::count` is set, all but the first two are zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Warp-level instructions: one for each instruction that a warp issues.
    pub warp_instructions: u64,
    /// Thread-level instructions: one for each active thread whose guard holds.
    pub thread_instructions: u64,
    /// Thread instructions by class, in the order of `Class::ALL`.
    pub classes: [u64; Class::ALL.len()],
    /// Floating-point operations. A fused multiply-add counts as two, an `mma` as 2·m·n·k.
    pub flops: u64,
    /// Bytes of global memory that threads loaded or stored.
    pub global_load_bytes: u64,
    pub global_store_bytes: u64,
    /// 32-byte sectors of global memory accessed, counted for each warp instruction.
    pub global_load_sectors: u64,
    pub global_store_sectors: u64,
    /// Distinct 32-byte sectors of global memory accessed in the whole launch.
    pub global_load_footprint: u64,
    pub global_store_footprint: u64,
    /// Bank conflicts: extra passes over the 32 banks, beyond one for each group of lanes that requests 128 bytes.
    pub shared_bank_conflicts: u64,
    /// Accesses to shared memory, counted for each warp instruction.
    pub shared_accesses: u64,
    /// Barriers completed, summed over the blocks.
    pub barriers: u64,
    /// `mma` instructions, counted for each warp.
    pub mma: u64,
}

impl Counts {
    pub fn class(&self, class: Class) -> u64 {
        self.classes[class as usize]
    }

    pub(super) fn add(&mut self, other: &Counts) {
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        for (mine, theirs) in self.classes.iter_mut().zip(other.classes) {
            *mine += theirs;
        }
        self.flops += other.flops;
        self.global_load_bytes += other.global_load_bytes;
        self.global_store_bytes += other.global_store_bytes;
        self.global_load_sectors += other.global_load_sectors;
        self.global_store_sectors += other.global_store_sectors;
        self.global_load_footprint += other.global_load_footprint;
        self.global_store_footprint += other.global_store_footprint;
        self.shared_bank_conflicts += other.shared_bank_conflicts;
        self.shared_accesses += other.shared_accesses;
        self.barriers += other.barriers;
        self.mma += other.mma;
    }

    /// The counters as one line of JSON.
    pub fn to_json(&self) -> String {
        let mut json = format!(
            "{{\"warp_instructions\":{},\"thread_instructions\":{},\"classes\":{{",
            self.warp_instructions, self.thread_instructions
        );
        for (i, (class, name)) in Class::ALL.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(json, "{comma}\"{name}\":{}", self.class(*class));
        }
        let _ = write!(
            json,
            "}},\"flops\":{},\"global_load_bytes\":{},\"global_store_bytes\":{},\"global_load_sectors\":{},\
             \"global_store_sectors\":{},\"global_load_footprint\":{},\"global_store_footprint\":{},\"shared_bank_conflicts\":{},\"shared_accesses\":{},\"barriers\":{},\"mma\":{}}}",
            self.flops,
            self.global_load_bytes,
            self.global_store_bytes,
            self.global_load_sectors,
            self.global_store_sectors,
            self.global_load_footprint,
            self.global_store_footprint,
            self.shared_bank_conflicts,
            self.shared_accesses,
            self.barriers,
            self.mma
        );
        json
    }
}
