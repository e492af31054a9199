//! Descriptions of tensor maps, and a plain walk over the values that a copy of one box moves.

use cudarc::driver::sys::{self, CUresult, CUtensorMapSwizzle};
use virtual_gpu::machine::Machine;
use virtual_gpu::tensor_map::{Allocation, Arguments, TensorMap};

/// The data types, by their number in `CUtensorMapDataType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    U8 = 0,
    U16 = 1,
    U32 = 2,
    I32 = 3,
    U64 = 4,
    I64 = 5,
    F16 = 6,
    F32 = 7,
    F64 = 8,
    Bf16 = 9,
    Tf32 = 11,
}

impl Kind {
    pub fn size(self) -> usize {
        match self {
            Kind::U8 => 1,
            Kind::U16 | Kind::F16 | Kind::Bf16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 | Kind::Tf32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 => 8,
        }
    }
}

/// What one copy moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Boxed {
    Tiled(Vec<u32>),
    Im2col { lower: Vec<i32>, upper: Vec<i32>, channels: u32, pixels: u32 },
}

/// The arguments of `cuTensorMapEncodeTiled` or `cuTensorMapEncodeIm2col`. Dimensions are listed innermost first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    pub kind: Kind,
    pub address: u64,
    pub dims: Vec<u64>,
    /// In bytes, of all dimensions but the first.
    pub strides: Vec<u64>,
    pub boxed: Boxed,
    pub steps: Vec<u32>,
    /// 0: none, 1, 2, 3: 32, 64 and 128 bytes.
    pub swizzle: u32,
}

impl Tensor {
    fn dense(kind: Kind, address: u64, dims: &[u64], boxed: Boxed) -> Tensor {
        let mut strides = Vec::new();
        let mut bytes = kind.size() as u64;
        for dim in &dims[..dims.len() - 1] {
            bytes *= dim;
            strides.push(bytes);
        }
        Tensor { kind, address, dims: dims.into(), strides, boxed, steps: vec![1; dims.len()], swizzle: 0 }
    }

    /// A dense tensor of which boxes are copied.
    pub fn tiled(kind: Kind, address: u64, dims: &[u64], boxed: &[u32]) -> Tensor {
        Self::dense(kind, address, dims, Boxed::Tiled(boxed.into()))
    }

    /// A dense tensor of images of which pixels are copied, with the corners of its box of base pixels.
    pub fn im2col(
        kind: Kind,
        address: u64,
        dims: &[u64],
        (lower, upper): (&[i32], &[i32]),
        (channels, pixels): (u32, u32),
    ) -> Tensor {
        let boxed = Boxed::Im2col { lower: lower.into(), upper: upper.into(), channels, pixels };
        Self::dense(kind, address, dims, boxed)
    }

    /// With a swizzle of 0, 32, 64 or 128 bytes.
    pub fn swizzled(self, bytes: u32) -> Tensor {
        Tensor { swizzle: [0, 32, 64, 128].iter().position(|b| *b == bytes).expect("a swizzle") as u32, ..self }
    }

    pub fn stepped(self, steps: &[u32]) -> Tensor {
        Tensor { steps: steps.into(), ..self }
    }

    /// The values of a copy's box along each dimension; of an im2col copy channels and pixels.
    pub fn extents(&self) -> Vec<usize> {
        match &self.boxed {
            Boxed::Tiled(boxed) => boxed.iter().zip(&self.steps).map(|(b, s)| b.div_ceil(*s) as usize).collect(),
            Boxed::Im2col { channels, pixels, .. } => vec![*channels as usize, *pixels as usize],
        }
    }

    /// The bytes that a copy adds to its mbarrier's count.
    pub fn bytes(&self) -> usize {
        self.extents().iter().product::<usize>() * self.kind.size()
    }

    /// The bytes from one row of the box in shared memory to the next.
    pub fn pitch(&self) -> usize {
        let row = self.extents()[0] * self.kind.size();
        row.max([0, 32, 64, 128][self.swizzle as usize])
    }

    /// The bytes that the box takes in shared memory.
    pub fn room(&self) -> usize {
        self.extents()[1..].iter().product::<usize>() * self.pitch()
    }

    /// Where in shared memory the value `column` of row `row` of the box lies, from an address that is a multiple of 1024.
    pub fn place(&self, row: usize, column: usize) -> usize {
        let at = row * self.pitch() + column * self.kind.size();
        at ^ (at >> 7 & [0, 1, 3, 7][self.swizzle as usize]) << 4
    }

