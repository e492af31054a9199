//! The place of a process among the ranks, from the variables that its launcher has set.

use std::fmt;

use sha2::{Digest, Sha256};

use super::slurm;
use crate::error::RanksError;

/// What has started the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Launcher {
    /// `mlpconv launch`.
    Own,
    /// torchrun, or another launcher that sets `RANK` and `WORLD_SIZE`.
    Torchrun,
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// Hydra: the `mpiexec` of MPICH and of Intel MPI.
    Hydra,
    /// Slurm's `srun`.
    Slurm,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Launcher::Own => "mlpconv launch",
            Launcher::Torchrun => "torchrun",
            Launcher::OpenMpi => "Open MPI",
            Launcher::Hydra => "Hydra (MPICH, Intel MPI)",
            Launcher::Slurm => "srun",
        })
    }
}

/// The place of this process among the ranks, as a launcher tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of this process, from 0.
    pub rank: usize,
    /// The number of processes.
    pub ranks: usize,
    /// The number of this process among those of its host, from 0.
    pub local_rank: usize,
    /// The number of processes on this host.
    pub local_ranks: usize,
    /// The host or IP address at which rank 0 listens. Empty if there is one rank.
    pub address: String,
    /// The port at which rank 0 listens. 0 if there is one rank.
    pub port: u16,
    /// What has started the ranks.
    pub launcher: Launcher,
    /// What identifies the job: the same on all its ranks, and different for another job as far as the launcher tells it, else
    /// empty. Ranks of another job are strangers. It is no secret, and protects from confusion alone.
    pub job: String,
}

/// Reads a variable.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// By which `mlpconv launch` tells a process that it has started it, and in which job.
const OWN_JOB: &str = "MLPCONV_LAUNCH";
/// Ports that are derived from a job's name are from here on, this many.
const PORTS: (u16, u16) = (20_000, 20_000);

