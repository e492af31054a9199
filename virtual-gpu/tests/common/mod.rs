//! What the tests share: a machine with a kernel, and arguments as bytes.

#![allow(dead_code)]

use virtual_gpu::machine::{Config, Counts, Launch, Machine, Module, Trap};

pub fn machine() -> Machine {
    Machine::new(Config { count: true, ..Config::default() })
}

/// The bytes of a kernel's arguments, each at a multiple of its size.
#[derive(Default)]
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
}

/// Values that go to a device and come back.
pub trait Value: Copy + Default {
    const SIZE: usize;
    fn to_bytes(self) -> Vec<u8>;
    fn of(bytes: &[u8]) -> Self;
}

macro_rules! values {
    ($($t:ty),*) => {$(
        impl Value for $t {
            const SIZE: usize = size_of::<$t>();
            fn to_bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn of(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the value's size"))
            }
        }
    )*};
}
values!(u8, u16, u32, u64, i32, f32, f64);

pub fn upload<T: Value>(machine: &Machine, values: &[T]) -> u64 {
    let address = machine.alloc(values.len() * T::SIZE).expect("memory");
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bytes()).collect();
    machine.write(address, &bytes).expect("in bounds");
    address
}

pub fn download<T: Value>(machine: &Machine, address: u64, count: usize) -> Vec<T> {
    let mut bytes = vec![0; count * T::SIZE];
    machine.read(address, &mut bytes).expect("in bounds");
    bytes.chunks_exact(T::SIZE).map(T::of).collect()
}

pub fn run(
    machine: &Machine,
    module: &Module,
    name: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: usize,
    args: Args,
) -> Result<Counts, Trap> {
    let kernel = module.kernel(name).expect("the kernel");
    machine.launch(&kernel, &Launch { grid, block, dynamic_shared: shared }, &args.0)
}

/// Numbers in (-1, 1) that are the same on every run.
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

/// A kernel `k` of one pointer, around a body that uses a fixed set of registers.
pub fn kernel(body: &str) -> String {
    format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{\n\
         .reg .pred %p<16>;\n.reg .b16 %rs<16>;\n.reg .b32 %r<32>;\n.reg .b64 %rd<16>;\n.reg .f32 %f<16>;\n\
         .reg .f64 %fd<16>;\n.shared .align 16 .b8 tile[1024];\n.local .align 16 .b8 mine[64];\n\
         ld.param.u64 %rd0, [out];\nmov.u32 %r0, %tid.x;\n{body}\nret;\n}}\n"
    )
}
