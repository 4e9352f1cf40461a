/* kernels/rope.c - the angles of rotary position embedding, with YaRN and frequency factors.
 *
 * With f_i = base^(-2i/n), pair i of position p turns by e = p f_i / ff_i (extrapolated) or
 * s e (interpolated, s = freq_scale).  Without YaRN (ext_factor 0) the angle is s e and the
 * magnitude attn_factor.  With YaRN the angle is s e (1 - w) + e w, where
 *     w = ext_factor (1 - clamp((i - low) / max(0.001, high - low), 0, 1)),
 *     low = max(0, floor(c(beta_fast))), high = min(n - 1, ceil(c(beta_slow))),
 *     c(b) = n ln(n_ctx_orig / (2 pi b)) / (2 ln base),
 * and the magnitude is attn_factor (1 + 0.1 ln(1 / s)).
 *
 * Everything is f64 with functions of our own, so that every machine has the same bits; results
 * are rounded to f32 once.  Two doubles stand for one number where one would lose the digits that
 * a large position multiplies.  Threads: pure functions.
 */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#define LN2_HI 0x1.62e42fefa39efp-1
#define LN2_LO 0x1.abc9e3b39803fp-56
#define LOG2E 0x1.71547652b82fep+0
#define PI 0x1.921fb54442d18p+1
#define HALF_PI_HI 0x1.921fb54442d18p+0
#define HALF_PI_LO 0x1.1a62633145c07p-54
#define TWO_OVER_PI 0x1.45f306dc9c883p-1
#define ROUND_MAGIC 0x1.8p52 /* rounds a double below 2^51 to an integer */
#define ANGLE_MAX 0x1p40     /* beyond it the reduction has no digits left */

/* A number as hi + lo, |lo| at most half an ulp of hi or so. */
struct pair {
    double hi, lo;
};

static uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static double of_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* ln x for normal x > 0: x = 2^k m, s = (m - 1) / (m + 1), ln m = 2 s + s^3 (2/3 + 2/5 s^2 ..). */
static struct pair log_pair(double x)
{
    if (!(x > 0.0)) return (struct pair){x == 0.0 ? -INFINITY : NAN, 0.0};
    if (x == INFINITY) return (struct pair){INFINITY, 0.0};

    const uint64_t sqrt_half = 0x3fe6a09e667f3bcdu;
    const uint64_t shifted = bits_of(x) - sqrt_half + (UINT64_C(1024) << 52);
    const double k = (double)(int64_t)(shifted >> 52) - 1024.0;
    const double m = of_bits((shifted & 0xfffffffffffffu) + sqrt_half);

    const double f = m - 1.0, g = m + 1.0;
    const double g_lo = m - (g - 1.0);
    const double s = f / g;
    const double s_lo = (fma(-s, g, f) - s * g_lo) / g;

    const double s2 = s * s;
    double p = 0.0;
    for (int i = 23; i >= 3; i -= 2)
        p = p * s2 + 2.0 / i;

    const double kl = k * LN2_HI;
    const double kl_lo = fma(k, LN2_HI, -kl) + k * LN2_LO;
    const double two_s = 2.0 * s;
    const double sum = kl + two_s; // |kl| > |two_s| or kl = 0
    const double sum_lo = k == 0.0 ? 0.0 : two_s - (sum - kl);
    const double lo = sum_lo + (kl_lo + (2.0 * s_lo + s * s2 * p));
    const double hi = sum + lo;
    return (struct pair){hi, lo - (hi - sum)};
}

static double log_f64(double x)
{
    return log_pair(x).hi;
}

/* exp(x.hi + x.lo) where the result is a normal number; beyond, 0 or infinity. */
static double exp_pair(struct pair x)
{
    if (isnan(x.hi)) return x.hi;
    if (x.hi < -708.0) return 0.0;
    if (x.hi > 709.0) return INFINITY;

    const double n = fma(x.hi, LOG2E, ROUND_MAGIC) - ROUND_MAGIC;
    double r = fma(-n, LN2_HI, x.hi);
    r = fma(-n, LN2_LO, r) + x.lo;

    double p = 1.0; // 1 + r/1 (1 + r/2 (1 + r/3 (...)))
    for (int i = 14; i >= 1; i--)
        p = 1.0 + p * (r / i);
    return p * of_bits((uint64_t)((int64_t)n + 1023) << 52);
}