impl Place {
    /// The place that the environment tells. `None` if no launcher has set its variables: the process is on its own.
    ///
    /// The first of these launchers whose variables are there counts:
    ///
    /// | launcher | variables |
    /// |---|---|
    /// | torchrun, `mlpconv launch` | `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT` |
    /// | Open MPI | `OMPI_COMM_WORLD_RANK`, `_SIZE`, `_LOCAL_RANK`, `_LOCAL_SIZE` |
    /// | MPICH, Intel MPI | `PMI_RANK`, `PMI_SIZE`, `MPI_LOCALRANKID`, `MPI_LOCALNRANKS` |
    /// | Slurm's srun | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS`, `SLURM_LOCALID`, `SLURM_STEP_TASKS_PER_NODE`, `SLURM_STEP_NODELIST` |
    ///
    /// The last three heed `MASTER_ADDR` and `MASTER_PORT` if they are set. Without the address rank 0 is on this host if all
    /// ranks are, or on Slurm's first host; without the port it is derived from what identifies the job.
    ///
    /// # Errors
    /// [`RanksError::Environment`] for a variable that is missing or malformed.
    pub fn from_environment() -> crate::Result<Option<Place>> {
        Place::of(&|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// As [`from_environment`](Self::from_environment), with variables of one's own. An empty variable is one that is not set.
    ///
    /// # Errors
    /// As for [`from_environment`](Self::from_environment).
    pub fn of(variable: &dyn Fn(&str) -> Option<String>) -> crate::Result<Option<Place>> {
        let variable: Variables = &|name| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let has = |name: &str| variable(name).is_some();
        let srun = has("SLURM_PROCID") && has("SLURM_STEP_NUM_TASKS");
        // One of them alone may be left over in a script that another launcher runs in.
        let others = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_STEP_NUM_TASKS"].iter().any(|name| has(name));
        let place = if has("RANK") && has("WORLD_SIZE") || !others && (has("RANK") || has("WORLD_SIZE")) {
            torchrun(variable)?
        } else if has("OMPI_COMM_WORLD_RANK") || has("OMPI_COMM_WORLD_SIZE") {
            open_mpi(variable)?
        } else if (has("PMI_RANK") || has("PMI_SIZE")) && (has("MPI_LOCALRANKID") || has("PMI_LOCAL_RANK") || !srun) {
            // srun --mpi=pmi2 sets PMI_RANK and PMI_SIZE as well, without a local rank.
            hydra(variable)?
        } else if srun {
            slurm_step(variable)?
        } else {
            return Ok(None);
        };
        Ok(Some(place))
    }

    /// A place among ranks that are all on this host, and meet at a port of the loopback interface.
    pub fn on_this_host(rank: usize, ranks: usize, port: u16) -> Place {
        Place {
            rank,
            ranks,
            local_rank: rank,
            local_ranks: ranks,
            address: "127.0.0.1".into(),
            port,
            launcher: Launcher::Own,
            job: String::new(),
        }
    }
}

/// The most ranks. A larger number is a typing error.
pub(super) const MOST: usize = 1 << 16;

fn wrong(variable: &str, problem: impl Into<String>) -> RanksError {
    RanksError::Environment { variable: variable.into(), problem: problem.into() }
}

/// A whole number of a variable, if it is set.
fn number<T: std::str::FromStr>(variable: Variables, name: &str) -> Result<Option<T>, RanksError> {
    let parse = |text: String| text.parse().map_err(|_| wrong(name, format!("{text:?} is not a number in its range")));
    variable(name).map(parse).transpose()
}

/// A whole number of a variable that has to be there, since `because` is.
fn needed(variable: Variables, name: &str, because: &str) -> Result<usize, RanksError> {
    let missing =
        || wrong(name, format!("is not set, but {because} is; set both, or neither for a process on its own"));
    number(variable, name)?.ok_or_else(missing)
}

/// A rank and the number of ranks, by the names of their variables.
fn pair(variable: Variables, rank: &str, ranks: &str) -> Result<(usize, usize), RanksError> {
    let (at, of) = (needed(variable, rank, ranks)?, needed(variable, ranks, rank)?);
    if of == 0 {
        return Err(wrong(ranks, "0 processes are none; 1 is the least"));
    }
    if of > MOST {
        return Err(wrong(ranks, format!("is {of}, beyond the {MOST} that are supported")));
    }
    if at >= of {
        return Err(wrong(rank, format!("is {at}, but {ranks} is {of}, so ranks go from 0 to {}", of - 1)));
    }
    Ok((at, of))
}

/// A number of local ranks that cannot be.
fn beyond(variable: &str, local_ranks: usize, ranks: usize) -> RanksError {
    wrong(variable, format!("is {local_ranks}, but must be between 1 and the number of ranks, {ranks}"))
}

/// The local numbers, checked against the global ones.
fn local(rank: (&str, usize), of: (&str, usize), ranks: usize) -> Result<(usize, usize), RanksError> {
    if of.1 == 0 || of.1 > ranks {
        return Err(beyond(of.0, of.1, ranks));
    }
    if rank.1 >= of.1 {
        return Err(wrong(rank.0, format!("is {}, but {} is {}", rank.1, of.0, of.1)));
    }
    Ok((rank.1, of.1))
}

/// Whether the text is an address of the loopback interface.
pub(super) fn is_loopback(address: &str) -> bool {
    address == "localhost" || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn alone(launcher: Launcher) -> Place {
    Place {
        rank: 0,
        ranks: 1,
        local_rank: 0,
        local_ranks: 1,
        address: String::new(),
        port: 0,
        launcher,
        job: String::new(),
    }
}

/// `MASTER_PORT`, if it is set.
fn master_port(variable: Variables) -> Result<Option<u16>, RanksError> {
    match number(variable, "MASTER_PORT")? {
        Some(0) => Err(wrong("MASTER_PORT", "0 is no port; set one from 1 to 65535")),
        port => Ok(port),
    }
}

fn torchrun(variable: Variables) -> Result<Place, RanksError> {
    let (rank, ranks) = pair(variable, "RANK", "WORLD_SIZE")?;
    let own = variable(OWN_JOB);
    let launcher = if own.is_some() { Launcher::Own } else { Launcher::Torchrun };
    if ranks == 1 {
        return Ok(alone(launcher));
    }
    let missing = |name: &str| {
        wrong(
            name,
            "is not set, but RANK and WORLD_SIZE are; rank 0 listens at MASTER_ADDR and MASTER_PORT: set both on all ranks",
        )
    };
    let address = variable("MASTER_ADDR").ok_or_else(|| missing("MASTER_ADDR"))?;
    let port = master_port(variable)?.ok_or_else(|| missing("MASTER_PORT"))?;
    // torchrun's agent listens at MASTER_PORT itself then, and its workers are clients.
    let port = match variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() {
        Some("True") if own.is_none() => {
            let next = port.checked_add(1);
            next.ok_or_else(|| wrong("MASTER_PORT", "is 65535, and the port after it is needed; set a lower one"))?
        }
        _ => port,
    };
    let all_here = is_loopback(&address);
    let local_ranks = match number(variable, "LOCAL_WORLD_SIZE")? {
        Some(local) => local,
        None if all_here => ranks,
        None => return Err(wrong("LOCAL_WORLD_SIZE", "is not set; set it to the number of ranks on this host")),
    };
    if local_ranks == 0 || local_ranks > ranks {
        return Err(beyond("LOCAL_WORLD_SIZE", local_ranks, ranks));
    }
    let local_rank = match number(variable, "LOCAL_RANK")? {
        Some(local) => local,
        None if local_ranks == ranks => rank,
        None if local_ranks == 1 => 0,
        None => return Err(wrong("LOCAL_RANK", "is not set; set it to this rank's number on its host, from 0")),
    };
    let (local_rank, local_ranks) = local(("LOCAL_RANK", local_rank), ("LOCAL_WORLD_SIZE", local_ranks), ranks)?;
    let elastic = || {
        let restart = variable("TORCHELASTIC_RESTART_COUNT").unwrap_or_default();
        variable("TORCHELASTIC_RUN_ID").map(|run| format!("torchrun {run} {restart}"))
    };
    let job = own.map(|job| format!("launch {job}")).or_else(elastic).unwrap_or_default();
    Ok(Place { rank, ranks, local_rank, local_ranks, address, port, launcher, job })
}

/// A place under a launcher that need not tell an address and a port. `job` is what identifies the job, if there is something;
/// `host` is the first host, if it is known.
fn under(
    variable: Variables,
    launcher: Launcher,
    (rank, ranks): (usize, usize),
    (local_rank, local_ranks): (usize, usize),
    job: Option<String>,
    host: Option<String>,
) -> Result<Place, RanksError> {
    let here = local_ranks == ranks;
    let loopback = || here.then(|| "127.0.0.1".to_owned());
    let address = variable("MASTER_ADDR").or_else(loopback).or(host).ok_or_else(|| {
        let pass = match launcher {
            Launcher::OpenMpi => "mpirun -x MASTER_ADDR=HOST",
            _ => "mpiexec -genv MASTER_ADDR HOST",
        };
        wrong("MASTER_ADDR", format!("is not set, and the ranks are on several hosts; name the host of rank 0: {pass}"))
    })?;
    // On one host the launcher has started all ranks itself, unless a shell is between them.
    let parent = || here.then(parent).flatten().map(|parent| format!("{launcher} {parent}"));
    let job = job.or_else(parent);
    let port = match (master_port(variable)?, &job) {
        (Some(port), _) => port,
        (None, Some(job)) => port_of(job),
        (None, None) => {
            let problem = "is not set, and nothing else identifies the job on all hosts; pass a free port of rank 0's host to all ranks";
            return Err(wrong("MASTER_PORT", problem));
        }
    };
    Ok(Place { rank, ranks, local_rank, local_ranks, address, port, launcher, job: job.unwrap_or_default() })
}

/// The process that has started this one.
fn parent() -> Option<u32> {
    #[cfg(unix)]
    return Some(std::os::unix::process::parent_id());
    #[cfg(not(unix))]
    None
}

/// A port for a job.
fn port_of(job: &str) -> u16 {
    let hash = Sha256::digest(job.as_bytes());
    PORTS.0 + u16::from_le_bytes([hash[0], hash[1]]) % PORTS.1
}

fn open_mpi(variable: Variables) -> Result<Place, RanksError> {
    let (rank, ranks) = pair(variable, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")?;
    if ranks == 1 {
        return Ok(alone(Launcher::OpenMpi));
    }
    let names = ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE");
    let (at, of) =
        (needed(variable, names.0, "OMPI_COMM_WORLD_RANK")?, needed(variable, names.1, "OMPI_COMM_WORLD_RANK")?);
    let local = local((names.0, at), (names.1, of), ranks)?;
    // The job's name on all its hosts, in version 5 and in version 4.
    let job = variable("PMIX_NAMESPACE").or_else(|| variable("OMPI_MCA_ess_base_jobid"));
    let job = job.map(|job| format!("{} {job}", Launcher::OpenMpi));
    under(variable, Launcher::OpenMpi, (rank, ranks), local, job, None)
}

fn hydra(variable: Variables) -> Result<Place, RanksError> {
    let (rank, ranks) = pair(variable, "PMI_RANK", "PMI_SIZE")?;
    if ranks == 1 {
        return Ok(alone(Launcher::Hydra));
    }
    // Hydra's own names, and those of other launchers that speak PMI.
    let hydra = ("MPI_LOCALRANKID", "MPI_LOCALNRANKS");
    let other = ("PMI_LOCAL_RANK", "PMI_LOCAL_SIZE");
    let names = if variable(hydra.0).is_none() && variable(other.0).is_some() { other } else { hydra };
    let (at, of) = (needed(variable, names.0, "PMI_RANK")?, needed(variable, names.1, "PMI_RANK")?);
    let local = local((names.0, at), (names.1, of), ranks)?;
    under(variable, Launcher::Hydra, (rank, ranks), local, None, None)
}

fn slurm_step(variable: Variables) -> Result<Place, RanksError> {
    let (rank, ranks) = pair(variable, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")?;
    if ranks == 1 {
        return Ok(alone(Launcher::Slurm));
    }
    let missing = |name: &str| wrong(name, "is not set, though srun sets it; start the ranks by srun itself");
    let text = |name: &str| variable(name).ok_or_else(|| missing(name));
    let local_rank = number(variable, "SLURM_LOCALID")?.ok_or_else(|| missing("SLURM_LOCALID"))?;
    let list = text("SLURM_STEP_TASKS_PER_NODE")?;
    let malformed = || wrong("SLURM_STEP_TASKS_PER_NODE", format!("{list:?} is no list as 4(x2),3"));
    let node = match number(variable, "SLURM_NODEID")? {
        Some(node) => node,
        // Without it the list tells this host's tasks if all hosts have as many.
        None if slurm::tasks(&list).is_some_and(|runs| runs.len() == 1) => 0,
        None => return Err(missing("SLURM_NODEID")),
    };
    let local_ranks = slurm::tasks_of(&list, node).ok_or_else(malformed)?;
    let local = local(("SLURM_LOCALID", local_rank), ("SLURM_STEP_TASKS_PER_NODE", local_ranks), ranks)?;
    let hosts = text("SLURM_STEP_NODELIST")?;
    let host = slurm::first_host(&hosts);
    let host = host.ok_or_else(|| wrong("SLURM_STEP_NODELIST", format!("{hosts:?} is no list of hosts")))?;
    let step = variable("SLURM_STEP_ID").or_else(|| variable("SLURM_STEPID"));
    let job = variable("SLURM_JOB_ID").or_else(|| variable("SLURM_JOBID"));
    let job = job.zip(step).map(|(job, step)| format!("slurm {job}.{step}"));
    under(variable, Launcher::Slurm, (rank, ranks), local, job, Some(host))
}

#[cfg(test)]
mod tests;
