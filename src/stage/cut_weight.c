/* stage/cut_weight.c - see cut_weight.h.
 *
 * Seen along the cut axis a dense tensor is [inner][n][outer]: `inner` bytes per step of the axis
 * (per block for axis 0), repeated for every combination of the outer dimensions.
 */
#include "stage/cut_weight.h"

#include "base/mem.h"

enum shoal_status sh_cut_weight(void **out, size_t *bytes, const struct sh_weight *w,
                                const struct sh_slice *slice, struct shoal_error *err)
{
    const struct sh_dtype_info *type = sh_dtype_info(w->dtype);
    const int64_t per = slice->axis == 0 ? type->block_len : 1;
    size_t inner = type->block_bytes, taken = 0, at = 0;
    int64_t outer = 1;
    char *dst;

    *out = NULL;
    for (int i = 0; i < SH_MAX_DIMS; i++) {
        if (i < slice->axis) {
            inner *= (size_t)(i == 0 ? w->ne[0] / type->block_len : w->ne[i]);
        } else if (i > slice->axis) {
            outer *= w->ne[i];
        }
    }
    const int64_t n = w->ne[slice->axis] / per;
    for (int i = 0; i < slice->n_segments; i++) {
        const int64_t a = slice->segment[i].begin, b = slice->segment[i].end;
        if (a < 0 || b < a || b > w->ne[slice->axis] || a % per || b % per) {
            return sh_fail(
                err, SHOAL_ERR_ARG, "stage: a slice from %lld to %lld of %lld cuts a block of %lld",
                (long long)a, (long long)b, (long long)w->ne[slice->axis], (long long)per);
        }
        taken += (size_t)((b - a) / per) * inner;
    }
    if (!sh_mul_ok(taken, (size_t)outer, bytes) || !(dst = sh_malloc(*bytes))) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for a slice of %zu bytes", taken);
    }
    for (int64_t o = 0; o < outer; o++) {
        const char *row = (const char *)w->data + (size_t)o * (size_t)n * inner;
        for (int i = 0; i < slice->n_segments; i++) {
            const size_t a = (size_t)(slice->segment[i].begin / per) * inner;
            const size_t b = (size_t)(slice->segment[i].end / per) * inner;
            if (b > a) memcpy(dst + at, row + a, b - a);
            at += b - a;
        }
    }
    *out = dst;
    return SHOAL_OK;
}
