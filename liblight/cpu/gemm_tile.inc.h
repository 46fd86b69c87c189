/* SPDX-License-Identifier: Apache-2.0 */
/* Template of the tile kernels of one arithmetic; gemm_kernels.c includes it with
 *   NAME(x)   a name for x in this family      T      element of C and of the accumulators
 *   TA        element of A and B               V, VB  vectors of the accumulators and of B
 *   VL        elements of T in V               MR     rows of the largest tile, at most 14
 *   SPLAT(p)  element at p in every lane       FMA(a, b, c)
 *   LOADB(p)  vector of B                      ATTR   function attributes
 * Every element of C is one chain of FMA over k in rising order, whatever the tile: results do not depend on how
 * a product was cut into tiles. The rows are spelled out, because compilers keep named variables in registers
 * and arrays often not. */

static ATTR void NAME(finish)(const T *acc, int64_t lda, int rows, const light_gemm_tile *t)
{
    const T *restrict bias = t->bias;
    const T alpha = (T)t->alpha;
    for (int i = 0; i < rows; i++) {
        T *restrict c = (T *)t->c + i * t->ldc;
        const T *restrict x = acc + i * lda;
        if (t->accumulate)
            for (int64_t j = 0; j < t->cols; j++) c[j] = x[j] * alpha + c[j];
        else
            for (int64_t j = 0; j < t->cols; j++) c[j] = x[j] * alpha;
        if (bias)
            for (int64_t j = 0; j < t->cols; j++) c[j] += bias[j];
    }
}

#define DO_1(X)  X(0)
#define DO_2(X)  DO_1(X) X(1)
#define DO_3(X)  DO_2(X) X(2)
#define DO_4(X)  DO_3(X) X(3)
#define DO_5(X)  DO_4(X) X(4)
#define DO_6(X)  DO_5(X) X(5)
#define DO_7(X)  DO_6(X) X(6)
#define DO_8(X)  DO_7(X) X(7)
#define DO_9(X)  DO_8(X) X(8)
#define DO_10(X) DO_9(X) X(9)
#define DO_11(X) DO_10(X) X(10)
#define DO_12(X) DO_11(X) X(11)
#define DO_13(X) DO_12(X) X(12)
#define DO_14(X) DO_13(X) X(13)

#define DECLARE_2(i) V x##i = {0}, y##i = {0};
#define DECLARE_1(i) V x##i = {0};
#define STEP_2(i)                                                                                            \
    {                                                                                                        \
        VB s = SPLAT(ROW(i));                                                                                \
        x##i = FMA(s, b0, x##i);                                                                             \
        y##i = FMA(s, b1, y##i);                                                                             \
    }
#define STEP_1(i)                                                                                            \
    {                                                                                                        \
        VB s = SPLAT(ROW(i));                                                                                \
        x##i = FMA(s, b0, x##i);                                                                             \
    }
