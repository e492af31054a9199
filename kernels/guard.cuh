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
    // Steps that were left out because a rank was lost.
    float lost;
};

// What the loss does about a batch that is not finite: nothing, leave it out, leave it and all later ones out. Of a shard it only
// says so, by a loss that is not a number: all shards of the step decide together.
constexpr float COUNT = 0.0f, STOP = 2.0f, SHARD = 3.0f;

static __device__ __forceinline__ bool finite(float value) { return fabsf(value) <= FLT_MAX; }

// Adds the sums of a step of so many samples, or leaves the step out; `whole` if none of its numbers but these may be other than
// finite.
static __device__ __forceinline__ void settle(Guard &words, float loss, float hits, float flat, float samples, bool whole) {
    words.steps_left_out += words.late;
    words.late = 0.0f;
    const bool stopped = words.policy == STOP && words.steps_left_out > 0.0f;
    const bool left_out = words.policy != COUNT && (stopped || !whole || !finite(loss));
    words.now = left_out ? 1.0f : 0.0f;
    if (left_out) {
        words.samples_left_out += samples;
        words.steps_left_out += 1.0f;
    } else {
        words.loss += loss;
        words.hits += hits;
        words.flat += flat;
    }
}
