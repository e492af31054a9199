//! `mlpconv doctor`: reports what this machine and this build have, and how to get what is missing.

use std::path::PathBuf;

use mlpconv::data::{DataName, Splits};
use mlpconv::{Cpu, Result};

#[cfg(feature = "cuda")]
use super::bytes;
use super::say;

/// Reports on driver, GPUs, kernels, data set and CPU. A missing part is not an error: the CPU always works.
pub fn doctor(name: &DataName, data_dir: Option<PathBuf>) -> Result<()> {
    cuda();
    match name {
        DataName::Known(spec) => match Splits::find(spec, data_dir.as_deref())? {
            Some(source) => line("data", format_args!("{} in {source}", spec.title)),
            None => {
                let option = if *name == DataName::default() { String::new() } else { format!(" --data {name}") };
                let fetches = format!("`mlpconv data{option}` fetches it, and so does `train{option}`");
                line("data", format_args!("{} is not on this machine; {fetches}", spec.title));
            }
        },
        DataName::Folder(folder) => {
            let folder = data_dir.as_ref().unwrap_or(folder);
            let shown = folder.display();
            match folder.is_dir() {
                true => line("data", format_args!("{shown} is a folder; `mlpconv data --data {shown}` reads it")),
                false => line("data", format_args!("{shown} is neither a known data set nor a folder")),
            }
        }
    }
    let features = cpu_features();
    let features =
        if features.is_empty() { "none of its vector extensions are used".into() } else { features.join(" ") };
    line("cpu", format_args!("{} threads, {features}", Cpu::<f32>::new().threads()));
    Ok(())
}

fn line(what: &str, says: impl std::fmt::Display) {
    say(format_args!("{what:<9}{says}"));
}

#[cfg(feature = "cuda")]
fn cuda() {
    use std::collections::BTreeSet;

    use mlpconv::Precision;
    use mlpconv::device::cuda;

    match cuda::driver_version() {
        Ok((major, minor)) => line("driver", format_args!("CUDA {major}.{minor}")),
        Err(error) => line("driver", error),
    }
    if cuda::driver_version().is_ok() {
        match cuda::devices() {
            Ok(devices) => {
                if let (None, Err(error)) = (cuda::missing(), mlpconv::Cuda::new(0, Precision::Fp32)) {
                    line("cuda:0", format_args!("cannot be used: {error}"));
                }
                for device in devices {
                    let (major, minor) = device.capability;
                    let runs = cuda::Architecture::PORTABLE.runs_on(device.capability);
                    let enough = if runs { "" } else { " (the kernels need 8.0)" };
                    line(
                        &format!("cuda:{}", device.ordinal),
                        format_args!(
                            "{}, compute capability {major}.{minor}{enough}, {} multiprocessors, {}",
                            device.name,
                            device.multiprocessors,
                            bytes(device.memory)
                        ),
                    );
                }
            }
            Err(error) => line("devices", error),
        }
    }
    match cuda::missing() {
        Some(why) => line("kernels", format_args!("not in this build: {why}")),
        None => {
            let units = || cuda::ptx(Precision::Fp32);
            let modules: BTreeSet<_> = units().map(|unit| unit.module).collect();
            let isa = units()
                .next()
                .and_then(|unit| unit.text.lines().find_map(|line| line.strip_prefix(".version ").map(str::trim)));
            let isa = isa.unwrap_or("?");
            let architectures: BTreeSet<_> = units().map(|unit| unit.architecture).collect();
            let others = architectures.iter().filter(|architecture| **architecture != cuda::Architecture::PORTABLE);
            let others: String = others.map(|architecture| format!(", some for sm_{architecture}")).collect();
            line(
                "kernels",
                format_args!(
                    "{} modules, each in fp32, tf32 and bf16; PTX ISA {isa} for Ampere and newer{others}",
                    modules.len()
                ),
            );
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda() {
    line("kernels", "this build has no CUDA backend; build it with the cargo feature cuda");
}

/// The vector extensions of the CPU from which the matrix products choose.
fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("sse4.1", is_x86_feature_detected!("sse4.1")),
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
    #[cfg(target_arch = "aarch64")]
    return vec!["neon"];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}
