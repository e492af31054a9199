// The maximum of a pool's window and its position, for each channel of a pack.
#pragma once

#include "storage.cuh"

// WINDOW is the window where the compiler knows it, so that it unrolls the loops; otherwise it is 0.
template <int WIDTH, int WINDOW, class Read>
__device__ __forceinline__ void find_maximum(float (&best)[WIDTH], unsigned (&position)[WIDTH], unsigned known_window,
                                             Read read) {
    const unsigned window = WINDOW ? WINDOW : known_window;
    read(0, 0, best);
#pragma unroll
    for (int lane = 0; lane < WIDTH; lane++) position[lane] = 0;
#pragma unroll(WINDOW ? WINDOW : 1)
    for (unsigned i = 0; i < window; i++) {
#pragma unroll(WINDOW ? WINDOW : 1)
        for (unsigned j = i == 0 ? 1 : 0; j < window; j++) {
            float value[WIDTH];
            read(i, j, value);
#pragma unroll
            for (int lane = 0; lane < WIDTH; lane++) {
                // Strictly greater: of equal values the first stays.
                const bool greater = value[lane] > best[lane] || value[lane] != value[lane];
                best[lane] = greater ? value[lane] : best[lane];
                position[lane] = greater ? i * window + j : position[lane];
            }
        }
    }
}

// Sets `best` to the maximum of the window x window values that `read(i, j, value)` gives, and `position` to i*window + j of
// its first place in row-major order. A NaN counts as the maximum; of several NaNs the last counts.
template <int WIDTH, class Read>
__device__ __forceinline__ void maximum(float (&best)[WIDTH], unsigned (&position)[WIDTH], unsigned window, Read read) {
    if (window == 3) {
        find_maximum<WIDTH, 3>(best, position, window, read);
    } else {
        find_maximum<WIDTH, 0>(best, position, window, read);
    }
}
