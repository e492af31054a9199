// AdamW by PyTorch's rule, for many parameters in one launch (update.cuh has the grid).
// With rate = now->rate * rate_multiplier and decay = weight_decay * decay_multiplier:
//
//     exp_avg    = exp_avg + exp_avg_weight * (grad - exp_avg)
//     exp_avg_sq = exp_avg_sq_decay * exp_avg_sq + exp_avg_sq_weight * (grad * grad)
//     param      = param * (1 - rate * decay)
//                  - (rate * now->exp_avg_correction) * (exp_avg / (sqrt(exp_avg_sq) * now->root_correction + eps))
//
// What would not be finite is left out (update.cuh). The corrections undo that both averages began at zero:
// 1 / (1 - beta1^t) and 1 / sqrt(1 - beta2^t) at update t. Like the rate they lie in device memory, so that the launch can
// be replayed in a graph.
#include "update.cuh"

// Words of src/device/cuda/clock.rs.
struct Scalars {
    float rate, exp_avg_correction, root_correction;
};

struct Rule {
    float kept, pace, root_correction, exp_avg_weight, exp_avg_sq_decay, exp_avg_sq_weight, eps;

    // Products are not fused with sums: the bits are the CPU's.
    __device__ __forceinline__ void operator()(float &w, float g, float (&state)[2]) const {
        const float m = __fadd_rn(state[0], __fmul_rn(exp_avg_weight, __fsub_rn(g, state[0])));
        const float v = __fadd_rn(__fmul_rn(exp_avg_sq_decay, state[1]), __fmul_rn(exp_avg_sq_weight, __fmul_rn(g, g)));
        state[0] = m;
        state[1] = v;
        const float root = __fadd_rn(__fmul_rn(__fsqrt_rn(v), root_correction), eps);
        w = __fsub_rn(__fmul_rn(w, kept), __fmul_rn(pace, __fdiv_rn(m, root)));
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(Guard *guard, const Scalars *now, const __grid_constant__ Table<2, ADAMW_ITEMS> table, unsigned items, float weight_decay,
          float exp_avg_weight, float exp_avg_sq_decay, float exp_avg_sq_weight, float eps) {
    const Item<2> &item = own_item(table, items);
    update(item, guard, [&] {
        const float rate = __fmul_rn(now->rate, item.rate_multiplier);
        const float decay = __fmul_rn(weight_decay, item.decay_multiplier);
        const float kept = __fsub_rn(1.0f, __fmul_rn(rate, decay));
        const float pace = __fmul_rn(rate, now->exp_avg_correction);
        return Rule{kept, pace, now->root_correction, exp_avg_weight, exp_avg_sq_decay, exp_avg_sq_weight, eps};
    });
}
