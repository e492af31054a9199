//! How many blocks of the GEMM kernels a multiprocessor holds, by the driver, beside what the rules for launches count on.

use cudarc::driver::result;

use super::gemm::tiles;
use super::tiles::{Tile, WGMMA_TILES};
use super::{Cuda, CudaError};
use crate::Result;

/// Blocks of a kernel on a multiprocessor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupancy {
    pub kernel: String,
    /// As many as fit, by registers, shared memory and warps.
    pub fit: usize,
    /// As many as the rules take to run at once when they divide a sum.
    pub assumed: usize,
}

impl Cuda {
    /// The occupancy of all GEMM kernels, which are the convolutions'. It loads them; where the driver has to compile PTX, that takes a while.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda) where a kernel cannot be loaded.
    pub fn occupancy(&self) -> Result<Vec<Occupancy>> {
        let _turn = self.turn()?;
        let mut all = Vec::new();
        for tile in tiles(self.precision()) {
            for pass in ["fprop", "fprop_parts", "dgrad"] {
                all.push(self.occupancy_of("conv2d", pass, *tile)?);
            }
            all.push(self.occupancy_of("conv2d", "wgrad", tile.grouped())?);
            for pass in ["fprop", "dgrad"] {
                all.push(self.occupancy_of("pointwise", pass, *tile)?);
            }
            all.push(self.occupancy_of("pointwise", "wgrad", tile.grouped())?);
            if tile.aligned {
                all.push(self.occupancy_of("pointwise", "maxpool_fprop", *tile)?);
            }
            if let Some(tall) = tile.tall() {
                for pass in ["fprop", "dgrad"] {
                    all.push(self.occupancy_of("conv2d", pass, *tall)?);
                }
            }
        }
        for tile in WGMMA_TILES.iter().filter(|_| self.limits().warpgroups) {
            for pass in ["fprop", "dgrad", "wgrad"] {
                all.push(self.occupancy_of("conv2d", pass, *tile)?);
            }
        }
        Ok(all)
    }

    fn occupancy_of(&self, op: &'static str, pass: &str, tile: Tile) -> Result<Occupancy> {
        let kernel = format!("{op}_{pass}_{}", tile.name());
        let function = self.shared.kernels.function(op, &kernel, tile.shared())?;
        let threads = (tile.threads() * tile.groups) as i32;
        // SAFETY: the function is of a module that stays loaded.
        let fit = unsafe { result::occupancy::max_active_block_per_multiprocessor(function, threads, tile.shared()) };
        let fit = fit.map_err(CudaError::driver("cuOccupancyMaxActiveBlocksPerMultiprocessor"))?;
        Ok(Occupancy { kernel, fit: fit.max(0) as usize, assumed: tile.blocks_at_once(self.limits().shared_memory) })
    }
}
