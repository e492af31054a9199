// The maximum of a window, for each channel of a pack, and where it was.
#pragma once

#include "storage.cuh"

// A window that is known when the kernel is compiled (otherwise WINDOW is 0) unrolls the loops.
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
                // Strictly greater, so that the first of equals stays.
                const bool greater = value[lane] > best[lane] || value[lane] != value[lane];
                best[lane] = greater ? value[lane] : best[lane];
                position[lane] = greater ? i * window + j : position[lane];
            }
        }
    }
}

// The maximum `best` of window x window values, which `read(i, j, value)` has, and the `position` i*window + j of the
// first in row-major order. A NaN counts as the maximum, the last NaN if there are several.
template <int WIDTH, class Read>
__device__ __forceinline__ void maximum(float (&best)[WIDTH], unsigned (&position)[WIDTH], unsigned window, Read read) {
    if (window == 3) {
        find_maximum<WIDTH, 3>(best, position, window, read);
    } else {
        find_maximum<WIDTH, 0>(best, position, window, read);
    }
}
