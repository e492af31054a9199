// The operands of a convolution as sources of the GEMM. There is never a matrix in memory (im2col): a source computes the
// address of the image's element from the matrix's row and column. It divides when the thread begins and goes on by
// additions, from tap to tap of the filter. Wgrad's patches have pixels as their lines and divide for each tile; dgrad with a stride
// divides at each tap, and what is not aligned for each tile.
#pragma once

#include "loader.cuh"

// Extents, in the letters of `ConvShape`, and their divisors. `src/ops/conv2d/cuda.rs` fills it in.
struct Convolution {
    int n, h, w, c, k, r, s, p, q, stride, pad;
    // r·s, r·s·c, r·s·k, n·p·q.
    int filter, taps, gradient_taps, pixels;
    Divisor by_h, by_w, by_c, by_k, by_s, by_p, by_q, by_stride;
    // After space-to-depth (conv2d.cu): the pixels and the elements of a line of a block of pixels; the lines of the original
    // filter, and the elements of a line of it. Otherwise zeros.
    int block, block_line, filter_lines, filter_line;
    Divisor by_block_line;
};

// A of fprop: row = output pixel, column = (r, s, c), from `begin` on. K-major.
template <class Layout, bool ALIGNED>
struct PatchLines {
    const Convolution &g;
    const Storage *x;
    // For each row of the thread, the image's element under the filter's first tap: its index of channel 0 (modulo 2^32, since
    // it may lie in the padding), its row and its column.
    unsigned base[Layout::PASSES];
    int top[Layout::PASSES], left[Layout::PASSES];
    // Column k of the thread's chunk, which is (r, s, c).
    int k, r, s, c;
    // The distance from `base` to tap (r, s), and a bit for each row that is inside of the image there.
    unsigned step, valid;

    __device__ PatchLines(int line, int column, const Convolution &g, const Storage *x, int first, int begin)
        : g(g), x(x), k(begin + column) {
#pragma unroll
        for (int i = 0; i < Layout::PASSES; i++) {
            const int pixel = first + line + i * Layout::PER_PASS;
            int p, q;
            const int row = divide(pixel, g.by_q, q);
            const int n = divide(row, g.by_p, p);
            top[i] = p * g.stride - g.pad;
            left[i] = q * g.stride - g.pad;
            base[i] = ((n * g.h + top[i]) * g.w + left[i]) * g.c;
            // A row beyond the last pixel is never inside of an image.
            if (n >= g.n) top[i] = -0x40000000;
        }
        const int tap = divide(k, g.by_c, c);
        r = divide(tap, g.by_s, s);
        enter();
    }

    __device__ bool inside(int i, int r, int s) const {
        return static_cast<unsigned>(top[i] + r) < static_cast<unsigned>(g.h) &&
               static_cast<unsigned>(left[i] + s) < static_cast<unsigned>(g.w);
    }

    // Goes to tap (r, s).
    __device__ void enter() {
        if constexpr (ALIGNED) {
            step = (r * g.w + s) * g.c;
            valid = 0;
#pragma unroll
            for (int i = 0; i < Layout::PASSES; i++) valid |= (r < g.r && inside(i, r, s)) << i;
        }
    }

    __device__ const Storage *chunk(int i, bool &inside) const {
        inside = valid >> i & 1;
        return x + static_cast<int>(base[i] + step + c);
    }

    struct Column {
        int r, s;
        unsigned step;
        bool inside;
    };
    __device__ bool whole() const { return false; }
    __device__ void prepare() {}
    __device__ Column column(int e) const {
        int s, c;
        const int r = divide(divide(k + e, g.by_c, c), g.by_s, s);
        return {r, s, static_cast<unsigned>((r * g.w + s) * g.c + c), r < g.r};
    }
    __device__ Storage element(int i, Column at) const {
        return at.inside && inside(i, at.r, at.s) ? x[static_cast<int>(base[i] + at.step)] : to_storage(0.0f);
    }

    __device__ void advance() {
        k += TILE_K;
        if constexpr (ALIGNED) {
            c += TILE_K;
            if (c >= g.c) {
                do {
                    c -= g.c;
                    if (++s == g.s) {
                        s = 0;
                        ++r;
                    }
                } while (c >= g.c);
                enter();
            }
        }
    }
};

