// The max pool after the fused block, 3x3 at stride 2, forward and backward. Results have the bits of maxpool.cu. The
// pool's input and the gradient of that stay in shared memory.
//
// Forward, a block of threads takes an image, or a band of its pooled rows where there are fewer images than multiprocessors
// (`Bands` in `src/ops/mlpconv/bands.rs` has the rule). The pixels of a tile go to a ring in shared memory. It keeps the
// earlier pixels that windows still need, and all windows that end in the tile are pooled then. The warps go on to the next
// tile's convolution, on the tensor cores, without waiting for each other.
//
// Backward, the pooled rows whose windows cover a tile are copied to shared memory like the image's rows. Each lane adds
// up, for its two pixels, the gradients of the up to four windows whose maximum they are.
#pragma once

#include "signs.cuh"
#include "convolution.cuh"

constexpr int WINDOW = 3, STRIDE = 2;

// The division of images into bands: consecutive pooled rows, with all rows of pixels under their windows.
// `src/ops/mlpconv/bands.rs` fills it in.
struct Bands {
    // p, q: extents of a pooled image. rows: pooled rows of a band. bands: those of all images.
    int p, q, rows, bands;
    // ring: pixels in the ring, in whole rows. places: places of 64 bytes in each of its planes.
    int ring, places;
    // Divisors: q, bands of an image, the ring's pixels.
    Divisor by_q, by_bands, by_ring;
};

// A tile of a band. The band begins with pooled row `top`, whose first window begins at pixel `start`.
struct BandTile : PixelTile {
    int top, start;
};

// The tiles of a block: those of its bands, one band after the other.
struct BandTiles {
    const Extents &e;
    const Bands &bands;
    int band, n, top, start, end, first;

    __device__ BandTiles(const Extents &e, const Bands &bands) : e(e), bands(bands), band(blockIdx.x) { enter(); }
    __device__ void enter() {
        int of_image;
        n = divide(band, bands.by_bands, of_image);
        top = of_image * bands.rows;
        start = first = top * STRIDE * e.q;
        end = ((min(top + bands.rows, bands.p) - 1) * STRIDE + WINDOW) * e.q;
    }
    __device__ bool more() const { return band < bands.bands; }
    __device__ void next() {
        first += FPROP_PIXELS;
        if (first >= end) {
            band += gridDim.x;
            enter();
        }
    }
    __device__ BandTile operator*() const {
        return {{n, first, min(first + FPROP_PIXELS, end), quotient(first, e.by_q)}, top, start};
    }
};

// The ring of a band's last pixels: those of the tile, and all earlier ones that windows still need. It holds whole rows,
// so that the three columns of a window are always neighbours.
//
// The three groups of 32 channels of a pixel lie in planes, in places of 64 bytes, half of the banks. An even pixel and
// the next have places in different halves; so have pixels two apart, and neighbouring planes. So 8 lanes have no bank
// conflict, whether they write 4 chunks of two neighbours or read neighbouring chunks of a line of pooled pixels.
struct Ring {
    unsigned shared;
    const Bands &bands;

    __device__ unsigned at(int slot, int chunk) const {
        const int place = slot ^ (slot >> 1 & 1);
        return shared + (chunk / 4 * bands.places + place) * 64 + chunk % 4 * 16;
    }
    // A slot below twice the ring's pixels, modulo those pixels.
    __device__ int wrap(unsigned slot) const { return min(slot, slot - bands.ring); }
};

// The output of a block with a pool: through the ring to the pooled tensor.
struct PooledOutput {
    Rectified y;
    unsigned char *index;
    Ring ring;
    const Extents &e;

    __device__ unsigned shared() const { return GROUPS * ring.bands.places * 64; }

