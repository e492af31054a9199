//! On variables as launchers set them.

use super::{Launcher, Place};
use crate::Error;
use crate::error::RanksError;

/// The place that variables tell, one `NAME=value` a line.
fn place(lines: &str) -> Result<Option<Place>, RanksError> {
    let variable = |name: &str| {
        let lines = lines.lines().map(str::trim).filter_map(|line| line.split_once('='));
        lines.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).next_back()
    };
    Place::of(&variable).map_err(|error| match error {
        Error::Ranks(error) => error,
        other => panic!("{other}"),
    })
}

#[track_caller]
fn good(lines: &str) -> Place {
    place(lines).unwrap().expect("a place")
}

/// The variable that the error names, and the whole error.
#[track_caller]
fn bad(lines: &str) -> (String, String) {
    let error = place(lines).expect_err("an error");
    let RanksError::Environment { variable, .. } = &error else { panic!("{error}") };
    (variable.clone(), error.to_string())
}

const TORCHRUN: &str = "
    LOCAL_RANK=1
    RANK=5
    GROUP_RANK=1
    ROLE_RANK=5
    ROLE_NAME=default
    LOCAL_WORLD_SIZE=4
    WORLD_SIZE=8
    GROUP_WORLD_SIZE=2
    ROLE_WORLD_SIZE=8
    MASTER_ADDR=gpu007
    MASTER_PORT=29500
    TORCHELASTIC_RESTART_COUNT=0
    TORCHELASTIC_MAX_RESTARTS=0
    TORCHELASTIC_RUN_ID=none
    TORCHELASTIC_USE_AGENT_STORE=True
    TORCH_NCCL_ASYNC_ERROR_HANDLING=1
    OMP_NUM_THREADS=1
";

const OPEN_MPI_4: &str = "
    OMPI_COMMAND=./train
    OMPI_MCA_ess=^singleton
    OMPI_MCA_ess_base_jobid=1894318081
    OMPI_MCA_ess_base_vpid=1
    OMPI_MCA_orte_hnp_uri=1894318080.0;tcp://10.0.0.1,172.17.0.1:45837
    OMPI_UNIVERSE_SIZE=4
    OMPI_COMM_WORLD_SIZE=4
    OMPI_COMM_WORLD_LOCAL_SIZE=4
    OMPI_COMM_WORLD_RANK=1
    OMPI_COMM_WORLD_LOCAL_RANK=1
    OMPI_COMM_WORLD_NODE_RANK=1
    PMIX_NAMESPACE=1894318081
    PMIX_RANK=1
";

const OPEN_MPI_5: &str = "
    PRTE_MCA_ess_base_nspace=prterun-gpu007-41234@1
    OMPI_COMM_WORLD_SIZE=4
    OMPI_COMM_WORLD_LOCAL_SIZE=2
    OMPI_COMM_WORLD_RANK=3
    OMPI_COMM_WORLD_LOCAL_RANK=1
    OMPI_COMM_WORLD_NODE_RANK=1
    PMIX_NAMESPACE=prterun-gpu007-41234@1
    PMIX_RANK=3
    PMIX_VERSION=5.0.3
";

const HYDRA: &str = "
    PMI_RANK=2
    PMI_FD=9
    PMI_SIZE=3
    MPI_LOCALNRANKS=3
    MPI_LOCALRANKID=2
    HYDI_CONTROL_FD=8
";

const SRUN: &str = "
    SLURM_JOB_ID=17552256
    SLURM_JOBID=17552256
    SLURM_STEP_ID=0
    SLURM_STEPID=0
    SLURM_NTASKS=11
    SLURM_NPROCS=11
    SLURM_PROCID=9
    SLURM_LOCALID=1
    SLURM_NODEID=2
    SLURM_NNODES=3
    SLURM_STEP_NUM_NODES=3
    SLURM_STEP_NUM_TASKS=11
    SLURM_STEP_TASKS_PER_NODE=4(x2),3
    SLURM_TASKS_PER_NODE=4(x2),3
    SLURM_STEP_NODELIST=gpu[007-008,12]
    SLURM_JOB_NODELIST=gpu[007-008,12]
    SLURM_LAUNCH_NODE_IPADDR=10.19.0.68
";

fn without(lines: &str, names: &[&str]) -> String {
    let keeps = |line: &&str| !names.iter().any(|name| line.trim().starts_with(&format!("{name}=")));
    lines.lines().filter(keeps).collect::<Vec<_>>().join("\n")
}

fn with(lines: &str, more: &str) -> String {
    format!("{lines}\n{}", more.replace(' ', "\n"))
}

fn numbers(place: &Place) -> [usize; 4] {
    [place.rank, place.ranks, place.local_rank, place.local_ranks]
}

fn address(place: &Place) -> (&str, u16) {
    (&place.address, place.port)
}

