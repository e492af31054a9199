//! Shared helpers: random numbers, arguments as bytes, and a kernel around a body. A kernel runs through the driver's C
//! interface ([`driver`]) or on the machine behind it ([`machine`]).

#![allow(dead_code)]

pub mod driver;
pub mod machine;
pub mod ptxas;
pub mod tensor;

/// The bytes of a kernel's arguments, each at a multiple of its size.
#[derive(Clone, Default)]
pub struct Args(pub Vec<u8>);

impl Args {
    fn push(mut self, bytes: &[u8]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(bytes.len()), 0);
        self.0.extend(bytes);
        self
    }

    pub fn ptr(self, value: u64) -> Self {
        self.push(&value.to_le_bytes())
    }

    pub fn int(self, value: usize) -> Self {
        self.push(&(value as u32).to_le_bytes())
    }

    pub fn half(self, value: u16) -> Self {
        self.push(&value.to_le_bytes())
    }

    /// A tensor map, by value.
    pub fn map(self, map: &[u8; 128]) -> Self {
        self.push(map)
    }
}

/// A generator of random numbers (SplitMix64), the same on every run. `float` is in [-1, 1).
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }
}

/// The head of a module. Every driver since CUDA 12.0 accepts this PTX version.
pub fn header(target: &str) -> String {
    format!(".version 8.0\n.target {target}\n.address_size 64\n")
}

/// nvcc's PTX 9.0 declared as PTX 8.0: it uses nothing newer, and a driver of CUDA 12 accepts it.
pub fn older(ptx: &str) -> String {
    ptx.replacen(".version 9.0", ".version 8.0", 1)
}

/// A kernel around a body. The body may use the registers declared here; `%rd0` holds the parameter `out`, `%r0` the
/// thread.
pub fn entry(name: &str, params: &str, body: &str) -> String {
    format!(
        ".visible .entry {name}({params})\n{{\n\
         .reg .pred %p<16>;\n.reg .b16 %rs<16>;\n.reg .b32 %r<32>;\n.reg .b64 %rd<16>;\n.reg .f32 %f<16>;\n\
         .reg .f64 %fd<16>;\n.shared .align 16 .b8 tile[1024];\n.local .align 16 .b8 mine[64];\n\
         ld.param.u64 %rd0, [out];\nmov.u32 %r0, %tid.x;\n{body}\nret;\n}}\n"
    )
}

/// A module with one kernel `k`, whose parameter is a pointer.
pub fn kernel(body: &str) -> String {
    header("sm_80") + &entry("k", ".param .u64 out", body)
}