    /// For each value of the box, in order, its place in the tensor in bytes from the start, or `None` outside.
    pub fn walk(&self, start: &[i32], offsets: &[u16]) -> Vec<Option<usize>> {
        match &self.boxed {
            Boxed::Tiled(_) => {
                let extents = self.extents();
                let count = extents.iter().product();
                let value = |mut i: usize| {
                    let mut along = |d: usize| {
                        let at = i64::from(start[d]) + (i % extents[d] * self.steps[d] as usize) as i64;
                        i /= extents[d];
                        at
                    };
                    let at: Vec<i64> = (0..self.dims.len()).map(&mut along).collect();
                    self.at(&at)
                };
                (0..count).map(value).collect()
            }
            Boxed::Im2col { lower, upper, channels, pixels } => {
                let last = self.dims.len() - 1;
                let mut base: Vec<i64> = start.iter().map(|c| i64::from(*c)).collect();
                let mut all = Vec::new();
                for _ in 0..*pixels {
                    for channel in 0..i64::from(*channels) {
                        let mut at = base.clone();
                        at[0] += channel;
                        for d in 1..last {
                            at[d] += i64::from(offsets[d - 1]);
                        }
                        all.push(self.at(&at));
                    }
                    base[last] += 1;
                    for d in 1..last {
                        base[d] += i64::from(self.steps[d]);
                        if base[d] < self.dims[d] as i64 + i64::from(upper[d - 1]) {
                            base[last] -= 1;
                            break;
                        }
                        base[d] = i64::from(lower[d - 1]);
                    }
                }
                all
            }
        }
    }

    fn at(&self, at: &[i64]) -> Option<usize> {
        let inside = at.iter().zip(&self.dims).all(|(at, dim)| (0..*dim as i64).contains(at));
        let strides = std::iter::once(self.kind.size()).chain(self.strides.iter().map(|s| *s as usize));
        inside.then(|| at.iter().zip(strides).map(|(at, stride)| *at as usize * stride).sum())
    }

    /// The map's 128 bytes, encoded by the driver.
    pub fn try_encode(&self) -> Result<[u8; 128], CUresult> {
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let rank = self.dims.len() as u32;
        // SAFETY: each of these enums has all of the values that a `Tensor` is made with.
        let (kind, swizzle) = unsafe {
            let kind: sys::CUtensorMapDataType = std::mem::transmute(self.kind as u32);
            let swizzle: CUtensorMapSwizzle = std::mem::transmute(self.swizzle);
            (kind, swizzle)
        };
        let (address, dims, strides) = (self.address as *mut _, self.dims.as_ptr(), self.strides.as_ptr());
        let steps = self.steps.as_ptr();
        let none = sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE;
        let promotion = sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE;
        let fill = sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
        let result = match &self.boxed {
            Boxed::Tiled(boxed) => unsafe {
                let boxed = boxed.as_ptr();
                sys::cuTensorMapEncodeTiled(
                    &mut map, kind, rank, address, dims, strides, boxed, steps, none, swizzle, promotion, fill,
                )
            },
            Boxed::Im2col { lower, upper, channels, pixels } => unsafe {
                let (lower, upper) = (lower.as_ptr(), upper.as_ptr());
                sys::cuTensorMapEncodeIm2col(
                    &mut map, kind, rank, address, dims, strides, lower, upper, *channels, *pixels, steps, none,
                    swizzle, promotion, fill,
                )
            },
        };
        if result != CUresult::CUDA_SUCCESS {
            return Err(result);
        }
        Ok(bytes(map.opaque))
    }

    /// The map's bytes, encoded without a driver.
    pub fn by_machine(&self, allocation: Option<(u64, usize)>) -> Result<[u8; 128], CUresult> {
        let arguments = Arguments {
            data_type: self.kind as u32,
            address: self.address,
            allocation: allocation.map(|(base, bytes)| Allocation { base, bytes: bytes as u64 }),
            dims: &self.dims,
            strides: &self.strides,
            element_strides: &self.steps,
            interleave: 0,
            swizzle: self.swizzle,
            l2_promotion: 0,
            oob_fill: 0,
        };
        let map = match &self.boxed {
            Boxed::Tiled(boxed) => TensorMap::tiled(&arguments, boxed),
            Boxed::Im2col { lower, upper, channels, pixels } => {
                TensorMap::im2col(&arguments, lower, upper, *channels, *pixels)
            }
        };
        map.map(|map| bytes(map.encode())).map_err(|_| CUresult::CUDA_ERROR_INVALID_VALUE)
    }

    #[track_caller]
    pub fn on(&self, machine: &Machine) -> [u8; 128] {
        self.by_machine(machine.allocation(self.address)).unwrap_or_else(|error| panic!("{error:?}: {self:?}"))
    }

    #[track_caller]
    pub fn encode(&self) -> [u8; 128] {
        self.try_encode().unwrap_or_else(|error| panic!("{error:?}: {self:?}"))
    }
}

fn bytes(words: [u64; 16]) -> [u8; 128] {
    let mut bytes = [0; 128];
    bytes.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
    bytes
}
