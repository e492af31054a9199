//! `mlpconv doctor`: reports what this machine and this build have, and how to get what is missing.

use std::path::{Path, PathBuf};

use mlpconv::data::{DataName, Splits};
use mlpconv::{Cpu, Result};

#[cfg(feature = "cuda")]
use super::bytes;
use super::say;

/// Reports on driver, GPUs, kernels, data set and CPU. A missing part is not an error: the CPU always works.
///
/// # Errors
/// Those of [`Splits::find`] and [`Splits::read`], after everything has been reported.
pub fn doctor(name: &DataName, data_dir: Option<PathBuf>) -> Result<()> {
    cuda();
    let data = data(name, data_dir.as_deref());
    if data.is_err() {
        line("data", format_args!("{name} cannot be used; the error at the end says why"));
    }
    let features = cpu_features();
    let features =
        if features.is_empty() { "none of its vector extensions are used".into() } else { features.join(" ") };
    line("cpu", format_args!("{} threads, {features}", Cpu::<f32>::new().threads()));
    data
}

/// Reads the data set, as damage shows only then. Nothing is fetched.
fn data(name: &DataName, data_dir: Option<&Path>) -> Result<()> {
    let splits = match name {
        DataName::Known(spec) => match Splits::find(spec, data_dir)? {
            Some(source) => Splits::read(spec, source)?,
            None => {
                let option = if *name == DataName::default() { String::new() } else { format!(" --data {name}") };
                let fetches = format!("`mlpconv data{option}` fetches it, and so does `train{option}`");
                line("data", format_args!("{} is not on this machine; {fetches}", spec.title));
                return Ok(());
            }
        },
        // Images of several sizes need one to be brought to; it shows nowhere.
        DataName::Folder(_) => Splits::load(name, data_dir, 32, &mut |_| {})?,
    };
    let Splits { title, train, test, source, warnings } = splits;
    line("data", format_args!("{title} in {source}: {} training and {} test images", train.len(), test.len()));
    warnings.iter().for_each(|warning| line("warning", warning));
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
                let usable = || mlpconv::Cuda::new(0, Precision::Fp32).map(|cuda| cuda.image());
                match cuda::missing().is_none().then(usable) {
                    Some(Ok(Some(cuda::Image::Code(machine)))) => {
                        line("loaded", format_args!("on cuda:0, this build's machine code for sm_{machine}"));
                        blocks();
                    }
                    Some(Ok(Some(cuda::Image::Ptx(_)))) => {
                        line("loaded", "on cuda:0, this build's PTX: the driver compiles it when a program first runs");
                    }
                    Some(Err(error)) => line("cuda:0", format_args!("cannot be used: {error}")),
                    Some(Ok(None)) | None => {}
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
    match cuda::nccl::Nccl::load() {
        Ok(nccl) => line("nccl", format_args!("{}, which joins the GPUs of several ranks", nccl.version())),
        Err(_) => line(
            "nccl",
            "not found; training on several GPUs needs it (Debian: libnccl2, PyPI: nvidia-nccl-cu13, or $MLPCONV_NCCL)",
        ),
    }
    match cuda::missing() {
        Some(why) => line("kernels", format_args!("not in this build: {why}")),
        None => {
            let modules: BTreeSet<_> = cuda::units().map(|unit| unit.module).collect();
            let text = match cuda::units().next().map(|unit| unit.ptx(Precision::Fp32)).transpose() {
                Ok(text) => text.unwrap_or_default(),
                Err(error) => return line("kernels", error),
            };
            let isa = text.lines().find_map(|line| line.strip_prefix(".version ").map(str::trim)).unwrap_or("?");
            let architectures: BTreeSet<_> = cuda::units().map(|unit| unit.architecture).collect();
            let others = architectures.iter().filter(|architecture| **architecture != cuda::Architecture::PORTABLE);
            let others: String = others.map(|architecture| format!(", some for sm_{architecture}")).collect();
            let machines: BTreeSet<_> = cuda::units().flat_map(|unit| unit.machines).collect();
            let machines: Vec<String> = machines.iter().map(|machine| format!("sm_{machine}")).collect();
            let code = match machines.is_empty() {
                true => "no machine code, as in every debug build".into(),
                false => format!("machine code for {}", machines.join(" ")),
            };
            let count = modules.len();
            line(
                "kernels",
                format_args!(
                    "{count} modules, each in fp32, tf32 and bf16; PTX ISA {isa} for Ampere and newer{others}; {code}"
                ),
            );
        }
    }
}

/// Whether as many blocks of the convolutions' kernels run at once as launches count on. It loads all of them, which is quick
/// where a GPU takes machine code.
#[cfg(feature = "cuda")]
fn blocks() {
    let mut all_fit = true;
    for precision in mlpconv::Precision::ALL {
        match mlpconv::Cuda::new(0, precision).and_then(|cuda| cuda.occupancy()) {
            Ok(kernels) => {
                for crowded in crowded(precision, &kernels) {
                    all_fit = false;
                    line("warning", crowded);
                }
            }
            Err(error) => return line("warning", error),
        }
    }
    if all_fit {
        line("blocks", "of the convolutions' kernels, as many fit a multiprocessor as launches count on");
    }
}

/// What to say of kernels of which fewer blocks fit a multiprocessor than launches count on.
#[cfg(feature = "cuda")]
fn crowded(precision: mlpconv::Precision, kernels: &[mlpconv::device::cuda::Occupancy]) -> Vec<String> {
    let mut alike = std::collections::BTreeMap::<_, Vec<&str>>::new();
    for kernel in kernels.iter().filter(|kernel| kernel.fit < kernel.assumed) {
        alike.entry((kernel.fit, kernel.assumed)).or_default().push(&kernel.kernel);
    }
    let say = |((fit, assumed), names): (_, Vec<&str>)| {
        let blocks = if fit == 1 { "block fits" } else { "blocks fit" };
        let names = names.join(", ");
        format!(
            "in {precision}, {fit} {blocks} a multiprocessor where launches count on {assumed}, which costs time: {names}"
        )
    };
    alike.into_iter().map(say).collect()
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

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use mlpconv::Precision;
    use mlpconv::device::cuda::Occupancy;

    use super::*;

    #[test]
    fn kernels_of_which_fewer_fit_are_named_together() {
        let of = |kernel: &str, fit, assumed| Occupancy { kernel: kernel.into(), fit, assumed };
        let kernels = [of("a", 2, 2), of("b", 1, 2), of("c", 3, 2), of("d", 2, 4), of("e", 1, 2)];
        let said = crowded(Precision::Bf16, &kernels);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("in bf16, 1 block fits") && said[0].ends_with(": b, e"), "{said:?}");
        assert!(
            said[1].contains("2 blocks fit a multiprocessor where launches count on 4") && said[1].ends_with(": d")
        );
        assert!(crowded(Precision::Bf16, &kernels[..1]).is_empty());
    }
}
