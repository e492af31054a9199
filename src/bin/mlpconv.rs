//! `mlpconv`: trains Network in Network, and looks at its costs, its accuracy and its speed.

mod console;

fn main() -> std::process::ExitCode {
    console::main()
}
