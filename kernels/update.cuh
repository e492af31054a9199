// What optimisers' kernels share: one launch updates many parameters, each by its gradient and with the tensors that the
// optimiser keeps for it. A rule says what becomes of an element, given its gradient and its states:
//
//     rule(param, grad, state)      param and state[0 .. STATES] are replaced
//
// No number that is not finite is written. An element whose new value or new state would not be finite keeps its old ones, and
// the guard is told; a step that the guard leaves out writes nothing (guard.cuh).
//
// Everything is overwritten in place but the gradients, which are only read: those that lie in parts are added up here, so
// that no pass of their own does it. A parameter's copy as activations are stored, if it has one, becomes the new value, rounded.
//
// Grid: for each item as many blocks as `sum` has, one item after the other; of threads that share four elements, one
// updates them. Block: THREADS. The table travels with the arguments (4 KB at most).
#pragma once

#include "guard.cuh"
#include "parts.cuh"
#include "storage.cuh"

template <int STATES>
struct Item {
    float *param;
    const float *grad;
    // Of the parameter's shape; all null if the rule keeps none.
    float *state[STATES];
    // Null for none.
    Storage *copy;
    unsigned len;
    float rate_multiplier;
    // The blocks of all items before this one.
    unsigned first_block;
    // Those of the gradient, one if it lies in one piece, and from one to the next.
    unsigned parts, stride;
    float decay_multiplier;
};

template <int STATES, int ITEMS>
struct Table {
    static_assert(sizeof(Item<STATES>) == 48 + 8 * STATES, "as src/ops/update.rs lays it out");
    static_assert(sizeof(Item<STATES>) * ITEMS <= 4000, "the arguments of a launch");
    Item<STATES> item[ITEMS];
};

// The item of this block: the last that begins at or before it.
template <int STATES, int ITEMS>
static __device__ __forceinline__ const Item<STATES> &own_item(const Table<STATES, ITEMS> &table, unsigned items) {
    unsigned low = 0, high = items;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        if (table.item[middle].first_block <= blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return table.item[low];
}

// This block's share of an item; `guard` may be null. All threads of the block call this. `make_rule` gives the rule once the
// gradient is there: its numbers take no registers before.
template <int STATES, typename MakeRule>
static __device__ __forceinline__ void update(const Item<STATES> &item, Guard *guard, const MakeRule &make_rule) {
    const Parts parts{item.grad, item.stride, item.parts};
    const Share share(parts, blockIdx.x - item.first_block, item.len);
    float *param = item.param + share.at;
    const bool kept = item.state[0] != nullptr;
    // On their way while the gradient is added up.
    float4 w, states[STATES];
    bool left_out = false;
    if (share.has_sum()) {
        left_out = guard != nullptr && guard->now != 0.0f;
        w = load_four(param, share.there);
#pragma unroll
        for (int s = 0; s < STATES; s++) {
            if (kept) states[s] = load_four(item.state[s] + share.at, share.there);
        }
    }
    const float4 g = sum_of(parts, share);
    if (!share.has_sum() || left_out) return;
    const auto rule = make_rule();
    // The copy of a larger parameter would be infinite.
    const float largest = item.copy != nullptr ? STORAGE_MAX : FLT_MAX;
    bool all = true;
    const auto one = [&](float float4::*lane) {
        float value = w.*lane, state[STATES];
#pragma unroll
        for (int s = 0; s < STATES; s++) state[s] = states[s].*lane;
        rule(value, g.*lane, state);
        bool whole = fabsf(value) <= largest;
#pragma unroll
        for (int s = 0; s < STATES; s++) whole = whole && (!kept || finite(state[s]));
        w.*lane = whole ? value : w.*lane;
#pragma unroll
        for (int s = 0; s < STATES; s++) states[s].*lane = whole ? state[s] : states[s].*lane;
        all = all && whole;
    };
    one(&float4::x);
    one(&float4::y);
    one(&float4::z);
    one(&float4::w);
#pragma unroll
    for (int s = 0; s < STATES; s++) {
        if (kept) store_four(item.state[s] + share.at, share.there, states[s]);
    }
    store_four(param, share.there, w);
    if (item.copy != nullptr) {
        const float values[4] = {w.x, w.y, w.z, w.w};
        store_four(item.copy + share.at, share.there, values);
    }
    // 1.0f; an atomic, because several threads may set it.
    if (!all && guard != nullptr) atomicOr(reinterpret_cast<unsigned *>(&guard->late), 0x3f800000);
}
