// Averages of many parameters over updates, in one launch (update.cuh has the grid; an average takes the parameter's place
// there, and the parameter the gradient's).
//
//     average = param + *keep * (average - param)
//
// What would not be finite is left out (update.cuh). `keep` lies in device memory, so that the launch can be replayed in a graph.
#include "update.cuh"

struct Rule {
    float keep;

    // The product is not fused with the sum: the bits are the CPU's.
    __device__ __forceinline__ void operator()(float &average, float param, float (&)[1]) const {
        average = __fadd_rn(param, __fmul_rn(keep, __fsub_rn(average, param)));
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    average(Guard *guard, const float *keep, const __grid_constant__ Table<1, SGD_ITEMS> table, unsigned items) {
    update(own_item(table, items), guard, [&] { return Rule{*keep}; });
}
