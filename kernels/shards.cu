// A step in shards (src/ops/shards/): the gradients of a shard, or what ranks have sent, as nodes.
//
//     shard_copy     param[i] = Σ grad[part · stride + i]         for each item of a table: from gradients to a node, or back
//     shard_count    meter += sums of the step's shards, or the step is left out (guard.cuh)
//
// `shard_copy` has the grid of an update (update.cuh). Block: THREADS.
// `shard_add` adds `len` elements of each node, of which node n begins at `first + n · stride`; all are multiples of four. A thread has
// the same four elements of all nodes, so that one launch adds SHARD_ADDITIONS times. Grid: ceil(len / (4 · THREADS)). Block: THREADS.
// `shard_count`: one block of a warp, of which one thread works. `lost` is null, or a word of managed memory in which the host writes 1
// once a rank is lost: what was gathered then, and is gathered after that, is not what the ranks have sent.
#include "update.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    shard_copy(const __grid_constant__ Table<1, SGD_ITEMS> table, unsigned items) {
    const Item<1> &item = own_item(table, items);
    const Parts parts{item.grad, item.stride, item.parts};
    const Share share(parts, blockIdx.x - item.first_block, item.len);
    const float4 sum = sum_of(parts, share);
    if (share.has_sum()) store_four(item.param + share.at, share.there, sum);
}

// Places of nodes, `to` and `from`.
struct Additions {
    uint2 places[SHARD_ADDITIONS];
};

extern "C" __global__ void __launch_bounds__(THREADS)
    shard_add(const __grid_constant__ Additions additions, unsigned count, float *first, unsigned stride, unsigned len) {
    const unsigned at = 4 * (blockIdx.x * THREADS + threadIdx.x);
    if (at >= len) return;
    const auto element = [&](unsigned place) {
        return reinterpret_cast<float4 *>(first + static_cast<size_t>(place) * stride + at);
    };
    for (unsigned i = 0; i < count; i++) {
        const uint2 places = additions.places[i];
        float4 *const to = element(places.x);
        *to = *to + *element(places.y);
    }
}

extern "C" __global__ void __launch_bounds__(32)
    shard_count(Guard *meter, const float *sums, const volatile unsigned *lost, float samples) {
    if (threadIdx.x != 0) return;
    Guard words = *meter;
    if (lost != nullptr && *lost != 0) {
        words.now = 1.0f;
        words.samples_left_out += samples;
        words.lost += 1.0f;
    } else {
        settle(words, sums[0], sums[1], sums[2], samples, finite(sums[0]));
    }
    *meter = words;
}
