//! The choice of a backend, which only this module makes.

use clap::Args;
use mlpconv::ranks::Place;
use mlpconv::train::{Preset, TrainConfig};
use mlpconv::{Cpu, Error, Precision, Result};
#[cfg(feature = "cuda")]
use mlpconv::{Cuda, device::cuda::CudaError};

/// The heading of these options in a help text.
const DEVICE: &str = "Device";

/// The options for the device and its precision.
#[derive(Args)]
pub struct DeviceArgs {
    /// auto, cpu, cuda or cuda:N [default: auto, a GPU if there is one]
    #[arg(long, help_heading = DEVICE)]
    pub device: Option<String>,
    /// fp32, tf32 or bf16 [default: tf32 on a GPU; a CPU has only fp32]
    #[arg(long, help_heading = DEVICE)]
    pub precision: Option<Precision>,
    /// Threads of the CPU backend, which this option selects unless --device is given [default: all cores, or
    /// RAYON_NUM_THREADS]
    #[arg(long, help_heading = DEVICE)]
    pub threads: Option<usize>,
}

/// A backend of one of the available kinds. Code that is generic over them runs inside [`on_device!`].
#[derive(Clone)]
pub enum Chosen {
    Cpu(Cpu<f32>),
    #[cfg(feature = "cuda")]
    Cuda(Cuda),
}

/// `on_device!(chosen, backend => expression)` evaluates the expression with `backend` of the chosen type.
macro_rules! on_device {
    ($chosen:expr, $backend:ident => $run:expr) => {
        match $chosen {
            $crate::console::device::Chosen::Cpu($backend) => $run,
            #[cfg(feature = "cuda")]
            $crate::console::device::Chosen::Cuda($backend) => $run,
        }
    };
}
pub(crate) use on_device;

/// The device to compute on, and the reason for it.
pub struct Choice {
    pub backend: Chosen,
    /// The name, as in `--device` and in a run's settings.
    pub name: String,
    pub precision: Precision,
    /// Whether the data set lies on the device, which then prepares the batches.
    pub resident: bool,
    pub why: String,
    /// The default preset: one that trains in reasonable time on this device. `why_preset` also says how to get the
    /// other.
    pub preset: Preset,
    pub why_preset: &'static str,
}

impl Choice {
    /// The same GPU without the kernels for its own architecture.
    ///
    /// # Errors
    /// [`Error::Config`] on a CPU; for a GPU that cannot be used.
    pub fn portable(self) -> Result<Self> {
        match &self.backend {
            #[cfg(feature = "cuda")]
            Chosen::Cuda(cuda) => {
                let backend = Chosen::Cuda(cuda.portable()?);
                Ok(Choice { backend, ..self })
            }
            Chosen::Cpu(_) => {
                let problem = "an option of GPUs; leave it out, or say --device cuda".into();
                Err(Error::Config { what: "portable".into(), problem })
            }
        }
    }
}

/// The device and the precision where the options name none: those of a run that goes on, or of a file of settings.
pub struct Earlier<'a> {
    pub device: Option<&'a str>,
    pub precision: Option<Precision>,
    /// The reason for both: "as the run began".
    pub why: String,
}

impl<'a> Earlier<'a> {
    pub fn of_run(config: &'a TrainConfig) -> Self {
        let (device, precision) = (Some(config.device.as_str()), Some(config.precision));
        Earlier { device, precision, why: "as the run began".into() }
    }
}

/// The share of a machine that a process has where nothing names another: all of it, or that of a rank.
#[derive(Clone, Copy, Default)]
pub struct Share {
    /// The GPU.
    pub ordinal: usize,
    /// Threads of the CPU backend; `None` for as many as there are cores.
    pub threads: Option<usize>,
    /// Whether there are other ranks. A GPU of an earlier process is then only a kind of device.
    pub of_rank: bool,
}

impl Share {
    /// The share of a rank: the ranks of a machine take its GPUs in turn, and an equal part of its cores each.
    pub fn of(place: &Place) -> Self {
        #[cfg(feature = "cuda")]
        let gpus = mlpconv::device::cuda::devices().map_or(1, |devices| devices.len().max(1));
        #[cfg(not(feature = "cuda"))]
        let gpus = 1;
        Share { ordinal: place.local_rank % gpus, threads: threads(place.local_ranks), of_rank: true }
    }
}

/// The threads of one of several ranks on a machine; `None` where somebody has said it: the user by a variable, or the launcher, which
/// has given each rank cores of its own.
fn threads(local_ranks: usize) -> Option<usize> {
    let granted = std::thread::available_parallelism().map_or(1, usize::from);
    let said = std::env::var_os("RAYON_NUM_THREADS").is_some_and(|value| !value.is_empty());
    (!said && granted >= all_cores()).then(|| (granted / local_ranks.max(1)).max(1))
}

/// The cores of the machine, whether this process may use them or not; 1 if the system does not tell.
fn all_cores() -> usize {
    #[cfg(unix)]
    // SAFETY: it reads a number of the system.
    let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    #[cfg(not(unix))]
    let cores = 1;
    usize::try_from(cores).unwrap_or(1)
}

