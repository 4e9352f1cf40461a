/* rpc/rows.c - the formats of hidden rows are those of the tensor types that they are named after.
 * Threads: pure functions.
 */
#include "rpc/rows.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"

static const enum sh_dtype DTYPE[SH_RPC_FORMAT_COUNT] = {[SH_RPC_ROWS_F32] = SH_DTYPE_F32,
                                                         [SH_RPC_ROWS_F16] = SH_DTYPE_F16,
                                                         [SH_RPC_ROWS_Q8] = SH_DTYPE_Q8_0};
static const char *const NAME[SH_RPC_FORMAT_COUNT] = {
    [SH_RPC_ROWS_F32] = "f32", [SH_RPC_ROWS_F16] = "f16", [SH_RPC_ROWS_Q8] = "q8"};

enum sh_rpc_format sh_rpc_rows_format(enum sh_rpc_format wanted, int64_t width)
{
    const int64_t block = sh_dtype_info(SH_DTYPE_Q8_0)->block_len;

    return wanted == SH_RPC_ROWS_Q8 && width % block != 0 ? SH_RPC_ROWS_F16 : wanted;
}

size_t sh_rpc_row_bytes(enum sh_rpc_format format, int64_t width)
{
    size_t bytes;

    if (format >= SH_RPC_FORMAT_COUNT || width < 1) return 0;
    if (!sh_dtype_row_bytes(DTYPE[format], width, &bytes)) return 0;
    return bytes <= SH_RPC_CHUNK_MAX ? bytes : 0;
}

int32_t sh_rpc_rows_per_piece(enum sh_rpc_format format, int64_t width)
{
    const size_t bytes = sh_rpc_row_bytes(format, width);

    return bytes ? (int32_t)(SH_RPC_CHUNK_MAX / bytes) : 0;
}

void sh_rpc_rows_encode(enum sh_rpc_format format, int64_t width, int64_t n, void *dst,
                        const float *src)
{
    // Rows lie side by side and hold whole blocks, so they are one long row.
    if (n > 0) sh_kernels()->encode[DTYPE[format]](width * n, dst, src);
}

void sh_rpc_rows_decode(enum sh_rpc_format format, int64_t width, int64_t n, float *dst,
                        const void *src)
{
    if (n > 0) sh_kernels()->decode[DTYPE[format]](width * n, dst, src);
}

enum shoal_status sh_rpc_rows_check(uint32_t format, int64_t width, uint32_t n_rows,
                                    size_t data_bytes, struct shoal_error *err)
{
    size_t row, need;

    if (format >= SH_RPC_FORMAT_COUNT) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: rows in format %u, there are %d", format,
                       SH_RPC_FORMAT_COUNT);
    }
    row = sh_rpc_row_bytes((enum sh_rpc_format)format, width);
    if (!row) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: rows of width %lld cannot be %s",
                       (long long)width, NAME[format]);
    }
    if (!sh_mul_ok(row, n_rows, &need) || need != data_bytes) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "rpc: %u rows of width %lld in %s are not the %zu bytes that came", n_rows,
                       (long long)width, NAME[format], data_bytes);
    }
    return SHOAL_OK;
}

const char *sh_rpc_format_name(enum sh_rpc_format format)
{
    return format < SH_RPC_FORMAT_COUNT ? NAME[format] : "?";
}

enum sh_rpc_format sh_rpc_format_find(struct sh_str name)
{
    for (int f = 0; f < SH_RPC_FORMAT_COUNT; f++) {
        if (sh_str_equal(name, sh_str_from(NAME[f]))) return (enum sh_rpc_format)f;
    }
    return SH_RPC_FORMAT_COUNT;
}
