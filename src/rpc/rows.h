/* rpc/rows.h - hidden rows as they lie in HIDDEN: f32 as it is, f16, or 8 bits in GGUF's q8_0
 * blocks.
 *
 * f32 loses nothing, so it is the default; f16 halves and q8_0 quarters the bytes at a price in
 * accuracy.  Rows whose width is no whole number of blocks go as f16 where q8 was asked for.
 * Rounding is that of the kernels, the same on every machine.
 *
 * Threads: pure functions.
 */
#ifndef RPC_ROWS_H
#define RPC_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "rpc/messages.h"

/* The format that rows of this width get where `wanted` was asked for. */
enum sh_rpc_format sh_rpc_rows_format(enum sh_rpc_format wanted, int64_t width);
/* Bytes of one row; 0 where rows of this width cannot lie so, or one is more than
 * SH_RPC_CHUNK_MAX. */
size_t sh_rpc_row_bytes(enum sh_rpc_format format, int64_t width);
/* Most rows of one HIDDEN; 0 as above. */
int32_t sh_rpc_rows_per_piece(enum sh_rpc_format format, int64_t width);

/* n rows of f32 into bytes and back.  `width` fits the format; bytes at any alignment. */
void sh_rpc_rows_encode(enum sh_rpc_format format, int64_t width, int64_t n, void *dst,
                        const float *src);
void sh_rpc_rows_decode(enum sh_rpc_format format, int64_t width, int64_t n, float *dst,
                        const void *src);
/* Does a message hold what it says: a known format, n_rows * row bytes of data?  ERR_FORMAT names
 * the numbers. */
SHOAL_NODISCARD enum shoal_status sh_rpc_rows_check(uint32_t format, int64_t width, uint32_t n_rows,
                                                    size_t data_bytes, struct shoal_error *err);

/* "f32", "f16", "q8"; COUNT if none. */
const char *sh_rpc_format_name(enum sh_rpc_format format);
enum sh_rpc_format sh_rpc_format_find(struct sh_str name);

#endif
