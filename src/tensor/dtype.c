/* tensor/dtype.c - the table behind dtype.h, indexed by id. */
#include "tensor/dtype.h"

#include <strings.h>

#include "base/mem.h"

static const struct sh_dtype_info INFO[SH_DTYPE_COUNT] = {
#define X(tag, id, text, len, bytes, with)                                                         \
    [id] = {.name = (text), .block_len = (len), .block_bytes = (bytes), .partner = SH_DTYPE_##with},
    SH_DTYPES(X)
#undef X
};

bool sh_dtype_valid(uint32_t id)
{
    return id < SH_DTYPE_COUNT && INFO[id].name;
}

const struct sh_dtype_info *sh_dtype_info(enum sh_dtype t)
{
    SH_ASSERT(sh_dtype_valid((uint32_t)t));
    return &INFO[t];
}

bool sh_dtype_row_bytes(enum sh_dtype t, int64_t n, size_t *out)
{
    const struct sh_dtype_info *info = sh_dtype_info(t);

    if (n < 0 || n % info->block_len != 0) return false;
    return sh_mul_ok((size_t)(n / info->block_len), info->block_bytes, out);
}

enum sh_dtype sh_dtype_find(struct sh_str name)
{
    for (uint32_t id = 0; id < SH_DTYPE_COUNT; id++) {
        const char *have = INFO[id].name;
        if (have && strlen(have) == name.len && strncasecmp(have, name.ptr, name.len) == 0) {
            return (enum sh_dtype)id;
        }
    }
    return SH_DTYPE_COUNT;
}
