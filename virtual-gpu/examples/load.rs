//! Loads PTX files and prints the resources of their kernels, or the load error: `cargo run --example load --
//! FILE.ptx`.

use virtual_gpu::machine::{Config, Machine};

fn main() {
    for path in std::env::args().skip(1) {
        let machine = Machine::new(Config { compute_capability: (9, 0), ..Config::default() });
        let loaded = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        match loaded.and_then(|text| machine.load(&text).map_err(|error| error.to_string())) {
            Err(error) => println!("{path}: {error}"),
            Ok(module) => {
                for kernel in module.kernels().filter_map(|name| module.kernel(name)) {
                    println!(
                        "{path}: {}: {} bytes of parameters, {} registers, {} bytes of shared and {} of local memory",
                        kernel.name(),
                        kernel.param_bytes(),
                        kernel.registers(),
                        kernel.static_shared(),
                        kernel.local_bytes()
                    );
                }
            }
        }
    }
}
