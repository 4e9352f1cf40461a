/* cpu/convert.c - rows of any type as f32 and back, and other helpers of the ops. */
#include <string.h>

#include "base/mem.h"
#include "cpu/ops_priv.h"

static float load_one(enum sh_dtype dtype, const uint8_t *p)
{
    uint16_t h;
    int32_t i;
    float f;

    switch (dtype) {
    case SH_DTYPE_F16:
        memcpy(&h, p, sizeof h);
        return sh_f16_to_f32(h);
    case SH_DTYPE_BF16:
        memcpy(&h, p, sizeof h);
        return sh_bf16_to_f32(h);
    case SH_DTYPE_I32:
        memcpy(&i, p, sizeof i);
        return (float)i;
    default:
        memcpy(&f, p, sizeof f);
        return f;
    }
}

/* Toward zero; what C leaves open is the nearest i32, and 0 for NaN. */
static int32_t truncate_to_i32(float x)
{
    if (x >= 2147483648.0f) return INT32_MAX;
    if (x < -2147483648.0f) return INT32_MIN;
    return x == x ? (int32_t)x : 0;
}

static void store_one(enum sh_dtype dtype, uint8_t *p, float x)
{
    uint16_t h;
    int32_t i;

    switch (dtype) {
    case SH_DTYPE_F16:
        h = sh_f32_to_f16(x);
        memcpy(p, &h, sizeof h);
        break;
    case SH_DTYPE_BF16:
        h = sh_f32_to_bf16(x);
        memcpy(p, &h, sizeof h);
        break;
    case SH_DTYPE_I32:
        i = truncate_to_i32(x);
        memcpy(p, &i, sizeof i);
        break;
    default:
        memcpy(p, &x, sizeof x);
        break;
    }
}

static bool is_simple(enum sh_dtype t)
{
    return t == SH_DTYPE_F32 || t == SH_DTYPE_F16 || t == SH_DTYPE_BF16 || t == SH_DTYPE_I32;
}

bool sh_cpu_loads(const struct sh_kernels *k, enum sh_dtype dtype)
{
    return is_simple(dtype) || k->decode[dtype];
}

bool sh_cpu_stores(const struct sh_kernels *k, enum sh_dtype dtype)
{
    return is_simple(dtype) || k->encode[dtype];
}

size_t sh_cpu_element_offset(enum sh_dtype dtype, size_t nb0, int64_t i)
{
    const struct sh_dtype_info *info = sh_dtype_info(dtype);

    if (info->block_len == 1) return (size_t)i * nb0;
    return (size_t)(i / info->block_len) * info->block_bytes;
}

const float *sh_cpu_load(const struct sh_kernels *k, enum sh_dtype dtype, const uint8_t *p,
                         size_t nb0, int64_t n, float *tmp)
{
    const struct sh_dtype_info *info = sh_dtype_info(dtype);
    const bool packed = info->block_len > 1 || nb0 == info->block_bytes || n == 1;

    if (dtype == SH_DTYPE_F32 && packed) return (const float *)(const void *)p;
    if (packed && k->decode[dtype]) {
        k->decode[dtype](n, tmp, p);
        return tmp;
    }
    for (int64_t i = 0; i < n; i++)
        tmp[i] = load_one(dtype, p + (size_t)i * nb0);
    return tmp;
}

void sh_cpu_store(const struct sh_kernels *k, enum sh_dtype dtype, uint8_t *p, size_t nb0,
                  int64_t n, const float *x)
{
    const struct sh_dtype_info *info = sh_dtype_info(dtype);
    const bool packed = info->block_len > 1 || nb0 == info->block_bytes || n == 1;

    if (dtype == SH_DTYPE_F32 && packed) {
        memmove(p, x, (size_t)n * sizeof *x);
    } else if (packed && k->encode[dtype]) {
        k->encode[dtype](n, p, x);
    } else {
        for (int64_t i = 0; i < n; i++)
            store_one(dtype, p + (size_t)i * nb0, x[i]);
    }
}

static int64_t index_at(const struct sh_cpu_tensor *ids, int64_t i0, const uint8_t *row)
{
    int32_t narrow;
    int64_t wide;

    if (ids->dtype == SH_DTYPE_I64) {
        memcpy(&wide, row + (size_t)i0 * ids->nb[0], sizeof wide);
        return wide;
    }
    memcpy(&narrow, row + (size_t)i0 * ids->nb[0], sizeof narrow);
    return narrow;
}

enum shoal_status sh_cpu_check_index(const struct sh_cpu_tensor *ids, int64_t n,
                                     struct shoal_error *err)
{
    const int64_t n_rows = sh_cpu_rows(ids);

    for (int64_t r = 0; r < n_rows; r++) {
        const uint8_t *row = sh_cpu_row(ids, r);
        for (int64_t i = 0; i < ids->ne[0]; i++) {
            const int64_t id = index_at(ids, i, row);
            if (id < 0 || id >= n) {
                return sh_fail(err, SHOAL_ERR_FORMAT, "index %lld at %lld is not below %lld",
                               (long long)id, (long long)(r * ids->ne[0] + i), (long long)n);
            }
        }
    }
    return SHOAL_OK;
}

bool sh_cpu_add_work(size_t *work, int64_t n, size_t bytes)
{
    size_t total, rounded;

    return n >= 0 && sh_mul_ok((size_t)n, bytes, &total) &&
           sh_round_up_ok(total, SH_MEM_ALIGN, &rounded) && sh_add_ok(*work, rounded, work);
}

uint8_t *sh_cpu_take_work(uint8_t **at, int64_t n, size_t bytes)
{
    uint8_t *p = *at;

    *at += ((size_t)n * bytes + SH_MEM_ALIGN - 1) / SH_MEM_ALIGN * SH_MEM_ALIGN;
    return p;
}

enum shoal_status sh_cpu_refuse_type(const struct sh_tensor *t, const char *what,
                                     struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "%s of type %s", what,
                   sh_dtype_info(t->dtype)->name);
}

enum shoal_status sh_cpu_refuse_size(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_LIMIT, "work memory beyond every limit");
}

enum shoal_status sh_cpu_name_node(struct shoal_error *err, enum shoal_status code,
                                   const struct sh_tensor *t, int32_t number, const char *what)
{
    const bool named = t->name && t->name[0];

    return sh_fail(err, code, "CPU: tensor %d (%s%s%s): %s", number, sh_op_info(t->op)->name,
                   named ? " " : "", named ? t->name : "", what);
}
