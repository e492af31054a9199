//! Softmax cross-entropy on a GPU: one block, a warp to a row. Labels are not checked: a label beyond the classes makes
//! the loss NaN.

use super::{CrossEntropy, Extents};
use crate::Result;
use crate::device::cuda::{Args, Buf, Bytes, Cuda, Geometry};

const WARP: usize = 32;

/// One block, with a warp for each row, up to the 32 warps of a block. A warp takes several rows where there are more.
fn geometry(n: usize) -> Geometry {
    Geometry { grid: [1; 3], block: [WARP * n.clamp(1, 32), 1, 1], shared: 0 }
}

impl CrossEntropy for Cuda {
    fn cross_entropy(
        &self,
        Extents { n, classes, batch }: Extents,
        logits: &Buf,
        labels: &Bytes,
        smoothing: f64,
        dlogits: Option<&mut Buf>,
        meter: &mut Buf,
    ) -> Result<()> {
        let logits = self.operand(logits)?;
        let args = Args::new().address(self.changed(meter)?).optional_output(dlogits).input(&logits).bytes(labels);
        let args = args.int(n).int(classes).int(batch).float(smoothing as f32);
        self.launch("cross_entropy", "cross_entropy", geometry(n), args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_block_for_any_number_of_rows() {
        for (n, block) in [(1, 32), (7, 224), (32, 1024), (128, 1024), (1 << 20, 1024)] {
            assert_eq!(geometry(n), Geometry { grid: [1; 3], block: [block, 1, 1], shared: 0 });
        }
    }
}