/// Resolves the options for a process that has the machine to itself. An option left out takes its value from what is
/// `earlier`.
///
/// # Errors
/// For an unknown device name, a GPU that cannot be used, or a precision that the device does not have.
pub fn choose(args: &DeviceArgs, earlier: Option<&Earlier>) -> Result<Choice> {
    choose_within(Share::default(), args, earlier)
}

/// [`choose`] for a process that has a share of the machine.
///
/// # Errors
/// As [`choose`].
pub fn choose_within(share: Share, args: &DeviceArgs, earlier: Option<&Earlier>) -> Result<Choice> {
    let asked = args.device.as_deref().map(|device| (device, "as --device says"));
    let before = earlier.and_then(|earlier| Some((earlier.device?, earlier.why.as_str())));
    let precision = args.precision.or(earlier.and_then(|earlier| earlier.precision));
    match asked.or(before).unwrap_or(("auto", "")) {
        ("auto", _) => auto(share, args, earlier, precision),
        ("cpu", why) => cpu(share, args, earlier, precision, why.into()),
        (device, why) if device == "cuda" || device.starts_with("cuda:") => {
            let named = device.strip_prefix("cuda:").filter(|_| asked.is_some() || !share.of_rank);
            let ordinal = named.map_or(Ok(share.ordinal), str::parse);
            let not_a_number = |_| {
                let problem = "what follows the colon is not a number; --device takes cuda or cuda:N".into();
                Error::Device { device: device.into(), problem }
            };
            if args.threads.is_some() {
                let problem = "an option of the CPU's; leave it out, or say --device cpu".into();
                return Err(Error::Config { what: "threads".into(), problem });
            }
            cuda(ordinal.map_err(not_a_number)?, precision, why.into())
        }
        (device, why) => {
            let problem = format!("({why}) there is no such device; --device takes auto, cpu, cuda or cuda:N");
            Err(Error::Device { device: device.into(), problem })
        }
    }
}

fn cpu(
    share: Share,
    args: &DeviceArgs,
    earlier: Option<&Earlier>,
    precision: Option<Precision>,
    why: String,
) -> Result<Choice> {
    if let Some(precision) = precision.filter(|precision| *precision != Precision::Fp32) {
        let remedy = match (args.precision, earlier) {
            (None, Some(earlier)) => format!(", {}; add --precision fp32", earlier.why),
            _ => "; leave --precision out".into(),
        };
        let problem = format!("({why}) the CPU computes in fp32 alone, not in {precision}{remedy}, or use a GPU");
        return Err(Error::Device { device: "cpu".into(), problem });
    }
    let backend = Chosen::Cpu(match args.threads.or(share.threads) {
        Some(threads) => Cpu::with_threads(threads)?,
        None => Cpu::new(),
    });
    let why_preset = "the default on a CPU; --preset d2l is the book's network";
    let (name, precision, preset) = ("cpu".into(), Precision::Fp32, Preset::Small);
    Ok(Choice { backend, name, precision, resident: false, why, preset, why_preset })
}

#[cfg(feature = "cuda")]
fn cuda(ordinal: usize, precision: Option<Precision>, why: String) -> Result<Choice> {
    let precision = precision.unwrap_or(Precision::Tf32);
    let backend = Chosen::Cuda(Cuda::new(ordinal, precision)?);
    let why_preset = "the default on a GPU; --preset small trains a smaller one in moments";
    let (name, preset) = (format!("cuda:{ordinal}"), Preset::D2l);
    Ok(Choice { backend, name, precision, resident: true, why, preset, why_preset })
}

#[cfg(not(feature = "cuda"))]
fn cuda(ordinal: usize, _: Option<Precision>, _: String) -> Result<Choice> {
    let problem = "this build has no CUDA backend (cargo feature cuda); leave --device out, or say --device cpu".into();
    Err(Error::Device { device: format!("cuda:{ordinal}"), problem })
}

/// A GPU if one can be used, else the CPU. The lack of a GPU is never an error.
#[cfg(feature = "cuda")]
fn auto(share: Share, args: &DeviceArgs, earlier: Option<&Earlier>, precision: Option<Precision>) -> Result<Choice> {
    // `--threads` is an option of the CPU backend, so it selects the CPU.
    if args.threads.is_some() {
        return cpu(share, args, earlier, precision, "as --threads is an option of the CPU's".into());
    }
    let which = if share.of_rank { "this rank's GPU" } else { "the first GPU" };
    match cuda(share.ordinal, precision, format!("{which}; --device cpu is the other choice")) {
        Ok(choice) => Ok(choice),
        Err(error) => {
            let why = match error {
                Error::Cuda(CudaError::NoDriver) => "no CUDA driver was found".into(),
                Error::Cuda(CudaError::NoDevice) => "the CUDA driver finds no GPU".into(),
                Error::Cuda(CudaError::KernelsNotBuilt { .. }) => {
                    "this build has no CUDA kernels; mlpconv doctor says why".into()
                }
                other => other.to_string(),
            };
            cpu(share, args, earlier, precision, why)
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn auto(share: Share, args: &DeviceArgs, earlier: Option<&Earlier>, precision: Option<Precision>) -> Result<Choice> {
    cpu(share, args, earlier, precision, "this build has no CUDA backend".into())
}
