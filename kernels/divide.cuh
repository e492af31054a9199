// Integer division by a number that is known at the launch: a multiplication and two shifts. The hardware has no instruction
// for integer division; the compiler's sequence is of some twenty. `divisor` in src/device/cuda/launch.rs computes the
// multiplier and the shift.
#pragma once

// For dividends below 2^31: n / value = floor(2n * multiplier / 2^(32 + shift)).
struct Divisor {
    unsigned value, multiplier, shift;
};

struct Division {
    unsigned quotient, remainder;
};

__device__ __forceinline__ Division divide(unsigned n, const Divisor &by) {
    const unsigned quotient = __umulhi(2 * n, by.multiplier) >> by.shift;
    return {quotient, n - quotient * by.value};
}
