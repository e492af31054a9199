//! Tensor maps: the description of a tensor in global memory and of the box of it that one TMA copy moves.
//!
//! A map is made from the arguments of `cuTensorMapEncodeTiled` or `cuTensorMapEncodeIm2col` (`check`), travels to the
//! kernel as 128 opaque bytes (`encoding`), and is walked by rows of the box when an instruction copies it (`walk`).
//! Sources of the rules: the comments of cuda.h 13.0, and PTX ISA 9.0, "Tensor tile-mode", "im2col mode", "Swizzling
//! modes". Dimensions are listed innermost first, as in both: 0 is contiguous in memory.

mod check;
mod element;
mod encoding;
mod walk;

pub use check::{Arguments, MAX_RANK, check_rank};
pub use element::Element;

/// The order in which 16-byte chunks of a box lie in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

impl Swizzle {
    /// The width of the lines within which chunks are swapped, in bytes; 0 without a swizzle.
    pub fn width(self) -> usize {
        match self {
            Swizzle::None => 0,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }
}

/// The shared address at which a byte lies whose address without a swizzle is `address`.
///
/// The bits that name the 16-byte chunk are combined with those that count 128-byte lines. Both are bits of the absolute
/// address, so the pattern does not depend on where a box begins.
#[inline]
pub fn swizzle(mode: Swizzle, address: u64) -> u64 {
    let mask = match mode {
        Swizzle::None => 0,
        Swizzle::B32 => 1,
        Swizzle::B64 => 3,
        Swizzle::B128 => 7,
    };
    address ^ (address >> 7 & mask) << 4
}

/// An allocation of device memory. Its base identifies it, because the machine does not use an address twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    pub base: u64,
    pub bytes: u64,
}

/// What one copy moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A box of the tensor: `box_dim[d] / element_strides[d]` elements along dimension `d`, rounded up.
    Tiled { box_dim: [u32; MAX_RANK] },
    /// Pixels of the images, in the order in which a filter's corner visits them. A base pixel stays in the box from
    /// `lower` to the image's last pixel plus `upper`; both list W, H, D.
    Im2col { lower: [i32; 3], upper: [i32; 3], channels_per_pixel: u32, pixels_per_column: u32 },
}

/// A valid tensor map. Entries of dimensions beyond the rank are 1, and 0 for strides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMap {
    element: Element,
    rank: usize,
    address: u64,
    dims: [u64; MAX_RANK],
    /// In bytes; dimension 0's is the size of an element.
    strides: [u64; MAX_RANK],
    /// The step between the elements or the base pixels that are copied; dimension 0's is 1.
    element_strides: [u32; MAX_RANK],
    swizzle: Swizzle,
    mode: Mode,
    allocation: Allocation,
}

impl TensorMap {
    pub fn element(&self) -> Element {
        self.element
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn swizzle(&self) -> Swizzle {
        self.swizzle
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The allocation that held the tensor's address when the map was encoded.
    pub fn allocation(&self) -> Allocation {
        self.allocation
    }

    /// The number of elements that one copy moves along each dimension of a tiled map.
    fn counts(&self, box_dim: [u32; MAX_RANK]) -> [u32; MAX_RANK] {
        std::array::from_fn(|d| box_dim[d].div_ceil(self.element_strides[d]))
    }

    /// The rows of the box, and the elements of each: a row runs along dimension 0.
    fn shape(&self) -> (usize, usize) {
        match self.mode {
            Mode::Tiled { box_dim } => {
                let [row, outer @ ..] = self.counts(box_dim);
                (outer.iter().map(|count| *count as usize).product(), row as usize)
            }
            Mode::Im2col { channels_per_pixel, pixels_per_column, .. } => {
                (pixels_per_column as usize, channels_per_pixel as usize)
            }
        }
    }

    /// The distance of two rows of the box in shared memory. A row narrower than the swizzle's lines gets a whole line.
    pub fn pitch(&self) -> usize {
        (self.shape().1 * self.element.bytes()).max(self.swizzle.width())
    }

    /// The bytes that a copy moves and that its mbarrier counts: the whole box, elements outside of the tensor included,
    /// gaps between narrow rows not included.
    pub fn bytes(&self) -> usize {
        let (rows, row) = self.shape();
        rows * row * self.element.bytes()
    }

    /// The bytes of shared memory that the box spans, gaps included: the swizzle moves chunks within these.
    pub fn extent(&self) -> usize {
        self.shape().0 * self.pitch()
    }
}
