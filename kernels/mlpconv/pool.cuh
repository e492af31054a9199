// The max pool after the block, 3x3 at stride 2, forward and backward: maxpool.cu's results to the bit, while what it
// pools and that tensor's gradient stay in shared memory.
#pragma once

#include "signs.cuh"
#include "convolution.cuh"

constexpr int WINDOW = 3, STRIDE = 2;

// Forward, a block of threads works through bands of an image: pooled rows one below the other, with all the rows of
// pixels that their windows see. `src/ops/mlpconv/pooled.rs` fills it in.
struct Bands {
    // Extents of a pooled image; pooled rows of a band; bands of all images.
    int p, q, rows, bands;
    // Pixels in the ring, in whole rows, and places of 64 bytes in each of its planes.
    int ring, places;
    // By q, bands of an image, the ring's pixels.
    Divisor by_q, by_bands, by_ring;
};

// A tile of a band that begins with pooled row `top`, whose first window begins at pixel `start`.
struct BandTile : PixelTile {
    int top, start;
};

// A block's tiles: its bands' one after the other.
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

// A band's last pixels: those of a tile, and all before it that windows still need. It has whole rows, so that a window's
// three columns are always side by side.
//
// A pixel's three groups of 32 channels lie in planes, at places of 64 bytes, half of the banks. An even pixel and the next
// have places in different halves, and so have pixels two apart, and neighbouring planes: 8 lanes meet no bank twice,
// whether they write 4 chunks of two neighbours or read neighbouring chunks of a line of pooled pixels.
struct Ring {
    unsigned shared;
    const Bands &bands;

    __device__ unsigned at(int slot, int chunk) const {
        const int place = slot ^ (slot >> 1 & 1);
        return shared + (chunk / 4 * bands.places + place) * 64 + chunk % 4 * 16;
    }
    // What is less than twice around the ring.
    __device__ int wrap(unsigned slot) const { return min(slot, slot - bands.ring); }
};

// A block's output on its way through the ring to the pool.
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

    // The band's pooled pixels whose windows end within its first `pixels`.
    __device__ int complete(int pixels) const {
        int column;
        const int row = divide(max(pixels - 1, 0), e.by_q, column);
        const int above = max(row - 1, 0) / STRIDE * ring.bands.q;
        return row >= WINDOW - 1 && row % STRIDE == 0 ? above + column / STRIDE : above;
    }

    // Pools what this tile has made complete, a chunk of 8 channels a thread.
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

    // A rectified value is at least +0 or the one NaN that rounding gives, 0x7fff, so that its bits are ordered as values are. With
    // 8 minus its position in the window below them they are a key whose maximum is the first maximum.
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
        // Of several NaN it is the last that counts.
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

// Backward, the pooled rows whose windows see a tile's pixels are in shared memory: gradients, then positions.
struct PooledRows {
    // Extents of a pooled image, and the rows that there is room for.
    int p, q, rows;
};

// A block's gradient on its way from the pool.
struct PooledGradient {
    const Storage *dy;
    const unsigned char *index;
    unsigned rows;
    const Extents &e;
    const PooledRows &pooled;

    // What comes next begins at 16 bytes.
    __device__ unsigned shared() const { return (length(pooled.rows) * (sizeof(Storage) + 1) + 15) / 16 * 16; }
    __device__ unsigned positions() const { return rows + length(pooled.rows) * sizeof(Storage); }
    __device__ int length(int rows) const { return rows * pooled.q * e.k3; }

    // The first pooled row whose windows see a tile's pixels.
    __device__ int top(const PixelTile &tile) const { return max(tile.p - 1, 0) / STRIDE; }

    // Starts to bring a tile's rows to shared memory.
    __device__ void load(const PixelTile &tile) const {
        const int first = top(tile), end = min(quotient(tile.end - 1, e.by_q) / STRIDE + 1, pooled.p);
        const int from = length(tile.n * pooled.p + first);
        for (int at = thread() * VECTOR; at < length(end - first); at += BLOCK * VECTOR) {
            copy_async(rows + at * sizeof(Storage), dy + from + at, true);
            copy_async8(positions() + at, index + from + at);
        }
    }

    // The sum of the windows over a pixel whose maximum it is, in row-major order.
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
                    // Before the first window these are beyond the last.
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

    // Adds a window's gradient to where its maximum was `here`. The lane's first channel is before the last by `channels`.
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
                    // Bytes of other positions have their first bit set, which then fills halves.
                    const unsigned others = ((word < 2 ? bytes.x : bytes.y) ^ here * 0x01010101) + 0x7f7f7f7f;
                    const unsigned kept = words[word] & ~spread_signs(others, word % 2 == 0 ? 0x9988 : 0xbbaa);
                    sums[group][2 * word] += __uint_as_float(kept << 16);
                    sums[group][2 * word + 1] += __uint_as_float(kept & 0xffff0000);
                }
            }
        }
    }
};
