/* kernels/quant_scalar.c - see quant_priv.h.  Plain code for the baseline instruction set; the
 * only library function is none: rounding is done by conversion, which is exact here because
 * every value has been held inside the range of an int first. */
#include "kernels/quant_priv.h"

/* v held in -127..127; NaN gives 0.  Holding first and rounding then gives the same integer. */
static float hold127(float v)
{
    if (v != v) return 0;
    return v > 127 ? 127 : v < -127 ? -127 : v;
}

static int round_half_away(float v)
{
    const int whole = (int)v; // towards zero
    const float rest = v - (float)whole;

    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

static int round_half_even(float v)
{
    const int whole = (int)v;
    const float rest = v - (float)whole;
    const int odd = whole & 1;

    if (rest > 0.5f || (rest == 0.5f && odd)) return whole + 1;
    if (rest < -0.5f || (rest == -0.5f && odd)) return whole - 1;
    return whole;
}

float sh_quant_q8(int8_t q[32], const float x[32])
{
    float max = 0, d, id;

    for (int i = 0; i < 32; i++) {
        const float a = x[i] < 0 ? -x[i] : x[i];
        if (a > max) max = a;
    }
    d = max / 127.0f;
    id = d != 0 ? 1.0f / d : 0.0f;
    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)round_half_away(hold127(x[i] * id));
    return d;
}

float sh_quant_extreme(int n, const float *x)
{
    float max = 0, extreme = 0;

    for (int i = 0; i < n; i++) {
        const float a = x[i] < 0 ? -x[i] : x[i];
        if (a > max) {
            max = a;
            extreme = x[i];
        }
    }
    return extreme;
}

float sh_quant_q8_K(int8_t q[256], const float x[256])
{
    const float extreme = sh_quant_extreme(256, x);
    float k;

    if (extreme == 0) {
        for (int i = 0; i < 256; i++)
            q[i] = 0;
        return 0;
    }
    k = -127.0f / extreme;
    for (int i = 0; i < 256; i++)
        q[i] = (int8_t)round_half_even(hold127(k * x[i]));
    return 1.0f / k;
}

int32_t sh_quant_sum(int n, const int8_t *q)
{
    int32_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += q[i];
    return sum;
}

int sh_quant_clamp(float v, int max)
{
    if (!(v > 0)) return 0;
    return v >= (float)max ? max : (int)v;
}
