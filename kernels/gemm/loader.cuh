// Loading: global memory to a tile in shared memory. A `Source` maps a tile's lines and columns to addresses in global
// memory and tells which of them are outside. A `Loader` copies them, in 16-byte chunks or element by element.
#pragma once

#include "tile.cuh"

// 16 bytes of elements in registers.
union Chunk {
    uint4 bits;
    unsigned words[4];
#if PRECISION == 2
    __device__ Chunk() : bits() {}
    __device__ void set(int i, Storage value) {
        const unsigned half = __bfloat16_as_ushort(value);
        words[i / 2] = i % 2 == 0 ? half : words[i / 2] | half << 16;
    }
#else
    __device__ Chunk() : bits() {}
    __device__ void set(int i, Storage value) { words[i] = __float_as_uint(value); }
#endif
};

template <class Layout, class Source>
struct Loader {
    Source source;
    // The offset of this thread's first chunk in a stage.
    unsigned to;

    template <class... Arguments>
    __device__ Loader(unsigned operand, const Arguments &...arguments)
        : source(threadIdx.x / Layout::CHUNKS, threadIdx.x % Layout::CHUNKS * VECTOR, arguments...),
          to(operand + Layout::offset(threadIdx.x / Layout::CHUNKS, threadIdx.x % Layout::CHUNKS)) {}

    // Starts the copies of the next tile.
    __device__ void copy(unsigned stage) {
        source.prepare();
        // All lanes of a warp are active, or none is.
        static_assert(Layout::ACTIVE % 32 == 0, "sources may exchange values within a warp");
        if (Layout::active()) {
#pragma unroll
            for (int i = 0; i < Layout::PASSES; i++) {
                bool valid;
                const Storage *from = source.chunk(i, valid);
                copy_async(stage + to + i * Layout::STEP, from, valid);
            }
        }
        source.advance();
    }

    // Reads the next tile, of any extents, to registers: in 16 bytes if the operand's rows are whole chunks.
    __device__ void gather(Chunk (&chunks)[Layout::PASSES]) {
        if (Layout::active()) {
            source.prepare();
            if (source.whole()) {
#pragma unroll
                for (int i = 0; i < Layout::PASSES; i++) {
                    bool valid;
                    const Storage *from = source.chunk(i, valid);
                    chunks[i].bits = valid ? *reinterpret_cast<const uint4 *>(from) : make_uint4(0, 0, 0, 0);
                }
                source.advance();
                return;
            }
#pragma unroll
            for (int e = 0; e < VECTOR; e++) {
                const auto column = source.column(e);
#pragma unroll
                for (int i = 0; i < Layout::PASSES; i++) chunks[i].set(e, source.element(i, column));
            }
        }
        source.advance();
    }

    __device__ void store(unsigned stage, const Chunk (&chunks)[Layout::PASSES]) const {
        if (Layout::active()) {
#pragma unroll
            for (int i = 0; i < Layout::PASSES; i++) store_shared4(stage + to + i * Layout::STEP, chunks[i].bits);
        }
    }
};

// A K-major matrix: its rows are the tile's lines, its columns k. The tile takes rows [first, lines) and columns [begin,
// columns).
template <class Layout>
struct MatrixLines {
    const Storage *pointer;
    unsigned pitch;
    unsigned valid;
    int k, columns;

    __device__ MatrixLines(int line, int column, const Storage *matrix, int first, int lines, int columns,
                           int begin = 0)
        : pointer(matrix + static_cast<size_t>(first + line) * columns + begin + column), pitch(columns), valid(0),
          k(begin + column), columns(columns) {
#pragma unroll
        for (int i = 0; i < Layout::PASSES; i++) valid |= (first + line + i * Layout::PER_PASS < lines) << i;
    }

    __device__ bool whole() const { return columns % VECTOR == 0; }
    __device__ const Storage *at(int i) const {
        return pointer + static_cast<size_t>(i * Layout::PER_PASS) * pitch;
    }
    __device__ const Storage *chunk(int i, bool &inside) const {
        inside = (valid >> i & 1) && k < columns;
        return at(i);
    }

    struct Column {
        int e;
        bool inside;
    };
    __device__ void prepare() {}
    __device__ Column column(int e) const { return {e, k + e < columns}; }
    __device__ Storage element(int i, Column column) const {
        return (valid >> i & 1) && column.inside ? at(i)[column.e] : to_storage(0.0f);
    }

    __device__ void advance() {
        pointer += TILE_K;
        k += TILE_K;
    }
};

// An MN-major matrix: its rows are steps of k and the tile's lines. The tile takes rows [begin, end) and columns [first,
// columns).
template <class Layout>
struct MatrixColumns {
    const Storage *pointer;
    unsigned pitch;
    int k, end, left;

    __device__ MatrixColumns(int line, int column, const Storage *matrix, int first, int columns, int begin, int end)
        : pointer(matrix + static_cast<size_t>(begin + line) * columns + first + column), pitch(columns),
          k(begin + line), end(end), left(columns - first - column) {}

    __device__ bool whole() const { return pitch % VECTOR == 0; }
    __device__ const Storage *at(int i) const {
        return pointer + static_cast<size_t>(i * Layout::PER_PASS) * pitch;
    }
    __device__ bool in_line(int i) const { return k + i * Layout::PER_PASS < end; }
    __device__ const Storage *chunk(int i, bool &inside) const {
        inside = in_line(i) && left > 0;
        return at(i);
    }

    struct Column {
        int e;
        bool inside;
    };
    __device__ void prepare() {}
    __device__ Column column(int e) const { return {e, e < left}; }
    __device__ Storage element(int i, Column column) const {
        return in_line(i) && column.inside ? at(i)[column.e] : to_storage(0.0f);
    }

    __device__ void advance() {
        pointer += static_cast<size_t>(TILE_K) * pitch;
        k += TILE_K;
    }
};
