// Softmax cross-entropy of logits [n, classes], with its gradient.
//
//     meter->loss += sum over rows of -sum over classes of target * ln softmax(logits)
//     meter->hits += rows whose first largest logit is their label's
//     meter->flat += rows whose logits are all equal
//     dlogits      = (softmax(logits) - target) / batch  (overwrites; null: not wanted)
//
// where target = (1 - smoothing) * onehot(labels) + smoothing / classes, and `batch` is n, or more if the rows are a shard of a
// batch. The sums of a shard overwrite those of the meter.
//
// A batch with a logit or a loss that is not finite is left out of the sums, if the meter's policy says so, and `now` tells
// the update to leave the step out (guard.cuh).
//
// There is one block, so that the sums over rows need neither atomics nor a second launch. A warp takes a row, its lanes
// the classes. Each warp adds up its rows in order, and one thread adds up the warps' sums in order.
// Grid: 1. Block: whole warps, up to 32 of them.
//
// A label beyond the classes is never used as an index; the loss is NaN then.
#include "guard.cuh"
#include "storage.cuh"

constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffff;

static __device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL, value, distance);
    return value;
}

extern "C" __global__ void __launch_bounds__(1024)
    cross_entropy(Guard *meter, Storage *dlogits, const Storage *logits, const unsigned char *labels, unsigned n,
                  unsigned classes, unsigned batch, float smoothing) {
    __shared__ float losses[WARP], hits[WARP], flats[WARP];
    __shared__ bool finites[WARP];
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;

    float loss = 0.0f, hit = 0.0f, flat = 0.0f;
    bool whole = true;
    for (unsigned i = warp; i < n; i += warps) {
        const Storage *row = logits + i * classes;
        const unsigned label = labels[i];
        const float first = to_float(row[0]);

        // The first largest logit. No comparison with a NaN is true, so a NaN is never the largest here.
        float largest = -INFINITY;
        unsigned best = 0xffffffff;
        bool equal = true;
        for (unsigned c = lane; c < classes; c += WARP) {
            const float logit = to_float(row[c]);
            equal = equal && logit == first;
            whole = whole && finite(logit);
            if (logit > largest || (logit == largest && c < best)) {
                largest = logit;
                best = c;
            }
        }
#pragma unroll
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            const float other = __shfl_xor_sync(ALL, largest, distance);
            const unsigned position = __shfl_xor_sync(ALL, best, distance);
            if (other > largest || (other == largest && position < best)) {
                largest = other;
                best = position;
            }
        }
        // A NaN in the first place is the largest, as for a search that begins with it.
        if (first != first) {
            largest = first;
            best = 0;
        }
        equal = __all_sync(ALL, equal);

        // Logits are shifted by the largest, so that no exponential overflows. The largest logit's own exponential is 1. It
        // is left out of the sum until the logarithm, so that a loss far below 1 keeps its digits: its addend is 0, or NaN
        // if the logit is infinite.
        float others = 0.0f;
        for (unsigned c = lane; c < classes; c += WARP) {
            const float shifted = to_float(row[c]) - largest;
            others += c == best ? shifted : expf(shifted);
        }
        others = warp_sum(others);
        const float shifted = label < classes ? to_float(row[label]) - largest : NAN;
        loss += log1pf(others) - (1.0f - smoothing) * shifted;
        if (smoothing > 0.0f) {
            float all = 0.0f;
            for (unsigned c = lane; c < classes; c += WARP) all += to_float(row[c]) - largest;
            loss -= smoothing * (warp_sum(all) / float(classes));
        }
        hit += best == label ? 1.0f : 0.0f;
        flat += equal ? 1.0f : 0.0f;

        if (dlogits != nullptr) {
            const float sum = 1.0f + others;
            for (unsigned c = lane; c < classes; c += WARP) {
                const float probability = expf(to_float(row[c]) - largest) / sum;
                const float target = (c == label ? 1.0f - smoothing : 0.0f) + smoothing / float(classes);
                dlogits[i * classes + c] = to_storage((probability - target) / float(batch));
            }
        }
    }

    whole = __all_sync(ALL, whole);
    if (lane == 0) {
        finites[warp] = whole;
        losses[warp] = loss;
        hits[warp] = hit;
        flats[warp] = flat;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (unsigned i = 1; i < warps; i++) {
            loss += losses[i];
            hit += hits[i];
            flat += flats[i];
            whole = whole && finites[i];
        }
        Guard words = *meter;
        if (words.policy == SHARD) {
            words.loss = whole ? loss : NAN;
            words.hits = hit;
            words.flat = flat;
        } else {
            settle(words, loss, hit, flat, float(n), whole);
        }
        *meter = words;
    }
}
