//! The machine without its driver, for tests of diagnoses and counts, which a card does not have.

use virtual_gpu::machine::{Config, Counts, Launch, Machine, Module, Trap};

use super::Args;

pub fn machine() -> Machine {
    Machine::new(Config { count: true, ..Config::default() })
}

/// A value and its bytes in memory.
pub trait Value: Copy {
    fn to_bytes(self) -> Vec<u8>;
}

macro_rules! values {
    ($($t:ty),*) => {$(
        impl Value for $t {
            fn to_bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        }
    )*};
}
values!(u8, u16, u32, f32);

pub fn upload<T: Value>(machine: &Machine, values: &[T]) -> u64 {
    let address = machine.alloc(size_of_val(values)).expect("memory");
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bytes()).collect();
    machine.write(address, &bytes).expect("in bounds");
    address
}

pub fn download(machine: &Machine, address: u64, count: usize) -> Vec<u32> {
    let mut bytes = vec![0; 4 * count];
    machine.read(address, &mut bytes).expect("in bounds");
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
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