    __device__ void put(const Values<FPROP_ROWS> &values, const BandTile &tile, int first) const {
        int slot;
        divide(tile.first - tile.start, ring.bands.by_ring, slot);
        const int lane = thread() % 32;
#pragma unroll
        for (int i = 0; i < FPROP_ROWS; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int pixel = first + 16 * i + 8 * half + lane / 4;
                if (pixel < tile.end) {
                    const int to = ring.wrap(slot + pixel - tile.first);
#pragma unroll
                    for (int group = 0; group < GROUPS; group++) {
                        store_shared4(ring.at(to, 4 * group + lane % 4), values.chunk(i, group, half));
                    }
                }
            }
        }
    }

    // The number of the band's pooled pixels whose windows end within its first `pixels` pixels.
    __device__ int complete(int pixels) const {
        int column;
        const int row = divide(max(pixels - 1, 0), e.by_q, column);
        const int above = max(row - 1, 0) / STRIDE * ring.bands.q;
        return row >= WINDOW - 1 && row % STRIDE == 0 ? above + column / STRIDE : above;
    }

    // Pools the windows that end in this tile: a thread takes a chunk of 8 channels.
    __device__ void finish(const BandTile &tile) const {
        constexpr int CHUNKS = CHANNELS / VECTOR;
        const int begin = complete(tile.first - tile.start), end = complete(tile.end - tile.start);
        const int line = (tile.n * ring.bands.p + tile.top) * ring.bands.q;
#pragma unroll 1
        for (int at = begin * CHUNKS + thread(); at < end * CHUNKS; at += BLOCK) {
            const int pixel = at / CHUNKS, chunk = at % CHUNKS, to = (line + pixel) * e.k3 + chunk * VECTOR;
            if (chunk * VECTOR < e.k3) pool(to, pixel, chunk);
        }
    }

    // Pools one chunk by integer maxima. A rectified value is at least +0, or 0x7fff, the only NaN that rounding gives,
    // so its bits are ordered as values are. A key has these bits above 8 minus the position in the window: the maximal
    // key is the first maximum.
    __device__ void pool(int to, int pixel, int chunk) const {
        int q, corner;
        const int p = divide(pixel, ring.bands.by_q, q);
        divide((p * e.q + q) * STRIDE, ring.bands.by_ring, corner);
        unsigned keys[VECTOR];
#pragma unroll
        for (int i = 0; i < WINDOW; i++) {
            const int row = ring.wrap(i == 0 ? corner : corner + i * e.q);
#pragma unroll
            for (int j = 0; j < WINDOW; j++) {
                const unsigned last = WINDOW * WINDOW - 1, code = last - (i * WINDOW + j);
                const uint4 chunks = load_chunk(ring.at(row + j, chunk));
                const unsigned words[4] = {chunks.x, chunks.y, chunks.z, chunks.w};
#pragma unroll
                for (int word = 0; word < 4; word++) {
                    const unsigned low = __byte_perm(words[word], code, 0x1054);
                    const unsigned high = __byte_perm(words[word], code, 0x3254);
                    keys[2 * word] = code == last ? low : max(keys[2 * word], low);
                    keys[2 * word + 1] = code == last ? high : max(keys[2 * word + 1], high);
                }
            }
        }
        // Of several NaNs the last counts.
        const auto nan = [](unsigned key) { return key >= 0x7fff0000; };
        bool any = false;
#pragma unroll
        for (int i = 0; i < VECTOR; i++) any |= nan(keys[i]);
        if (any) {
#pragma unroll 1
            for (int code = WINDOW * WINDOW - 1; code >= 0; code--) {
                const int position = WINDOW * WINDOW - 1 - code;
                const int row = ring.wrap(corner + position / WINDOW * e.q);
                const uint4 chunks = load_chunk(ring.at(row + position % WINDOW, chunk));
                const unsigned words[4] = {chunks.x, chunks.y, chunks.z, chunks.w};
#pragma unroll
                for (int i = 0; i < VECTOR; i++) {
                    const unsigned key = (i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000) | code;
                    if (nan(key)) keys[i] = key;
                }
            }
        }
        unsigned values[4], positions[2];
#pragma unroll
        for (int i = 0; i < 4; i++) values[i] = __byte_perm(keys[2 * i], keys[2 * i + 1], 0x7632);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned low = __byte_perm(keys[4 * i], keys[4 * i + 1], 0x0040);
            const unsigned high = __byte_perm(keys[4 * i + 2], keys[4 * i + 3], 0x0040);
            positions[i] = 0x08080808 - __byte_perm(low, high, 0x5410);
        }
        *reinterpret_cast<uint4 *>(y.values + to) = make_uint4(values[0], values[1], values[2], values[3]);
        if (y.signs != nullptr) {
            unsigned bits = 0;
            // Neither 0 nor NaN.
#pragma unroll
            for (int i = 0; i < VECTOR; i++) bits |= (keys[i] >> 16) - 1 < 0x7f80 ? 1u << i : 0u;
            y.signs[to / VECTOR] = static_cast<unsigned char>(bits);
        }
        if (index != nullptr) *reinterpret_cast<uint2 *>(index + to) = make_uint2(positions[0], positions[1]);
    }
};

