// The tile of a block: its extents, and the layout of an operand's tile in shared memory.
//
// `src/device/cuda/tiles.rs` lists the tiles. Each entry becomes kernels of all passes (a tall one of fprop and dgrad), so a new
// tile, of another M x N, is one line there. `tile` in `src/device/cuda/gemm.rs` chooses by the number of columns, and
// `enlarged` a larger one for long sums; `wgrad_splits` and `fprop_splits` split K. These limits bind a tile:
//
// * Registers. 128 threads of 64 x 64 results have 128 registers for sums and 48 for fragments, and 96 x 48 results take 144 and
//   48. 255 is the most that a thread has, and it lets two blocks share a multiprocessor, or leaves room for one of wgrad's blocks of
//   twice the threads. fp32 has 256 threads of 128 registers. `make sass` fails where ptxas spills (sm_80, 86, 89,
//   90).
// * Shared memory. A multiprocessor of compute capability 8.6 or 8.9 has 100 KiB, of which each block costs one KiB more than
//   it asks for: there is room for 48 KiB twice, or for wgrad's two groups together once.
// * Waste. A tile computes all its columns: 96 suit 96, 192 and 288 channels, 128 suit 256 and 384, 32 suit ten classes.
// * Shared memory's bandwidth. A warp's tile of w_m x w_n reads w_m + w_n lines for w_m · w_n products, so smaller ones are
//   bound by shared memory. Copies write m + n lines there for m · n products, and ask as much of the second-level cache.
#pragma once

#include "memory.cuh"

// Elements of the GEMM's K in a tile: 64 bytes.
constexpr int TILE_K = TILE_BYTES / sizeof(Storage);
static_assert(TILE_BYTES == 64, "a line of K-major tiles is four chunks");

// A block computes M x N of the product, each of its warps WARP_M x WARP_N. STAGES tiles of both operands are in shared
// memory. An ALIGNED tile is copied in 16-byte chunks, and all extents along memory have to be multiples of a chunk. A
// tile that is not aligned takes any extents.
//
// A block may have GROUPS of BLOCK threads each (threadIdx.y; sliced K). A group has stages and sums of its own and multiplies
// its own tiles of k. In the end the groups' sums are added up.
template <int M_, int N_, int WARP_M_, int WARP_N_, int STAGES_, bool ALIGNED_, int GROUPS_ = 1>
struct Tile {
    static constexpr int M = M_, N = N_, WARP_M = WARP_M_, WARP_N = WARP_N_, STAGES = STAGES_;
    static constexpr bool ALIGNED = ALIGNED_;
    static constexpr int GROUPS = GROUPS_;
    static constexpr int WARPS_M = M / WARP_M, WARPS_N = N / WARP_N, BLOCK = 32 * WARPS_M * WARPS_N;
    static constexpr int STAGE_BYTES = STAGES * (M + N) * TILE_BYTES, SLICE_BYTES = BLOCK / 32 * 16 * (WARP_N + 8) * 4;
    static constexpr int SHARED_BYTES = STAGE_BYTES > SLICE_BYTES ? STAGE_BYTES : SLICE_BYTES;
    static_assert(M % WARP_M == 0 && N % WARP_N == 0 && STAGES >= 2, "warps fill the tile");
    // Stages that are read while the others are filled.
    static constexpr int BUSY = 1;
    using Grouped = Tile<M, N, WARP_M, WARP_N, STAGES, ALIGNED, WGRAD_GROUPS>;