#define PLAIN_2(i)                                                                                           \
    STORE(c, x##i);                                                                                          \
    STORE(c + VL, y##i);                                                                                     \
    c += ldc;
#define PLAIN_1(i)                                                                                           \
    STORE(c, x##i);                                                                                          \
    c += ldc;
#define ADD_2(i)                                                                                             \
    STORE(c, LOAD(c) + x##i);                                                                                \
    STORE(c + VL, LOAD(c + VL) + y##i);                                                                      \
    c += ldc;
#define ADD_1(i)                                                                                             \
    STORE(c, LOAD(c) + x##i);                                                                                \
    c += ldc;
#define SPILL_2(i)                                                                                           \
    STORE(acc + (i)*2 * VL, x##i);                                                                           \
    STORE(acc + (i)*2 * VL + VL, y##i);
#define SPILL_1(i) STORE(acc + (i)*VL, x##i);

#define FETCH_2(i)                                                                                           \
    __builtin_prefetch(f, 1);                                                                                \
    __builtin_prefetch(f + 2 * VL - 1, 1);                                                                   \
    f += t->ldc;
#define FETCH_1(i)                                                                                           \
    __builtin_prefetch(f, 1);                                                                                \
    f += t->ldc;

#define LOAD_B_2 VB b0 = LOADB(b), b1 = LOADB(b + VL);
#define LOAD_B_1 VB b0 = LOADB(b);

#define TILE(KIND, NV, ROWS, ADVANCE)                                                                        \
    static ATTR void NAME(KIND##_##NV##_##ROWS)(int64_t k, const void *va, int64_t rs, int64_t cs,           \
                                                const void *vb, int64_t ldb, const light_gemm_tile *t)       \
    {                                                                                                        \
        const TA *a = va, *b = vb;                                                                           \
        const light_gemm_part *part = t->parts, *last = part + t->part_count;                                \
        DO_##ROWS(DECLARE_##NV)(void) rs, (void)cs;                                                          \
        const T *f = t->c;                                                                                   \
        DO_##ROWS(FETCH_##NV)(void) f;                                                                       \
        do {                                                                                                 \
            if (part != last) a = (const TA *)va + part->a, b = (const TA *)vb + part->b, part++;            \
            POINTERS                                                                                         \
            for (int64_t p = 0; p < k; p++) {                                                                \
                LOAD_B_##NV DO_##ROWS(STEP_##NV) ADVANCE b += ldb;                                           \
            }                                                                                                \
        } while (part != last);                                                                              \
        if (t->cols == (NV)*VL && t->alpha == 1 && !t->bias) {                                               \
            T *c = t->c;                                                                                     \
            const int64_t ldc = t->ldc;                                                                      \
            if (t->accumulate) {                                                                             \
                DO_##ROWS(ADD_##NV)                                                                          \
            } else {                                                                                         \
                DO_##ROWS(PLAIN_##NV)                                                                        \
            }                                                                                                \
        } else {                                                                                             \
            T acc[(ROWS) * (NV)*VL] __attribute__((aligned(64)));                                            \
            DO_##ROWS(SPILL_##NV) NAME(finish)(acc, (NV)*VL, ROWS, t);                                       \
        }                                                                                                    \
    }

/* clang-format off */
#define TILES(KIND, NV, ADVANCE) \
    TILE(KIND, NV, 1, ADVANCE) TILE(KIND, NV, 2, ADVANCE) TILE(KIND, NV, 3, ADVANCE) \
    TILE(KIND, NV, 4, ADVANCE) TILE(KIND, NV, 5, ADVANCE) TILE(KIND, NV, 6, ADVANCE) \
    MORE_TILES(KIND, NV, ADVANCE)
/* clang-format on */

#define NAMES(KIND, NV)                                                                                      \
    {                                                                                                        \
        NAME(KIND##_##NV##_1), NAME(KIND##_##NV##_2), NAME(KIND##_##NV##_3), NAME(KIND##_##NV##_4),          \
            NAME(KIND##_##NV##_5), NAME(KIND##_##NV##_6) MORE_NAMES(KIND, NV)                                \
    }

#if MR == 14
/* clang-format off */
#define MORE_TILES(KIND, NV, ADVANCE) \
    TILE(KIND, NV, 7, ADVANCE) TILE(KIND, NV, 8, ADVANCE) TILE(KIND, NV, 9, ADVANCE) \
    TILE(KIND, NV, 10, ADVANCE) TILE(KIND, NV, 11, ADVANCE) TILE(KIND, NV, 12, ADVANCE) \
    TILE(KIND, NV, 13, ADVANCE) TILE(KIND, NV, 14, ADVANCE)
/* clang-format on */
#define MORE_NAMES(KIND, NV)                                                                                 \
    , NAME(KIND##_##NV##_7), NAME(KIND##_##NV##_8), NAME(KIND##_##NV##_9), NAME(KIND##_##NV##_10),           \
        NAME(KIND##_##NV##_11), NAME(KIND##_##NV##_12), NAME(KIND##_##NV##_13), NAME(KIND##_##NV##_14)
#else
#define MORE_TILES(KIND, NV, ADVANCE)
#define MORE_NAMES(KIND, NV)
#endif

#define ROW(i) (a + (i))
#define POINTERS
TILES(unit, 1, a += cs;)
TILES(unit, 2, a += cs;)
#undef ROW
#undef POINTERS

#ifndef ONLY_UNIT
/* Five pointers three rows apart reach 14 rows with x86 addressing (0, 1 and 2 strides). */
#define ROW(i)   (q##i)
#define q0       a
#define q1       (a + rs)
#define q2       (a + 2 * rs)
#define q3       a3
#define q4       (a3 + rs)
#define q5       (a3 + 2 * rs)
#define q6       a6
#define q7       (a6 + rs)
#define q8       (a6 + 2 * rs)
#define q9       a9
#define q10      (a9 + rs)
#define q11      (a9 + 2 * rs)
#define q12      a12
#define q13      (a12 + rs)
#define POINTERS const TA *a3 = a + 3 * rs, *a6 = a3 + 3 * rs, *a9 = a6 + 3 * rs, *a12 = a9 + 3 * rs;
TILES(any, 1, a++; a3++; a6++; a9++; a12++;)
TILES(any, 2, a++; a3++; a6++; a9++; a12++;)
#undef ROW
#undef POINTERS
#endif
