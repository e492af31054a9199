//! Several devices: where an allocation is, and which allocations a launch may access.
//!
//! The devices of a machine share one space of addresses, as CUDA's unified addressing has it, so that an address tells its
//! device. A launch may access its own device's memory and managed memory. Of another device's memory it may access what
//! the driver has opened to it, by peer access or by the rules of a pool.

/// Where an allocation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Home {
    pub device: usize,
    /// The driver's pool from which it was taken. Peer access does not open a pool's memory.
    pub pool: Option<u64>,
}

/// What a launch may access.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The device on which it runs.
    pub device: usize,
    /// The devices to which it has peer access.
    pub peers: Vec<usize>,
    /// The pools of other devices that are open to its device.
    pub pools: Vec<u64>,
}

impl Reach {
    pub(super) fn covers(&self, home: Home) -> bool {
        home.device == self.device
            || match home.pool {
                None => self.peers.contains(&home.device),
                Some(pool) => self.pools.contains(&pool),
            }
    }
}

impl Home {
    /// Why a launch cannot access this memory, and what opens it, for an error message.
    pub(super) fn barred(self) -> String {
        let device = self.device;
        match self.pool {
            None => format!(" on device {device}: the context has no peer access to it (cuCtxEnablePeerAccess)"),
            Some(_) => format!(
                " in a memory pool of device {device}: the kernel's device has no access to it, which peer access does \
                 not give (cuMemPoolSetAccess)"
            ),
        }
    }
}
