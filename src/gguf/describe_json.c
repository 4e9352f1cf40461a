/* gguf/describe_json.c - a model's description as one JSON object.
 *
 * Members of the object and of "metadata" stand on lines of their own, each tensor on one line.
 * Integers are exact whatever their size; numbers that JSON lacks are strings ("nan", "inf").
 */
#include "gguf/describe_priv.h"

#include <inttypes.h>
#include <math.h>

#include "gguf/show_priv.h"

/* Arrays of more elements than this show as many and their length. */
enum { ARRAY_SHOWN = 16, ARRAY_WHOLE = 256, DEPTH_MAX = 8 };

struct json {
    struct sh_gguf_printer *p;
    int depth;
    int flat;             /* depth from which everything is on one line; 0: nowhere yet */
    bool some[DEPTH_MAX]; /* has the container at this depth a member? */
};

static void put_string(struct json *j, struct sh_str s)
{
    if (!j->p->st) j->p->st = sh_gguf_json_quote(j->p->out, s);
}

/* Comma, line and key in front of a value.  A key with ptr NULL: an element of an array. */
static void put_lead(struct json *j, struct sh_str key)
{
    const bool on_line = j->flat && j->depth >= j->flat;

    if (j->some[j->depth]) sh_gguf_print(j->p, on_line ? ", " : ",");
    if (!on_line && j->depth > 0) sh_gguf_printf(j->p, "\n%*s", 2 * j->depth, "");
    j->some[j->depth] = true;
    if (!key.ptr) return;
    put_string(j, key);
    sh_gguf_print(j->p, ": ");
}

static const struct sh_str NO_KEY = {NULL, 0};

static void begin(struct json *j, struct sh_str key, const char *bracket, bool flat)
{
    put_lead(j, key);
    sh_gguf_print(j->p, bracket);
    j->depth++;
    SH_ASSERT(j->depth < DEPTH_MAX);
    j->some[j->depth] = false;
    if (flat && !j->flat) j->flat = j->depth;
}

static void end(struct json *j, const char *bracket)
{
    const bool on_line = j->flat && j->depth >= j->flat;

    if (!on_line && j->some[j->depth]) sh_gguf_printf(j->p, "\n%*s", 2 * (j->depth - 1), "");
    if (j->flat == j->depth) j->flat = 0;
    j->depth--;
    sh_gguf_print(j->p, bracket);
}

static void put_str(struct json *j, const char *key, struct sh_str s)
{
    put_lead(j, sh_str_from(key));
    put_string(j, s);
}

static void put_uint(struct json *j, const char *key, uint64_t v)
{
    put_lead(j, sh_str_from(key));
    sh_gguf_printf(j->p, "%" PRIu64, v);
}

static void put_double(struct json *j, double d, bool is_f32)
{
    const char *quote = isfinite(d) ? "" : "\"";

    sh_gguf_printf(j->p, "%s%s%s", quote, sh_gguf_show_double(d, is_f32).text, quote);
}

/* Element i of `v`, which holds no strings. */
static void put_element(struct json *j, const struct sh_gguf_value *v, size_t i)
{
    int64_t n;
    uint64_t u;
    double d;
    bool b;

    if (sh_gguf_int_at(v, i, &n)) {
        sh_gguf_printf(j->p, "%" PRId64, n);
    } else if (sh_gguf_uint_at(v, i, &u)) {
        sh_gguf_printf(j->p, "%" PRIu64, u);
    } else if (sh_gguf_double_at(v, i, &d)) {
        put_double(j, d, v->elem == SH_GGUF_F32);
    } else if (sh_gguf_bool_at(v, i, &b)) {
        sh_gguf_print(j->p, b ? "true" : "false");
    } else {
        sh_gguf_print(j->p, "null");
    }
}

static void put_elements(struct json *j, const struct sh_gguf_value *v, size_t n)
{
    struct sh_gguf_strings it = sh_gguf_strings_over(v);
    struct sh_str s;

    for (size_t i = 0; i < n; i++) {
        put_lead(j, NO_KEY);
        if (sh_gguf_strings_next(&it, &s)) {
            put_string(j, s);
        } else {
            put_element(j, v, i);
        }
    }
}