// The pooled rows in shared memory in the backward pass, those whose windows cover a tile's pixels: gradients, then positions.
struct PooledRows {
    // p, q: extents of a pooled image. rows: the rows that fit shared memory.
    int p, q, rows;
};

// The output's gradient with a pool: gathered from the pooled rows.
struct PooledGradient {
    const Storage *dy;
    const unsigned char *index;
    unsigned rows;
    const Extents &e;
    const PooledRows &pooled;

    // The bytes of the rows, a multiple of 16.
    __device__ unsigned shared() const { return (length(pooled.rows) * (sizeof(Storage) + 1) + 15) / 16 * 16; }
    __device__ unsigned positions() const { return rows + length(pooled.rows) * sizeof(Storage); }
    __device__ int length(int rows) const { return rows * pooled.q * e.k3; }

    // The first pooled row whose windows cover a tile's pixels.
    __device__ int top(const PixelTile &tile) const { return max(tile.p - 1, 0) / STRIDE; }

    // Starts the copies of a tile's pooled rows to shared memory.
    __device__ void load(const PixelTile &tile) const {
        const int first = top(tile), end = min(quotient(tile.end - 1, e.by_q) / STRIDE + 1, pooled.p);
        const int from = length(tile.n * pooled.p + first);
        for (int at = thread() * VECTOR; at < length(end - first); at += BLOCK * VECTOR) {
            copy_async(rows + at * sizeof(Storage), dy + from + at, true);
            copy_async8(positions() + at, index + from + at);
        }
    }

    // The gradient of a pixel: the sum over the windows whose maximum it is, in row-major order.
    __device__ void get(Values<1> &to, const PixelTile &tile, int first) const {
        const int lane = thread() % 32, channel = lane % 4 * VECTOR;
        const unsigned bytes = positions();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int pixel = first + 8 * half + lane / 4;
            int w;
            const int h = divide(pixel, e.by_q, w);
            float sums[GROUPS][VECTOR];
#pragma unroll
            for (int i = 0; i < GROUPS * VECTOR; i++) sums[i / VECTOR][i % VECTOR] = 0.0f;
#pragma unroll
            for (int up = 1; up >= 0; up--) {
#pragma unroll
                for (int left = 1; left >= 0; left--) {
                    const int p = h / STRIDE - up, q = w / STRIDE - left, i = h - p * STRIDE, j = w - q * STRIDE;
                    // Unsigned: an index before the first window wraps around and is beyond the last.
                    const bool inside = static_cast<unsigned>(p) < static_cast<unsigned>(pooled.p) &&
                                        static_cast<unsigned>(q) < static_cast<unsigned>(pooled.q);
                    if (pixel < tile.end && inside && i < WINDOW && j < WINDOW) {
                        const int from = ((p - top(tile)) * pooled.q + q) * e.k3 + channel;
                        add(sums, rows + from * sizeof(Storage), bytes + from, e.k3 - channel, i * WINDOW + j);
                    }
                }
            }
#pragma unroll
            for (int group = 0; group < GROUPS; group++) {
                const float(&sum)[VECTOR] = sums[group];
                to.set_chunk(0, group, half, make_uint4(pack(sum[0], sum[1]), pack(sum[2], sum[3]),
                                                        pack(sum[4], sum[5]), pack(sum[6], sum[7])));
            }
        }
    }

    // Adds a window's gradient in the channels whose maximum was at position `here`. `channels` are left from the lane's
    // first on.
    static __device__ void add(float (&sums)[GROUPS][VECTOR], unsigned from, unsigned positions, int channels,
                               int here) {
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            if (32 * group < channels) {
                const uint4 gradients = load_chunk(from + 32 * group * sizeof(Storage));
                const uint2 bytes = load_half_chunk(positions + 32 * group);
                const unsigned words[4] = {gradients.x, gradients.y, gradients.z, gradients.w};
#pragma unroll
                for (int word = 0; word < 4; word++) {
                    // Bytes of other positions get their first bit set, and the spread bit clears the gradient.
                    const unsigned others = ((word < 2 ? bytes.x : bytes.y) ^ here * 0x01010101) + 0x7f7f7f7f;
                    const unsigned kept = words[word] & ~spread_signs(others, word % 2 == 0 ? 0x9988 : 0xbbaa);
                    sums[group][2 * word] += __uint_as_float(kept << 16);
                    sums[group][2 * word + 1] += __uint_as_float(kept & 0xffff0000);
                }
            }
        }
    }
};
