// The blocks' tiles: their extents, and how an operand's tile lies in shared memory.
#pragma once

#include "memory.cuh"

// Elements of the GEMM's K that a tile spans: 64 bytes of them.
constexpr int TILE_K = TILE_BYTES / sizeof(Storage);
static_assert(TILE_BYTES == 64, "a line of K-major tiles is four chunks");

// A block computes M x N of the product, each of its warps WARP_M x WARP_N. STAGES tiles of both operands are in shared
// memory. An ALIGNED tile is copied in 16-byte chunks, which all extents along memory then have to be multiples of; one
// that is not takes any extents, element by element. `src/device/cuda/tiles.rs` lists those that there are.
//
// A block may have GROUPS of BLOCK threads (threadIdx.y): each has stages and sums of its own and multiplies its own tiles of
// k; in the end their sums are added up.
template <int M_, int N_, int WARP_M_, int WARP_N_, int STAGES_, bool ALIGNED_, int GROUPS_ = 1>
struct Tile {
    static constexpr int M = M_, N = N_, WARP_M = WARP_M_, WARP_N = WARP_N_, STAGES = STAGES_;
    static constexpr bool ALIGNED = ALIGNED_;
    static constexpr int GROUPS = GROUPS_;
    static constexpr int WARPS_M = M / WARP_M, WARPS_N = N / WARP_N, BLOCK = 32 * WARPS_M * WARPS_N;
    static constexpr int STAGE_BYTES = STAGES * (M + N) * TILE_BYTES, SLICE_BYTES = BLOCK / 32 * 16 * (WARP_N + 8) * 4;
    static constexpr int SHARED_BYTES = STAGE_BYTES > SLICE_BYTES ? STAGE_BYTES : SLICE_BYTES;
    static_assert(M % WARP_M == 0 && N % WARP_N == 0 && STAGES >= 2, "warps fill the tile");
    using Grouped = Tile<M, N, WARP_M, WARP_N, STAGES, ALIGNED, WGRAD_GROUPS>;

    // This thread's group. Taken from the first lane, so that the compiler knows it to be that of the whole warp, and where it
    // leads to, too.
    __device__ static unsigned group() { return GROUPS == 1 ? 0 : __shfl_sync(0xffffffff, threadIdx.y, 0); }
    // Waits for the other threads of the group: groups go at their own pace.
    __device__ static void synchronize() {
        if constexpr (GROUPS == 1) {
            __syncthreads();
        } else {
            asm volatile("bar.sync %0, %1;\n" ::"r"(threadIdx.y + 1), "n"(BLOCK) : "memory");
        }
    }
    // Where the group has its stages, of the block's shared memory.
    __device__ static unsigned stages(unsigned shared) { return shared + group() * SHARED_BYTES; }
};

// Which of a tile's extents is contiguous in memory. K_MAJOR: lines are rows of A or B (m or n), each 64 bytes of k.
// MN_MAJOR: lines are steps of k, each EXTENT elements of m or n.
enum class Major { K, MN };

// How a tile of EXTENT x TILE_K lies in shared memory: lines of 16-byte chunks, each line's chunks permuted so that
// neither the copies nor the warps' reads meet in a bank. A thread takes chunk `thread % CHUNKS` of every PER_PASS-th
// line.
template <Major MAJOR, int EXTENT, int BLOCK>
struct Layout {
    static constexpr int CHUNKS = MAJOR == Major::K ? 4 : EXTENT / VECTOR;
    static constexpr int LINES = MAJOR == Major::K ? EXTENT : TILE_K;
    static constexpr int PITCH = CHUNKS * 16;
    static constexpr int BYTES = LINES * PITCH;

    // A power of two, so that the permutation is the same in all of a thread's lines.
    static constexpr int per_pass() {
        int lines = 1;
        while (2 * lines * CHUNKS <= BLOCK && 2 * lines <= LINES) lines *= 2;
        return lines;
    }
    static constexpr int PER_PASS = per_pass();
    static constexpr int PASSES = (LINES + PER_PASS - 1) / PER_PASS;
    static constexpr int STEP = PER_PASS * PITCH;
    // Fewer threads than there are may do.
    static constexpr int ACTIVE = PER_PASS * CHUNKS;
    __device__ static bool active() { return ACTIVE == BLOCK || threadIdx.x < ACTIVE; }
    static_assert(LINES % PER_PASS == 0, "passes fill the tile");

    // Which permutation of a line's chunks: of four lines of pairs of 64-byte lines, of eight lines, of four lines by
    // twos, or none.
    static constexpr bool PAIRS = MAJOR == Major::K || (PRECISION == 2 && CHUNKS % 8 == 4);
    static constexpr bool EIGHTS = !PAIRS && PRECISION == 2;
    static constexpr bool FOURS = !PAIRS && PRECISION == 1;
    static_assert(PAIRS || PRECISION == 0 || CHUNKS % 8 == 0, "lines of whole rounds over the banks");
    static constexpr int PERIOD = PAIRS || EIGHTS ? 8 : FOURS ? 4 : 1;
    static_assert(PER_PASS % PERIOD == 0, "a thread's lines are permuted alike");

    __device__ static int swizzle(int line, int chunk) {
        // `ldmatrix` reads a chunk of each of eight lines. Two lines of 64 bytes (or of 64 bytes more than a multiple
        // of 128) go once over the banks.
        if constexpr (PAIRS) return chunk ^ ((line >> 1) & 3);
        // The same where each line begins at the same bank.
        if constexpr (EIGHTS) return chunk ^ (line & 7);
        // A warp reads eight neighbouring floats of each of four lines.
        if constexpr (FOURS) return chunk ^ ((line & 3) << 1);
        // A warp reads within one line.
        return chunk;
    }

    __device__ static int offset(int line, int chunk) { return line * PITCH + swizzle(line, chunk) * 16; }
};
