// Data movement in PTX: asynchronous copies from global to shared memory (`cp.async`), matrices from shared memory to registers
// (`ldmatrix`), and accesses to shared memory by address.
#pragma once

#include "divide.cuh"
#include "storage.cuh"

// A block's dynamic shared memory, which swizzles of up to 1024 bytes begin with.
extern __shared__ __align__(1024) unsigned char shared_memory[];

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Starts the copy of 16 bytes to shared memory; it bypasses registers and the first-level cache. Not `valid`: writes 16 zeros,
// and `from` may be any address.
__device__ __forceinline__ void copy_async(unsigned to, const void *from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(__cvta_generic_to_global(from)),
                 "r"(valid ? 16 : 0)
                 : "memory");
}

// Starts the copy of 8 bytes; it bypasses registers alone.
__device__ __forceinline__ void copy_async8(unsigned to, const void *from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;\n" ::"r"(to), "l"(__cvta_generic_to_global(from)) : "memory");
}

// Closes a group of copies; a group may be empty.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits until at most the PENDING newest groups of this thread are under way.
template <int PENDING>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING) : "memory");
}

// Reads four 8x8 matrices of 16-bit elements, whose rows are 16 bytes. Lane 8i + j gives the address of row j of matrix i. Each
// lane gets elements 2(lane % 4) and 2(lane % 4) + 1 of row lane / 4 of every matrix.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], unsigned from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
}

// Reads the transposes of four such matrices.
__device__ __forceinline__ void load_matrices_transposed(unsigned (&to)[4], unsigned from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
}

__device__ __forceinline__ unsigned load_shared(unsigned from) {
    unsigned value;
    asm volatile("ld.shared.b32 %0, [%1];\n" : "=r"(value) : "r"(from) : "memory");
    return value;
}

__device__ __forceinline__ float2 load_shared2(unsigned from) {
    float2 value;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];\n" : "=f"(value.x), "=f"(value.y) : "r"(from) : "memory");
    return value;
}

__device__ __forceinline__ float4 load_shared4(unsigned from) {
    float4 value;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];\n"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
}

// Reads 16 and 8 bytes of any type.
__device__ __forceinline__ uint4 load_chunk(unsigned from) {
    uint4 value;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
}

__device__ __forceinline__ uint2 load_half_chunk(unsigned from) {
    uint2 value;
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];\n" : "=r"(value.x), "=r"(value.y) : "r"(from) : "memory");
    return value;
}

__device__ __forceinline__ void store_shared(unsigned to, float value) {
    asm volatile("st.shared.f32 [%0], %1;\n" ::"r"(to), "f"(value) : "memory");
}

// One access by construction: of a plain float2 the compiler sometimes makes two.
__device__ __forceinline__ void store_shared2(unsigned to, float2 value) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};\n" ::"r"(to), "f"(value.x), "f"(value.y) : "memory");
}

__device__ __forceinline__ void store_shared4(unsigned to, float4 value) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};\n" ::"r"(to), "f"(value.x), "f"(value.y), "f"(value.z),
                 "f"(value.w)
                 : "memory");
}

__device__ __forceinline__ void store_shared4(unsigned to, uint4 value) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"r"(to), "r"(value.x), "r"(value.y), "r"(value.z),
                 "r"(value.w)
                 : "memory");
}

// Division of a number that is not negative.
__device__ __forceinline__ int quotient(int dividend, const Divisor &by) { return divide(dividend, by).quotient; }

__device__ __forceinline__ int divide(int dividend, const Divisor &by, int &remainder) {
    const Division result = divide(static_cast<unsigned>(dividend), by);
    remainder = result.remainder;
    return result.quotient;
}
