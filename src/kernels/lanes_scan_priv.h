/* kernels/lanes_scan_priv.h - short convolutions and selective scans in sixteen lanes.
 *
 * Include once, after the lanes of the tier; fill_scans() sets the slots.  Convolutions put
 * channels into lanes, scans the states of a row.  Threads: pure functions.
 */
#ifndef KERNELS_LANES_SCAN_PRIV_H
#define KERNELS_LANES_SCAN_PRIV_H

#include "kernels/lanes_math_priv.h"
#include "kernels/vec_priv.h"

#define SH_CONV_TAPS_MAX 8 /* wider ones stay scalar; models have 3 or 4 */

/* n values `stride` apart; the other lanes are 0. */
static inline struct v16 load_strided(const float *p, int64_t stride, int n)
{
    float lane[SH_LANES] = {0};
    for (int i = 0; i < n; i++)
        lane[i] = p[i * stride];
    return v16_load(lane);
}

static inline void store_strided(float *p, int64_t stride, int n, struct v16 a)
{
    float lane[SH_LANES];
    v16_store(lane, a);
    for (int i = 0; i < n; i++)
        p[i * stride] = lane[i];
}

/* n <= 16 channels.  `before` holds the samples before the run. */
static void conv_channels(int n, int width, int64_t n_t, float *y, size_t y_stride, const float *x,
                          size_t x_stride, const float *w, const float *state_in, float *state_out)
{
    const unsigned bits = (1u << n) - 1u;
    const int history = width - 1;
    struct v16 tap[SH_CONV_TAPS_MAX], before[SH_CONV_TAPS_MAX];
    for (int j = 0; j < width; j++)
        tap[j] = load_strided(w + j, width, n);
    for (int j = 0; j < history; j++)
        before[j] = state_in ? load_strided(state_in + j, history, n) : v16_set1(0.0f);

    for (int64_t t = 0; t < n_t; t++) {
        struct v16 s = v16_set1(0.0f);
        for (int j = 0; j < width; j++) {
            const int64_t at = t - history + j;
            const struct v16 a =
                at < 0 ? before[history + at] : v16_load_bits(x + (size_t)at * x_stride, bits);
            s = v16_fma(a, tap[j], s);
        }
        v16_store_bits(y + (size_t)t * y_stride, s, bits);
    }
    for (int j = 0; j < history; j++) {
        const int64_t at = n_t - history + j;
        const struct v16 a =
            at < 0 ? before[history + at] : v16_load_bits(x + (size_t)at * x_stride, bits);
        store_strided(state_out + j, history, n, a);
    }
}

static void conv_run_lanes(int64_t n_ch, int64_t width, int64_t n_t, float *y, size_t y_stride,
                           const float *x, size_t x_stride, const float *w, const float *state_in,
                           float *state_out)
{
    if (width > SH_CONV_TAPS_MAX) {
        sh_conv_run_scalar(n_ch, width, n_t, y, y_stride, x, x_stride, w, state_in, state_out);
        return;
    }
    for (int64_t ch = 0; ch < n_ch; ch += SH_LANES) {
        const int n = n_ch - ch < SH_LANES ? (int)(n_ch - ch) : SH_LANES;
        const int64_t at = ch * (width - 1);
        conv_channels(n, (int)width, n_t, y + ch, y_stride, x + ch, x_stride, w + ch * width,
                      state_in ? state_in + at : NULL, state_out + at);
    }
}

/* One step of one row of states; the dot with c. */
static inline float scan_row(int64_t n, float *row, struct v16 decay, struct v16 xdt,
                             const float *b, const float *c)
{
    struct v16 s = v16_set1(0.0f);
    for (; n >= SH_LANES; n -= SH_LANES, row += SH_LANES, b += SH_LANES, c += SH_LANES) {
        const struct v16 added = v16_mul(xdt, v16_load(b));
        const struct v16 h = v16_add(v16_mul(v16_load(row), decay), added);
        v16_store(row, h);
        s = v16_fma(h, v16_load(c), s);
    }
    if (n > 0) {
        const unsigned bits = (1u << n) - 1u;
        const struct v16 added = v16_mul(xdt, v16_load_bits(b, bits));
        const struct v16 h = v16_add(v16_mul(v16_load_bits(row, bits), decay), added);
        v16_store_bits(row, h, bits);
        s = v16_select(m16_of_bits(bits), v16_fma(h, v16_load_bits(c, bits), s), s);
    }
    return v16_sum(s);
}

static void ssm_run_lanes(int64_t d_head, int64_t d_state, int64_t n_t, float *y, size_t y_stride,
                          const float *x, size_t x_stride, const float *dt, size_t dt_stride,
                          float dt_bias, float a, float d, const float *b, const float *c,
                          size_t bc_stride, const float *state_in, float *state_out)
{
    float *h = state_out;
    for (int64_t i = 0; i < d_head * d_state; i++)
        h[i] = state_in ? state_in[i] : 0.0f;

    for (int64_t t = 0; t < n_t; t++) {
        const float step = sh_softplus_f32(dt[(size_t)t * dt_stride] + dt_bias);
        const struct v16 decay = v16_set1(sh_exp_f32(step * a));
        const float *bt = b + (size_t)t * bc_stride, *ct = c + (size_t)t * bc_stride;
        for (int64_t i = 0; i < d_head; i++) {
            const float xi = x[(size_t)t * x_stride + (size_t)i];
            const float skip = d * xi;
            const struct v16 xdt = v16_set1(xi * step);
            const float dot = scan_row(d_state, h + i * d_state, decay, xdt, bt, ct);
            y[(size_t)t * y_stride + (size_t)i] = dot + skip;
        }
    }
}

static void fill_scans(struct sh_kernels *k)
{
    k->conv_run = conv_run_lanes;
    k->ssm_run = ssm_run_lanes;
}

#endif
