/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels compute in: f64 for f64 tensors, f32 for all others. A family's template is included twice, once
 * after this file with LIGHT_REAL 32 and once with LIGHT_REAL 64. It gives
 *   REAL                  the type            NAME(x)  a name for x in this arithmetic
 *   EXP LOG LOG1P SQRT ABS   functions that vectorise in loops; LOG1P for 0 and above
 *   load, store           blocks of elements of any floating dtype, converted */
#undef REAL
#undef NAME
#undef EXP
#undef LOG
#undef LOG1P
#undef SQRT
#undef ABS
#if LIGHT_REAL == 64
#define REAL    double
#define NAME(x) x##_f64
#define EXP     light_vec_exp_f64
#define LOG     light_vec_log_f64
#define LOG1P   light_vec_log1p_f64
#define SQRT    sqrt
#define ABS     fabs
#else
#define REAL    float
#define NAME(x) x##_f32
#define EXP     light_vec_exp_f32
#define LOG     light_vec_log_f32
#define LOG1P   light_vec_log1p_f32
#define SQRT    sqrtf
#define ABS     fabsf
#endif

/* n elements at p as REAL: their own memory when they are stored so, else in `room`. */
static inline const REAL *NAME(load)(int dtype, const void *p, int64_t n, REAL *room)
{
#if LIGHT_REAL == 64
    (void)dtype, (void)n, (void)room;
    return p;
#else
    if (dtype == LIGHT_F32) return p;
    light_to_f32(dtype, p, n, room);
    return room;
#endif
}

/* Where n results for p are best computed: in place, or in `room` for `store` to convert or to add. The inputs must not
 * be at p. */
static inline REAL *NAME(target)(int dtype, void *p, REAL *room, bool add)
{
    return !add && dtype == (sizeof(REAL) == 8 ? LIGHT_F64 : LIGHT_F32) ? p : room;
}

/* The opposite of load, adding to what is there when asked. */
static inline void NAME(store)(int dtype, void *p, int64_t n, const REAL *from, bool add)
{
#if LIGHT_REAL == 64
    (void)dtype;
#else
    if (dtype != LIGHT_F32) {
        LIGHT_ISA(light_from_f32)(dtype, p, n, from, add);
        return;
    }
#endif
    REAL *to = p;
    if (add)
        for (int64_t i = 0; i < n; i++) to[i] += from[i];
    else if (to != from)
        for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

/* n elements of a strided tensor from its `first` in row-major order on. */
static inline const REAL *NAME(gather)(const light_tensor *t, int64_t first, int64_t n, REAL *room)
{
    int64_t size = light_element_size(t->dtype);

    if (t->contiguous) return NAME(load)(t->dtype, t->data + first * size, n, room);
    for (int64_t done = 0; done < n;) {
        light_run_of_elements run = light_run_at(t, first + done, n - done);
        const char *from = t->data + run.offset * size;
        for (int64_t i = 0; i < (run.stride ? run.n : 1); i++) {
            REAL one;
            room[done + i] = *NAME(load)(t->dtype, from + i * run.stride * size, 1, &one);
        }
        for (int64_t i = 1; run.stride == 0 && i < run.n; i++) room[done + i] = room[done];
        done += run.n;
    }
    return room;
}

static inline void NAME(scatter)(light_tensor *t, int64_t first, int64_t n, const REAL *from, bool add)
{
    int64_t size = light_element_size(t->dtype);

    if (t->contiguous) {
        NAME(store)(t->dtype, t->data + first * size, n, from, add);
        return;
    }
    for (int64_t done = 0; done < n;) {
        light_run_of_elements run = light_run_at(t, first + done, n - done);
        for (int64_t i = 0; i < run.n; i++)
            NAME(store)(t->dtype, t->data + (run.offset + i * run.stride) * size, 1, &from[done + i], add);
        done += run.n;
    }
}