    // This thread's group. The shuffle from the first lane tells the compiler that the group is uniform in a warp, and so are
    // addresses and branches that depend on it.
    __device__ static unsigned group() { return GROUPS == 1 ? 0 : __shfl_sync(0xffffffff, threadIdx.y, 0); }
    // A barrier of the group's threads. Groups do not wait for each other.
    __device__ static void synchronize() {
        if constexpr (GROUPS == 1) {
            __syncthreads();
        } else {
            asm volatile("bar.sync %0, %1;\n" ::"r"(threadIdx.y + 1), "n"(BLOCK) : "memory");
        }
    }
    // The first row of the tile in slice i, of 16 rows, of a warp's results.
    __device__ static int slice_row(int warp, int i) { return warp / WARPS_N * WARP_M + 16 * i; }
    // The address of the group's stages in the block's shared memory.
    __device__ static unsigned stages(unsigned shared) { return shared + group() * SHARED_BYTES; }
};

// The extent of an operand that is contiguous in memory. K (K-major): a line of the tile is a row of A or B (m or n), 64 bytes
// of k. MN (MN-major): a line is a step of k, EXTENT elements of m or n.
enum class Major { K, MN };

// The layout of a tile of EXTENT x TILE_K in shared memory: lines of 16-byte chunks. The chunks of a line are permuted
// (swizzled) so that neither the copies nor the warps' reads have bank conflicts. A thread copies chunk `thread % CHUNKS` of
// every PER_PASS-th line.
template <Major MAJOR, int EXTENT, int BLOCK>
struct Layout {
    static constexpr int CHUNKS = MAJOR == Major::K ? 4 : EXTENT / VECTOR;
    static constexpr int LINES = MAJOR == Major::K ? EXTENT : TILE_K;
    static constexpr int PITCH = CHUNKS * 16;
    static constexpr int BYTES = LINES * PITCH;

    // Lines that all threads copy in a pass: a power of two, so that the swizzle is the same in all lines of a thread.
    static constexpr int per_pass() {
        int lines = 1;
        while (2 * lines * CHUNKS <= BLOCK && LINES % (2 * lines) == 0) lines *= 2;
        return lines;
    }
    static constexpr int PER_PASS = per_pass();
    static constexpr int PASSES = (LINES + PER_PASS - 1) / PER_PASS;
    static constexpr int STEP = PER_PASS * PITCH;
    // Threads that copy; the others of the block have no chunk.
    static constexpr int ACTIVE = PER_PASS * CHUNKS;
    __device__ static bool active() { return ACTIVE == BLOCK || threadIdx.x < ACTIVE; }
    static_assert(LINES % PER_PASS == 0, "passes fill the tile");

    // The swizzle of a line's chunks. PAIRS: it changes with every second line and repeats after eight. EIGHTS: it changes with
    // every line and repeats after eight. FOURS: it changes with every line, moves chunks by twos, and repeats after
    // four. Otherwise there is none.
    static constexpr bool PAIRS = MAJOR == Major::K || (PRECISION == 2 && CHUNKS % 8 == 4);
    static constexpr bool EIGHTS = !PAIRS && PRECISION == 2;
    static constexpr bool FOURS = !PAIRS && PRECISION == 1;
    static_assert(PAIRS || PRECISION == 0 || CHUNKS % 8 == 0, "lines of whole rounds over the banks");
    static constexpr int PERIOD = PAIRS || EIGHTS ? 8 : FOURS ? 4 : 1;
    static_assert(PER_PASS % PERIOD == 0, "a thread's lines are permuted alike");

    __device__ static int swizzle(int line, int chunk) {
        // `ldmatrix` reads a chunk of each of eight lines. Two lines of 64 bytes (or of 64 bytes more than a multiple of 128)
        // fill the banks once.
        if constexpr (PAIRS) return chunk ^ ((line >> 1) & 3);
        // `ldmatrix` again, of lines that all begin at the same bank.
        if constexpr (EIGHTS) return chunk ^ (line & 7);
        // A warp reads eight neighbouring floats of each of four lines.
        if constexpr (FOURS) return chunk ^ ((line & 3) << 1);
        // A warp reads within one line.
        return chunk;
    }

    __device__ static int offset(int line, int chunk) { return line * PITCH + swizzle(line, chunk) * 16; }
};
