//! Ranks as processes: this test program, started again for each of them.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlpconv::ranks::{Group, Place, Timeouts};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::team::TIMEOUTS;

/// The variable that holds a rank's task.
const TASK: &str = "MLPCONV_TEST_RANK";

/// What a rank has left.
#[derive(PartialEq, Serialize, Deserialize, Debug)]
pub struct Done {
    pub weights: Vec<u32>,
    pub epochs: Vec<[u64; 4]>,
    pub position: (u32, u32),
    pub error: Option<String>,
}

impl Done {
    /// Writes it where the test looks for it, and leaves the group.
    pub fn write(&self, folder: &Path, group: Option<&Group>) {
        let rank = group.map_or(0, Group::rank);
        fs::write(folder.join(format!("rank-{rank}")), serde_json::to_vec(self).unwrap()).unwrap();
        if let Some(group) = group {
            group.leave(self.error.as_deref());
        }
    }
}

/// The task of this rank.
pub fn task<T: DeserializeOwned>() -> T {
    serde_json::from_str(&std::env::var(TASK).expect("a test starts this")).unwrap()
}

/// The group of this rank, whose collectives may take so many seconds, or as many as usual; `None` for a rank that is alone.
pub fn group(patience: Option<u64>) -> Option<Arc<Group>> {
    let place = Place::from_environment().unwrap();
    let collective = patience.map_or(TIMEOUTS.collective, Duration::from_secs);
    let timeouts = Timeouts { collective, ..TIMEOUTS };
    place.filter(|place| place.ranks > 1).map(|place| Group::join(&place, timeouts).unwrap())
}

/// Processes that do a task together, ended when this is dropped.
pub struct Team(Vec<Child>);

impl Drop for Team {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Team {
    /// Starts as many ranks, each of which runs the ignored test `test` with this task and these variables.
    pub fn start(test: &str, ranks: usize, task: &impl Serialize, variables: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let start = |rank: usize| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", test, "--ignored", "--nocapture"]);
            let numbers = [("RANK", rank), ("WORLD_SIZE", ranks), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", ranks)];
            command.envs(numbers.map(|(name, number)| (name, number.to_string())));
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
            command.env(TASK, serde_json::to_string(task).unwrap());
            command.envs(variables.iter().copied());
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
        };
        Team((0..ranks).map(start).collect())
    }

    /// Waits for the ranks. Returns their exit codes, and what they have left: `None` of those that have left nothing.
    pub fn wait(mut self, folder: &Path) -> Vec<(Option<i32>, Option<Done>)> {
        let limit = Instant::now() + Duration::from_secs(120);
        let mut left = Vec::new();
        for (rank, child) in self.0.iter_mut().enumerate() {
            let status = loop {
                assert!(Instant::now() < limit, "rank {rank} does not end");
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None => std::thread::sleep(Duration::from_millis(10)),
                }
            };
            let done = fs::read(folder.join(format!("rank-{rank}"))).ok();
            left.push((status.code(), done.map(|done| serde_json::from_slice(&done).unwrap())));
        }
        left
    }
}