#[test]
fn no_launcher_is_no_place() {
    assert_eq!(place(""), Ok(None));
    assert_eq!(place("LOCAL_RANK=3\nMASTER_ADDR=gpu007\nMASTER_PORT=1\nRANK=\nWORLD_SIZE= "), Ok(None));
    // A plain program in a batch script, which srun has not started.
    assert_eq!(place("SLURM_JOB_ID=7\nSLURM_NTASKS=4\nSLURM_PROCID=0\nSLURM_LOCALID=0\nSLURM_NODEID=0"), Ok(None));
}

#[test]
fn torchrun_with_its_agents_store_uses_the_next_port() {
    let place = good(TORCHRUN);
    assert_eq!((numbers(&place), address(&place)), ([5, 8, 1, 4], ("gpu007", 29501)));
    assert_eq!((place.launcher, &place.job[..]), (Launcher::Torchrun, "torchrun none 0"));
    let place = good(&with(TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE=False"));
    assert_eq!(address(&place), ("gpu007", 29500));
    let (variable, _) = bad(&with(TORCHRUN, "MASTER_PORT=65535"));
    assert_eq!(variable, "MASTER_PORT");
}

#[test]
fn launch_on_this_host() {
    let lines = "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=40001 MLPCONV_LAUNCH=a1b2";
    let place = good(&with("", lines));
    assert_eq!((numbers(&place), address(&place)), ([1, 2, 1, 2], ("127.0.0.1", 40001)));
    assert_eq!((place.launcher, &place.job[..]), (Launcher::Own, "launch a1b2"));
}

#[test]
fn local_numbers_that_follow_need_not_be_set() {
    let lines = "RANK=2 WORLD_SIZE=4 MASTER_ADDR=localhost MASTER_PORT=5000";
    assert_eq!(numbers(&good(&with("", lines))), [2, 4, 2, 4]);
    let far = with("", "RANK=2 WORLD_SIZE=4 MASTER_ADDR=gpu007 MASTER_PORT=5000");
    assert_eq!(bad(&far).0, "LOCAL_WORLD_SIZE");
    assert_eq!(numbers(&good(&with(&far, "LOCAL_WORLD_SIZE=1"))), [2, 4, 0, 1]);
    assert_eq!(numbers(&good(&with(&far, "LOCAL_WORLD_SIZE=4"))), [2, 4, 2, 4]);
    assert_eq!(bad(&with(&far, "LOCAL_WORLD_SIZE=2")).0, "LOCAL_RANK");
    assert_eq!(numbers(&good(&with(&far, "LOCAL_WORLD_SIZE=2 LOCAL_RANK=0"))), [2, 4, 0, 2]);
}

#[test]
fn variables_that_are_missing_or_malformed_are_named() {
    for (more, variable, word) in [
        ("RANK=1", "WORLD_SIZE", "RANK is"),
        ("WORLD_SIZE=2", "RANK", "WORLD_SIZE is"),
        ("RANK=0 WORLD_SIZE=0", "WORLD_SIZE", "0 processes"),
        ("RANK=2 WORLD_SIZE=2", "RANK", "ranks go from 0 to 1"),
        ("RANK=-1 WORLD_SIZE=2", "RANK", "\"-1\" is not a number"),
        ("RANK=one WORLD_SIZE=2", "RANK", "\"one\" is not a number"),
        ("RANK=0 WORLD_SIZE=99999999999999999999", "WORLD_SIZE", "not a number in its range"),
        ("RANK=0 WORLD_SIZE=2", "MASTER_ADDR", "on all ranks"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a", "MASTER_PORT", "on all ranks"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=0", "MASTER_PORT", "0 is no port"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=65536", "MASTER_PORT", "not a number"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1 LOCAL_WORLD_SIZE=3", "LOCAL_WORLD_SIZE", "between 1 and"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1 LOCAL_WORLD_SIZE=2 LOCAL_RANK=2", "LOCAL_RANK", "is 2"),
        ("OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK is"),
        ("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_RANK", "not set"),
        ("PMI_SIZE=2", "PMI_RANK", "PMI_SIZE is"),
        ("PMI_RANK=0 PMI_SIZE=2", "MPI_LOCALRANKID", "not set"),
        ("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2", "SLURM_LOCALID", "srun"),
    ] {
        let (named, text) = bad(&with("", more));
        assert_eq!(named, variable, "{more}: {text}");
        assert!(text.contains(word), "{more}: {text}");
    }
}

#[test]
fn open_mpi_on_one_host_needs_no_address() {
    let place = good(OPEN_MPI_4);
    assert_eq!(numbers(&place), [1, 4, 1, 4]);
    assert_eq!((&place.address[..], place.launcher), ("127.0.0.1", Launcher::OpenMpi));
    assert!((20_000..40_000).contains(&place.port), "{}", place.port);
    // The same on all ranks, whoever has started them, and another for another job.
    let other = with(OPEN_MPI_4, "OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_LOCAL_RANK=3");
    assert_eq!((good(&other).port, good(&other).job), (place.port, place.job.clone()));
    assert_ne!(good(&with(OPEN_MPI_4, "PMIX_NAMESPACE=1894318082")).port, place.port);
    // Without a name it is the parent process that names the job.
    let nameless = without(OPEN_MPI_4, &["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"]);
    assert!(cfg!(not(unix)) || good(&nameless).job.starts_with("Open MPI "));
}

#[test]
fn open_mpi_on_several_hosts_needs_an_address() {
    let (variable, text) = bad(OPEN_MPI_5);
    assert_eq!(variable, "MASTER_ADDR");
    assert!(text.contains("mpirun -x MASTER_ADDR=HOST"), "{text}");
    let place = good(&with(OPEN_MPI_5, "MASTER_ADDR=gpu007"));
    assert_eq!((numbers(&place), &place.address[..]), ([3, 4, 1, 2], "gpu007"));
    assert!((20_000..40_000).contains(&place.port));
    let place = good(&with(OPEN_MPI_5, "MASTER_ADDR=gpu007 MASTER_PORT=7777"));
    assert_eq!(address(&place), ("gpu007", 7777));
}

#[test]
fn hydra_on_one_host_and_on_several() {
    let place = good(HYDRA);
    assert_eq!((numbers(&place), place.launcher), ([2, 3, 2, 3], Launcher::Hydra));
    assert!(place.address == "127.0.0.1" && (20_000..40_000).contains(&place.port));
    let several = with(HYDRA, "MPI_LOCALNRANKS=2 MPI_LOCALRANKID=0");
    let (variable, text) = bad(&several);
    assert!(variable == "MASTER_ADDR" && text.contains("mpiexec -genv MASTER_ADDR HOST"), "{text}");
    assert_eq!(bad(&with(&several, "MASTER_ADDR=gpu007")).0, "MASTER_PORT");
    assert_eq!(address(&good(&with(&several, "MASTER_ADDR=gpu007 MASTER_PORT=7777"))), ("gpu007", 7777));
}

#[test]
fn srun_on_several_hosts_meets_at_the_first() {
    let place = good(SRUN);
    assert_eq!((numbers(&place), &place.address[..]), ([9, 11, 1, 3], "gpu007"));
    assert_eq!((place.launcher, &place.job[..]), (Launcher::Slurm, "slurm 17552256.0"));
    assert!((20_000..40_000).contains(&place.port));
    assert_eq!(good(&with(SRUN, "SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0")).port, place.port);
    assert_ne!(good(&with(SRUN, "SLURM_STEP_ID=1")).port, place.port);
    assert_eq!(address(&good(&with(SRUN, "MASTER_ADDR=ib7 MASTER_PORT=99"))), ("ib7", 99));
    assert_eq!(bad(&with(SRUN, "SLURM_STEP_NODELIST=gpu[")).0, "SLURM_STEP_NODELIST");
    assert_eq!(bad(&with(SRUN, "SLURM_STEP_TASKS_PER_NODE=4(x")).0, "SLURM_STEP_TASKS_PER_NODE");
}

#[test]
fn srun_on_one_host_meets_at_the_loopback_interface() {
    let here = "SLURM_PROCID=1 SLURM_LOCALID=1 SLURM_NODEID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=2 \
                SLURM_STEP_NODELIST=gpu7";
    let place = good(&with(SRUN, here));
    assert_eq!((numbers(&place), &place.address[..]), ([1, 2, 1, 2], "127.0.0.1"));
}

#[test]
fn the_variables_of_the_inner_launcher_count() {
    // srun --mpi=pmi2 sets some of Hydra's.
    assert_eq!(good(&with(SRUN, "PMI_RANK=9 PMI_SIZE=11 PMI_FD=15")).launcher, Launcher::Slurm);
    // mpirun in an allocation; Hydra and Open MPI start their daemons by srun.
    let daemon = with(SRUN, "SLURM_STEP_NUM_TASKS=3 SLURM_PROCID=2");
    let place = good(&format!("{daemon}\n{OPEN_MPI_4}"));
    assert_eq!((numbers(&place), place.launcher), ([1, 4, 1, 4], Launcher::OpenMpi));
    assert_eq!(good(&format!("{daemon}\n{HYDRA}")).launcher, Launcher::Hydra);
    assert_eq!(good(&format!("{SRUN}\n{TORCHRUN}")).launcher, Launcher::Torchrun);
}

#[test]
fn one_rank_needs_no_address() {
    for lines in [
        "RANK=0 WORLD_SIZE=1",
        "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1",
        "PMI_RANK=0 PMI_SIZE=1",
        "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1",
    ] {
        let place = good(&with("", lines));
        assert_eq!((numbers(&place), address(&place)), ([0, 1, 0, 1], ("", 0)), "{lines}");
    }
}
