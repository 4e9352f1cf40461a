/* gguf/metadata.c - looking up metadata of an open model and converting scalars. */
#include "gguf/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "gguf/file_priv.h"

size_t sh_gguf_n_values(const struct sh_gguf *g)
{
    return g->shards[0].n_values;
}

const struct sh_gguf_value *sh_gguf_value(const struct sh_gguf *g, size_t i)
{
    SH_ASSERT(i < g->shards[0].n_values);
    return &g->shards[0].values[i];
}

const struct sh_gguf_value *sh_gguf_find(const struct sh_gguf *g, const char *key)
{
    size_t i;

    if (!sh_gguf_names_find(&g->shards[0].keys, sh_str_from(key), &i)) return NULL;
    return &g->shards[0].values[i];
}

enum shoal_status sh_gguf_need(const struct sh_gguf *g, const char *key,
                               const struct sh_gguf_value **out, struct shoal_error *err)
{
    *out = sh_gguf_find(g, key);
    if (*out) return SHOAL_OK;
    return sh_gguf_fail(&g->shards[0], err, SHOAL_ERR_FORMAT, "key '%.80s' is missing", key);
}

/* What a message says of a value that is not what was wanted. */
struct shown {
    char text[64];
};

static struct shown show_value(const struct sh_gguf_value *v)
{
    struct shown s;
    int64_t i;
    uint64_t u;
    double d;

    if (sh_gguf_is_array(v)) {
        (void)snprintf(s.text, sizeof s.text, "an array of %zu %s", v->count,
                       sh_gguf_type_name(v->elem));
    } else if (sh_gguf_int_at(v, 0, &i)) {
        (void)snprintf(s.text, sizeof s.text, "%" PRId64 " (%s)", i, sh_gguf_type_name(v->type));
    } else if (sh_gguf_uint_at(v, 0, &u)) {
        (void)snprintf(s.text, sizeof s.text, "%" PRIu64 " (%s)", u, sh_gguf_type_name(v->type));
    } else if (sh_gguf_double_at(v, 0, &d)) {
        (void)snprintf(s.text, sizeof s.text, "%g (%s)", d, sh_gguf_type_name(v->type));
    } else {
        (void)snprintf(s.text, sizeof s.text, "a %s", sh_gguf_type_name(v->type));
    }
    return s;
}

static enum shoal_status wrong(const struct sh_gguf *g, const char *key,
                               const struct sh_gguf_value *v, const char *wanted,
                               struct shoal_error *err)
{
    return sh_gguf_fail(&g->shards[0], err, SHOAL_ERR_FORMAT, "key '%.80s' is %s, it must be %s",
                        key, show_value(v).text, wanted);
}

enum shoal_status sh_gguf_get_i64(const struct sh_gguf *g, const char *key, int64_t fallback,
                                  int64_t *out, struct shoal_error *err)
{
    const struct sh_gguf_value *v = sh_gguf_find(g, key);

    *out = fallback;
    if (!v) return SHOAL_OK;
    if (sh_gguf_is_array(v) || !sh_gguf_int_at(v, 0, out)) {
        return wrong(g, key, v, "an integer of at most 63 bits", err);
    }
    return SHOAL_OK;
}

enum shoal_status sh_gguf_get_u32(const struct sh_gguf *g, const char *key, uint32_t fallback,
                                  uint32_t *out, struct shoal_error *err)
{
    const struct sh_gguf_value *v = sh_gguf_find(g, key);
    int64_t i;

    *out = fallback;
    if (!v) return SHOAL_OK;
    if (sh_gguf_is_array(v) || !sh_gguf_int_at(v, 0, &i) || i < 0 || i > UINT32_MAX) {
        return wrong(g, key, v, "an integer from 0 to 4294967295", err);
    }
    *out = (uint32_t)i;
    return SHOAL_OK;
}

enum shoal_status sh_gguf_get_f32(const struct sh_gguf *g, const char *key, float fallback,
                                  float *out, struct shoal_error *err)
{
    const struct sh_gguf_value *v = sh_gguf_find(g, key);
    float f;

    *out = fallback;
    if (!v) return SHOAL_OK;
    if (sh_gguf_is_array(v) || !sh_gguf_float_at(v, 0, &f) || !isfinite(f)) {
        return wrong(g, key, v, "a finite float", err);
    }
    *out = f;
    return SHOAL_OK;
}

enum shoal_status sh_gguf_get_bool(const struct sh_gguf *g, const char *key, bool fallback,
                                   bool *out, struct shoal_error *err)
{
    const struct sh_gguf_value *v = sh_gguf_find(g, key);

    *out = fallback;
    if (!v) return SHOAL_OK;
    if (sh_gguf_is_array(v) || !sh_gguf_bool_at(v, 0, out)) return wrong(g, key, v, "a bool", err);
    return SHOAL_OK;
}

enum shoal_status sh_gguf_get_str(const struct sh_gguf *g, const char *key, struct sh_str fallback,
                                  struct sh_str *out, struct shoal_error *err)
{
    const struct sh_gguf_value *v = sh_gguf_find(g, key);

    *out = fallback;
    if (!v) return SHOAL_OK;
    if (v->type != SH_GGUF_STRING || !sh_gguf_fill_strings(v, out, 1)) {
        return wrong(g, key, v, "a string", err);
    }
    return SHOAL_OK;
}

static bool same_kind(enum sh_gguf_type have, enum sh_gguf_type want)
{
    if (sh_gguf_type_is_int(want)) return sh_gguf_type_is_int(have);
    if (want == SH_GGUF_F32 || want == SH_GGUF_F64) {
        return have == SH_GGUF_F32 || have == SH_GGUF_F64;
    }
    return have == want;
}

enum shoal_status sh_gguf_get_array(const struct sh_gguf *g, const char *key,
                                    enum sh_gguf_type elem, const struct sh_gguf_value **out,
                                    struct shoal_error *err)
{
    const struct sh_gguf_value *v = sh_gguf_find(g, key);

    *out = NULL;
    if (!v) return SHOAL_OK;
    if (!sh_gguf_is_array(v) || !same_kind(v->elem, elem)) {
        const char *wanted = sh_gguf_type_is_int(elem) ? "an array of integers"
                             : elem == SH_GGUF_STRING  ? "an array of strings"
                             : elem == SH_GGUF_BOOL    ? "an array of bools"
                                                       : "an array of floats";
        return wrong(g, key, v, wanted, err);
    }
    *out = v;
    return SHOAL_OK;
}
