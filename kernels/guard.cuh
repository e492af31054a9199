// The guard of an update: words in device memory by which the loss and the update keep numbers that are not finite out of
// the weights, without the host (src/device/guard.rs, which has the same order).
//
// The loss is computed before the update, and decides whether the whole step is left out: `now`. An update that finds an
// element whose new value is not finite keeps the old one and sets `late`, which the next loss counts. No block reads what
// another block of its launch writes, so results do not depend on timing.
#pragma once

#include <cfloat>

struct Guard {
    // The running loss's sums, and the samples and steps that were left out of them.
    float loss, hits, flat, samples_left_out, steps_left_out;
    float now, late, policy;
};

// What the loss does about a batch that is not finite: nothing, leave it out, leave it and all later ones out.
constexpr float COUNT = 0.0f, STOP = 2.0f;

static __device__ __forceinline__ bool finite(float value) { return fabsf(value) <= FLT_MAX; }