static void put_value(struct json *j, const struct sh_gguf_value *v)
{
    const bool whole = v->count <= ARRAY_WHOLE;
    struct sh_gguf_strings it = sh_gguf_strings_over(v);
    struct sh_str s;

    begin(j, v->key, "{", true);
    put_str(j, "type", sh_str_from(sh_gguf_type_name(v->type)));
    if (sh_gguf_is_array(v)) {
        put_str(j, "of", sh_str_from(sh_gguf_type_name(v->elem)));
        put_uint(j, "length", v->count);
        begin(j, sh_str_from(whole ? "value" : "first"), "[", true);
        put_elements(j, v, whole ? v->count : ARRAY_SHOWN);
        end(j, "]");
    } else {
        put_lead(j, SH_STR_LIT("value"));
        if (sh_gguf_strings_next(&it, &s)) {
            put_string(j, s);
        } else {
            put_element(j, v, 0);
        }
    }
    end(j, "}");
}

static void put_tensor(struct json *j, const struct sh_gguf_tensor *t)
{
    begin(j, NO_KEY, "{", true);
    put_str(j, "name", t->name);
    put_str(j, "type", sh_str_from(sh_dtype_info(t->dtype)->name));
    begin(j, SH_STR_LIT("shape"), "[", true);
    for (int d = 0; d < t->n_dims; d++) {
        put_lead(j, NO_KEY);
        sh_gguf_printf(j->p, "%" PRId64, t->ne[d]);
    }
    end(j, "]");
    put_uint(j, "bytes", t->data_bytes);
    put_uint(j, "offset", t->offset);
    put_uint(j, "file", (uint64_t)t->shard);
    end(j, "}");
}

static void put_files(struct json *j, const struct sh_gguf *g)
{
    begin(j, SH_STR_LIT("files"), "[", false);
    for (int i = 0; i < sh_gguf_n_shards(g); i++) {
        begin(j, NO_KEY, "{", true);
        put_str(j, "path", sh_str_from(sh_gguf_path(g, i)));
        put_uint(j, "bytes", sh_gguf_file_bytes(g, i));
        put_uint(j, "alignment", sh_gguf_alignment(g, i));
        end(j, "}");
    }
    end(j, "]");
}

static void put_total(struct json *j, const char *key, const struct sh_gguf_total *t)
{
    begin(j, sh_str_from(key), "{", true);
    put_uint(j, "tensors", t->n_tensors);
    put_uint(j, "elements", t->n_elements);
    put_uint(j, "bytes", t->bytes);
    end(j, "}");
}

void sh_gguf_describe_json(const struct sh_gguf *g, const struct sh_gguf_summary *s,
                           struct sh_gguf_printer *p)
{
    struct json j = {.p = p};

    begin(&j, NO_KEY, "{", false);
    put_files(&j, g);
    put_uint(&j, "gguf_version", sh_gguf_version(g));
    put_str(&j, "architecture", s->architecture);
    put_str(&j, "name", s->name);
    if (s->file_type) put_str(&j, "file_type", sh_str_from(s->file_type));
    put_uint(&j, "parameters", s->all.n_elements);
    put_uint(&j, "weight_bytes", s->all.bytes);
    put_lead(&j, SH_STR_LIT("bits_per_weight"));
    put_double(&j, round(sh_gguf_bits_per_weight(s) * 1000) / 1000, false);
    begin(&j, SH_STR_LIT("types"), "{", false);
    for (uint32_t id = 0; id < SH_DTYPE_COUNT; id++) {
        if (s->by_type[id].n_tensors == 0) continue;
        put_total(&j, sh_dtype_info((enum sh_dtype)id)->name, &s->by_type[id]);
    }
    end(&j, "}");
    begin(&j, SH_STR_LIT("metadata"), "{", false);
    for (size_t i = 0; i < sh_gguf_n_values(g); i++)
        put_value(&j, sh_gguf_value(g, i));
    end(&j, "}");
    begin(&j, SH_STR_LIT("tensors"), "[", false);
    for (size_t i = 0; i < sh_gguf_n_tensors(g); i++)
        put_tensor(&j, sh_gguf_tensor(g, i));
    end(&j, "]");
    end(&j, "}");
    sh_gguf_print(p, "\n");
}
