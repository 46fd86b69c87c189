/* SPDX-License-Identifier: Apache-2.0 */
/* What kernels for tensor cores are written with, played lane by lane: mma.sync, ldmatrix and cp.async with the layouts
 * of the PTX ISA (9.7.14 Warp Level Matrix Instructions), so that the index arithmetic around them is tested. */
#ifndef LIGHT_CUDA_SIM_MMA_H
#define LIGHT_CUDA_SIM_MMA_H

#include <cuda_runtime.h>

namespace sim
{

/* The lanes of the last warp may not all exist. */
inline void check_whole(void *const (&lanes)[32])
{
    for (int lane = 0; lane < 32; lane++)
        if (!lanes[lane]) fail_kernel("a matrix operation in a warp without lane %d", lane);
}

/* ---- mma.sync.aligned.m16n8k16.row.col.f32.T.T.f32: c += a b ------------------ */

inline float value_of_bf16(uint16_t bits)
{
    return __uint_as_float((uint32_t)bits << 16);
}

inline float value_of_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ff) << 13);
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest << 13) * 0x1p112f));
}

struct mma_lane {
    float *c;
    const uint32_t *a, *b;
};

/* The whole product; products of 16-bit floats are exact, their sum is rounded once. */
template <float (*value)(uint16_t)> void mma_m16n8k16(void *const (&lanes)[32])
{
    float a[16][16], b[16][8];
    check_whole(lanes);
    for (int lane = 0; lane < 32; lane++) {
        const mma_lane *l = (const mma_lane *)lanes[lane];
        int group = lane / 4, pair = lane % 4 * 2;
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 4; i++)
                a[group + i % 2 * 8][pair + i / 2 * 8 + half] = value((uint16_t)(l->a[i] >> 16 * half));
            for (int i = 0; i < 2; i++)
                b[pair + i * 8 + half][group] = value((uint16_t)(l->b[i] >> 16 * half));
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        const mma_lane *l = (const mma_lane *)lanes[lane];
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            double sum = l->c[i];
            for (int k = 0; k < 16; k++) sum += (double)a[row][k] * b[k][column];
            l->c[i] = (float)sum;
        }
    }
}

inline void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], site at = here())
{
    mma_lane mine = {c, a, b};
    warp_gather(~0u, &mine, mma_m16n8k16<value_of_bf16>, at);
}

inline void mma_m16n8k16_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], site at = here())
{
    mma_lane mine = {c, a, b};
    warp_gather(~0u, &mine, mma_m16n8k16<value_of_f16>, at);
}

/* ---- ldmatrix.sync.aligned.m8n8.x2/x4[.trans].shared.b16 ------------------------ */

struct ldmatrix_lane {
    uint32_t *r;
    const void *row; /* row lane % 8 of matrix lane / 8 */
};

template <int count, bool transposed> void ldmatrix(void *const (&lanes)[32])
{
    check_whole(lanes);
    for (int i = 0; i < count; i++) {
        uint16_t m[8][8];
        for (int row = 0; row < 8; row++) {
            const void *from = ((const ldmatrix_lane *)lanes[8 * i + row])->row;
            if ((uintptr_t)from % 16)
                fail_kernel("ldmatrix: lane %d's row is not aligned to 16 bytes", 8 * i + row);
            memcpy(m[row], from, sizeof m[row]);
        }
        for (int lane = 0; lane < 32; lane++) {
            int y = lane / 4, x = lane % 4 * 2;
            uint32_t low = transposed ? m[x][y] : m[y][x], high = transposed ? m[x + 1][y] : m[y][x + 1];
            ((const ldmatrix_lane *)lanes[lane])->r[i] = low | high << 16;
        }
    }
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void *row, site at = here())
{
    ldmatrix_lane mine = {r, row};
    warp_gather(~0u, &mine, ldmatrix<4, false>, at);
}

inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row, site at = here())
{
    ldmatrix_lane mine = {r, row};
    warp_gather(~0u, &mine, ldmatrix<4, true>, at);
}

/* Rows are those of lanes 0 to 15. */
inline void ldmatrix_x2(uint32_t (&r)[2], const void *row, site at = here())
{
    ldmatrix_lane mine = {r, row};
    warp_gather(~0u, &mine, ldmatrix<2, false>, at);
}

inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void *row, site at = here())
{
    ldmatrix_lane mine = {r, row};
    warp_gather(~0u, &mine, ldmatrix<2, true>, at);
}

/* ---- cp.async.cg.shared.global, 16 bytes ------------------------------------------ */

/* NaN until the thread has waited; zeros instead of the source if not valid. */
inline void cp_async_16(void *shared, const void *global, bool valid)
{
    copy_later(shared, global, 16, valid);
}

inline void cp_async_commit()
{
    copies_commit();
}

/* Waits for all groups but the last `groups`. */
template <int groups> inline void cp_async_wait()
{
    copies_wait(groups);
}

inline void cp_async_wait_all()
{
    copies_wait(-1);
}

} // namespace sim

#endif