// A of dgrad: row = input pixel, column = (r, s, k): the gradient of the output pixel whose window has the input pixel at
// (r, s), or 0 where there is none. K-major.
//
// Aligned, a tap begins with a tile: the k of each tap are filled up with zeros to whole tiles, so that all threads go to the
// next tap together, and no line or column of a tile has to look for its own. Where k is no multiple of TILE_K, zeros are
// multiplied: in bf16 three quarters of all at k = 8, and none from 32 to 32.
template <class Layout, bool ALIGNED>
struct GradientLines {
    const Convolution &g;
    const Storage *dy;
    // The thread's first column of the tile: of all columns (not aligned), or of the k of tap (r, s), where the tile begins
    // at `tile`.
    int column_, r = 0, s = 0, tile = 0;
    // For each row of the thread, the input pixel: the output pixels of all images before its own, and its row and column in
    // the padded image.
    struct Pixel {
        int base, h, w;
    };
    Pixel rows[Layout::PASSES];
    // The index of each row's output pixel for (r, s), channel 0, and a bit for each that exists.
    int start[Layout::PASSES];
    unsigned valid;

    __device__ GradientLines(int line, int column, const Convolution &g, const Storage *dy, int first)
        : g(g), dy(dy), column_(column) {
#pragma unroll
        for (int i = 0; i < Layout::PASSES; i++) {
            int h, w;
            const int n = divide(divide(first + line + i * Layout::PER_PASS, g.by_w, w), g.by_h, h);
            // A pixel beyond the last is above every window.
            rows[i] = {n * g.p * g.q, n < g.n ? h + g.pad : -0x40000000, w + g.pad};
        }
        enter();
    }

    // Finds the output pixel whose window has this input pixel at (r, s): `element` is the index of its channel 0.
    __device__ bool find(Pixel of, int r, int s, int &element) const {
        int p = of.h - r, q = of.w - s;
        bool between = p < 0 || q < 0;
        if (g.stride != 1) {
            const int y = p, x = q;
            p = quotient(y, g.by_stride), q = quotient(x, g.by_stride);
            between = between || p * g.stride != y || q * g.stride != x;
        }
        element = (of.base + p * g.q + q) * g.k;
        return !between && p < g.p && q < g.q;
    }

    // Goes to tap (r, s).
    __device__ void enter() {
        if constexpr (ALIGNED) {
            valid = 0;
#pragma unroll
            for (int i = 0; i < Layout::PASSES; i++) valid |= find(rows[i], r, s, start[i]) << i;
        }
    }

    __device__ const Storage *chunk(int i, bool &inside) const {
        inside = valid >> i & 1 && column_ < g.k;
        return dy + start[i] + column_;
    }

    struct Column {
        int r, s, k;
        bool inside;
    };
    __device__ bool whole() const { return false; }
    __device__ void prepare() {}
    __device__ Column column(int e) const {
        int s, k;
        const int r = divide(divide(column_ + e, g.by_k, k), g.by_s, s);
        return {r, s, k, r < g.r};
    }
    __device__ Storage element(int i, Column at) const {
        int element;
        return at.inside && find(rows[i], at.r, at.s, element) ? dy[element + at.k] : to_storage(0.0f);
    }

    __device__ void advance() {
        column_ += TILE_K;
        if constexpr (ALIGNED) {
            tile += TILE_K;
            if (tile >= g.k) {
                column_ -= tile;
                tile = 0;
                if (++s == g.s) {
                    s = 0;
                    ++r;
                }
                enter();
            }
        }
    }
};

// B of dgrad: line = (r, s, k), column = c of the weights w[k][r][s][c]. MN-major. Aligned, a tap begins with a tile, as above.
template <class Layout, bool ALIGNED>
struct FilterColumns {
    const Convolution &g;
    const Storage *w;
    // The thread's first line of the tile: of all lines (not aligned), or of the k of a tap, where the tile begins at `tile`; its
    // first element is at w.
    int line, tile = 0, left;

    __device__ FilterColumns(int line, int column, const Convolution &g, const Storage *w, int first)
        : g(g), w(w + first + column + (ALIGNED ? line * g.taps : 0)), line(line), left(g.c - first - column) {}

    __device__ const Storage *at(int i, bool &inside) const {
        if constexpr (ALIGNED) {
            inside = line + i * Layout::PER_PASS < g.k;
            return w + i * Layout::PER_PASS * g.taps;
        } else {
            int k;
            const int tap = divide(line + i * Layout::PER_PASS, g.by_k, k);
            inside = tap < g.filter;
            return w + (k * g.filter + tap) * g.c;
        }
    }
    __device__ const Storage *chunk(int i, bool &inside) const {
        const Storage *from = at(i, inside);
        inside = inside && left > 0;
        return from;
    }

    struct Column {
        int e;
        bool inside;
    };
    __device__ bool whole() const { return g.c % VECTOR == 0; }
    __device__ void prepare() {}
    __device__ Column column(int e) const { return {e, e < left}; }
    __device__ Storage element(int i, Column column) const {
        bool inside;
        const Storage *from = at(i, inside);
        return inside && column.inside ? from[column.e] : to_storage(0.0f);
    }