void sh_rope_frequencies(const struct sh_rope_params *p, double *inv_freq)
{
    const struct pair log_base = log_pair((double)p->freq_base);
    const double n = (double)p->n_dims;
    for (int64_t i = 0; i < p->n_dims / 2; i++) {
        const double a = -2.0 * (double)i;
        const double t = a * log_base.hi;
        const double t_lo = fma(a, log_base.hi, -t) + a * log_base.lo;
        const double q = t / n;
        const double q_lo = (fma(-q, n, t) + t_lo) / n;
        inv_freq[i] = i == 0 ? 1.0 : exp_pair((struct pair){q, q_lo});
    }
}

/* sin r / r and cos r in powers of r^2; the first term left out is below 2^-60 at pi/4. */
enum { SERIES_TERMS = 10 };
static const double SIN_SERIES[SERIES_TERMS] = {1.0,
                                                -1.0 / 6.0,
                                                1.0 / 120.0,
                                                -1.0 / 5040.0,
                                                1.0 / 362880.0,
                                                -1.0 / 39916800.0,
                                                1.0 / 6227020800.0,
                                                -1.0 / 1307674368000.0,
                                                1.0 / 355687428096000.0,
                                                -1.0 / 121645100408832000.0};
static const double COS_SERIES[SERIES_TERMS] = {1.0,
                                                -1.0 / 2.0,
                                                1.0 / 24.0,
                                                -1.0 / 720.0,
                                                1.0 / 40320.0,
                                                -1.0 / 3628800.0,
                                                1.0 / 479001600.0,
                                                -1.0 / 87178291200.0,
                                                1.0 / 20922789888000.0,
                                                -1.0 / 6402373705728000.0};

/* Both at once: x = k pi/2 + r, |r| <= pi/4. */
static void sin_cos(double x, double *sine, double *cosine)
{
    if (!(fabs(x) <= ANGLE_MAX)) {
        *sine = *cosine = NAN;
        return;
    }
    const double k = fma(x, TWO_OVER_PI, ROUND_MAGIC) - ROUND_MAGIC;
    double r = fma(-k, HALF_PI_HI, x);
    r = fma(-k, HALF_PI_LO, r);

    const double z = r * r;
    double s = 0.0, c = 0.0;
    for (int i = SERIES_TERMS - 1; i >= 0; i--) {
        s = s * z + SIN_SERIES[i];
        c = c * z + COS_SERIES[i];
    }
    s *= r;

    switch ((unsigned)(int64_t)k & 3u) {
    case 0:
        *sine = s, *cosine = c;
        break;
    case 1:
        *sine = c, *cosine = -s;
        break;
    case 2:
        *sine = -s, *cosine = -c;
        break;
    default:
        *sine = -c, *cosine = s;
        break;
    }
}

struct yarn {
    double low, width, mag;
};

static struct yarn yarn_prepare(const struct sh_rope_params *p)
{
    const double n = (double)p->n_dims, ctx = (double)p->n_ctx_orig;
    const double per_log = n / (2.0 * log_f64((double)p->freq_base));
    const double fast = floor(log_f64(ctx / (2.0 * PI * (double)p->beta_fast)) * per_log);
    const double slow = ceil(log_f64(ctx / (2.0 * PI * (double)p->beta_slow)) * per_log);
    const double low = fast > 0.0 ? fast : 0.0;
    const double high = slow < n - 1.0 ? slow : n - 1.0;
    const double width = high - low > 0.001 ? high - low : 0.001;
    const double stretch = log_f64(1.0 / (double)p->freq_scale);
    return (struct yarn){low, width, (double)p->attn_factor * (1.0 + 0.1 * stretch)};
}

void sh_rope_angles(const struct sh_rope_params *p, const double *inv_freq, const float *ff,
                    int32_t pos, float *c, float *s)
{
    const double ext = (double)p->ext_factor;
    struct yarn y = {.mag = (double)p->attn_factor};
    if (ext != 0.0) y = yarn_prepare(p);

    for (int64_t i = 0; i < p->n_dims / 2; i++) {
        const double turn = (double)pos * inv_freq[i];
        const double outer = ff ? turn / (double)ff[i] : turn;
        double angle = outer * (double)p->freq_scale;
        if (ext != 0.0) {
            const double at = ((double)i - y.low) / y.width;
            const double in_ramp = at > 0.0 ? (at < 1.0 ? at : 1.0) : 0.0;
            const double w = (1.0 - in_ramp) * ext;
            angle = angle * (1.0 - w) + outer * w;
        }
        double sine, cosine;
        sin_cos(angle, &sine, &cosine);
        c[i] = (float)(cosine * y.mag);
        s[i] = (float)(sine * y.mag);
    }
}