    __device__ void advance() {
        line += TILE_K;
        if constexpr (ALIGNED) {
            w += TILE_K * g.taps;
            tile += TILE_K;
            if (tile >= g.k) {
                w += g.c - static_cast<ptrdiff_t>(tile) * g.taps;
                line -= tile;
                tile = 0;
            }
        }
    }
};

// B of wgrad: line = output pixel, of [begin, end), column = (r, s, c). MN-major.
template <class Layout, bool ALIGNED>
struct PatchColumns {
    const Convolution &g;
    const Storage *x;
    int pixel, end;
    // Aligned: `tap` is the tap of the thread's chunk, r in the upper half and s in the lower, and `step` its distance from the
    // window's first element. Otherwise: `step` is the chunk's first column.
    int tap, step;
    // Aligned: the window of this lane's pixel, one of the tile's lines. `corner` has its first row (-2^15 beyond the
    // last pixel) in the upper half and its first column in the lower, `start` its first element. Lanes exchange these by
    // shuffles, which cost less than divisions for each chunk. (Launches take this kernel only for padded images of fewer
    // than 2^15 rows and columns.)
    int corner, start;
    // Otherwise: the windows of all lines of the thread.
    int base[ALIGNED ? 1 : Layout::PASSES], top[ALIGNED ? 1 : Layout::PASSES], left[ALIGNED ? 1 : Layout::PASSES];

    __device__ PatchColumns(int line, int column, const Convolution &g, const Storage *x, int first, int begin, int end)
        : g(g), x(x), end(end) {
        if constexpr (ALIGNED) {
            static_assert(32 % TILE_K == 0, "a lane for each line");
            pixel = begin + threadIdx.x % TILE_K;
            int s, c;
            const int r = divide(divide(first + column, g.by_c, c), g.by_s, s);
            // A column beyond the last is below every image.
            tap = r < g.r ? r << 16 | s : 0x7fff0000;
            step = (r * g.w + s) * g.c + c;
        } else {
            pixel = begin + line;
            step = first + column;
        }
    }

    // The window of an output pixel: the rows of all images before its own, and its first row and column in the image.
    __device__ void window(int pixel, int &base, int &top, int &left) const {
        int p, q;
        const int n = divide(divide(pixel, g.by_q, q), g.by_p, p);
        base = n * g.h;
        top = p * g.stride - g.pad;
        left = q * g.stride - g.pad;
    }

    __device__ bool inside(int h, int w) const {
        return static_cast<unsigned>(h) < static_cast<unsigned>(g.h) &&
               static_cast<unsigned>(w) < static_cast<unsigned>(g.w);
    }

    struct Column {
        int r, s, c;
        bool inside;
    };
    __device__ bool whole() const { return g.c % VECTOR == 0; }
    __device__ void prepare() {
        if constexpr (ALIGNED) {
            int base, top, left;
            window(pixel, base, top, left);
            corner = pixel < end ? top << 16 | (left & 0xffff) : 0x80000000;
            start = ((base + top) * g.w + left) * g.c;
        } else {
#pragma unroll
            for (int i = 0; i < Layout::PASSES; i++) {
                window(pixel + i * Layout::PER_PASS, base[i], top[i], left[i]);
            }
        }
    }
    __device__ const Storage *chunk(int i, bool &inside) const {
        if constexpr (ALIGNED) {
            const int lane = threadIdx.x / Layout::CHUNKS + i * Layout::PER_PASS;
            const int corner = __shfl_sync(0xffffffff, this->corner, lane);
            const int start = __shfl_sync(0xffffffff, this->start, lane);
            inside = this->inside((corner >> 16) + (tap >> 16), static_cast<short>(corner) + (tap & 0xffff));
            return x + (start + step);
        } else {
            // Where channels are whole chunks, a chunk lies within a tap.
            const Column at = column(0);
            const int h = top[i] + at.r, w = left[i] + at.s;
            inside = at.inside && pixel + i * Layout::PER_PASS < end && this->inside(h, w);
            return x + (((base[i] + h) * g.w + w) * g.c + at.c);
        }
    }

    __device__ Column column(int e) const {
        int s, c;
        const int r = divide(divide(step + e, g.by_c, c), g.by_s, s);
        return {r, s, c, r < g.r};
    }
    __device__ Storage element(int i, Column at) const {
        const int h = top[i] + at.r, w = left[i] + at.s;
        return at.inside && pixel + i * Layout::PER_PASS < end && inside(h, w)
                   ? x[((base[i] + h) * g.w + w) * g.c + at.c]
                   : to_storage(0.0f);
    }

    __device__ void advance() { pixel += TILE_K; }
};
