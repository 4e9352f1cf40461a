/* gguf/describe_text.c - a model's description as tables for a person.
 *
 * Every string of the file passes sh_gguf_escape() on its way out.
 */
#include "gguf/describe_priv.h"

#include <inttypes.h>
#include <stdio.h>

#include "gguf/show_priv.h"

/* Widths of columns, in characters.  Longer cells push their line to the right. */
enum { LABEL = 20, KEY_MAX = 48, VALUE_MAX = 60, STRING_MAX = 16, ELEMENTS_MAX = 8 };
/* A token is found by walking all before it: honest files have a dozen such keys. */
enum { IDS_LOOKED_UP = 32 };

static void pad(struct sh_gguf_printer *p, size_t have, size_t want)
{
    for (size_t i = have; i < want; i++)
        sh_gguf_print(p, " ");
}

/* `s`, escaped and cut after `max` characters, in a column of `width`. */
static void cell(struct sh_gguf_printer *p, struct sh_str s, size_t max, size_t width)
{
    size_t have = 0;

    if (p->st) return;
    p->st = sh_gguf_escape(p->out, s, max, false, &have);
    if (width) pad(p, have, width);
}

static void right(struct sh_gguf_printer *p, const char *s, size_t width)
{
    pad(p, strlen(s), width);
    sh_gguf_print(p, s);
}

static size_t width_of(struct sh_gguf_printer *p, struct sh_str s)
{
    size_t width = 0;

    sh_buf_clear(&p->scratch);
    if (!p->st) p->st = sh_gguf_escape(&p->scratch, s, SIZE_MAX, false, &width);
    return width;
}

static void label(struct sh_gguf_printer *p, struct sh_str s, size_t width)
{
    sh_gguf_print(p, "  ");
    cell(p, s, SIZE_MAX, width);
    sh_gguf_print(p, "  ");
}

static void heading(struct sh_gguf_printer *p, const char *s)
{
    sh_gguf_printf(p, "\n%s\n", s);
}

/* "93.8 MiB", or nothing below 1 KiB. */
static struct sh_gguf_decimal human_bytes(uint64_t n)
{
    static const char *const UNITS[] = {"KiB", "MiB", "GiB", "TiB"};
    struct sh_gguf_decimal s = {.text = ""};
    double v = (double)n / 1024;
    size_t u = 0;

    for (; v >= 999.95 && u < 3; u++)
        v /= 1024;
    if (n >= 1024) (void)snprintf(s.text, sizeof s.text, "%.1f %s", v, UNITS[u]);
    return s;
}

static struct sh_gguf_decimal human_count(uint64_t n)
{
    static const char *const UNITS[] = {"thousand", "million", "billion", "trillion"};
    struct sh_gguf_decimal s = {.text = ""};
    double v = (double)n / 1000;
    size_t u = 0;

    for (; v >= 999.95 && u < 3; u++)
        v /= 1000;
    if (n >= 1000) (void)snprintf(s.text, sizeof s.text, "%.1f %s", v, UNITS[u]);
    return s;
}

/* "1,234,567 (1.2 MiB)" with `unit` behind the number. */
static void amount(struct sh_gguf_printer *p, uint64_t n, const char *unit,
                   const struct sh_gguf_decimal *human)
{
    sh_gguf_printf(p, "%s%s", sh_gguf_show_count(n).text, unit);
    if (human->text[0]) sh_gguf_printf(p, " (%s)", human->text);
}

/* ---- values ------------------------------------------------------------------------------- */

static void print_number(struct sh_gguf_printer *p, const struct sh_gguf_value *v, size_t i)
{
    int64_t n;
    uint64_t u;
    double d;
    bool b;

    if (sh_gguf_int_at(v, i, &n)) {
        sh_gguf_printf(p, "%" PRId64, n);
    } else if (sh_gguf_uint_at(v, i, &u)) {
        sh_gguf_printf(p, "%" PRIu64, u);
    } else if (sh_gguf_double_at(v, i, &d)) {
        sh_gguf_print(p, sh_gguf_show_double(d, v->elem == SH_GGUF_F32).text);
    } else if (sh_gguf_bool_at(v, i, &b)) {
        sh_gguf_print(p, b ? "true" : "false");
    }
}

static void print_array(struct sh_gguf_printer *p, const struct sh_gguf_value *v)
{
    struct sh_gguf_strings it = sh_gguf_strings_over(v);
    const size_t start = p->out->len;
    struct sh_str s;
    size_t width, i;

    sh_gguf_print(p, "[");
    for (i = 0; i < v->count && i < ELEMENTS_MAX && p->out->len - start < VALUE_MAX; i++) {
        if (i) sh_gguf_print(p, ", ");
        if (sh_gguf_strings_next(&it, &s)) {
            if (!p->st) p->st = sh_gguf_escape(p->out, s, STRING_MAX, true, &width);
        } else {
            print_number(p, v, i);
        }
    }
    sh_gguf_print(p, i < v->count ? ", ...]" : "]");
}

static void print_value(struct sh_gguf_printer *p, const struct sh_gguf_value *v)
{
    struct sh_gguf_strings it = sh_gguf_strings_over(v);
    struct sh_str s;

    if (sh_gguf_is_array(v)) {
        print_array(p, v);
    } else if (sh_gguf_strings_next(&it, &s)) {
        cell(p, s, VALUE_MAX, 0);
    } else {
        print_number(p, v, 0);
    }
}

static bool starts_with(struct sh_str s, const char *prefix)
{
    const size_t n = strlen(prefix);

    return s.len >= n && memcmp(s.ptr, prefix, n) == 0;
}

static bool ends_with(struct sh_str s, const char *suffix)
{
    const size_t n = strlen(suffix);

    return s.len >= n && memcmp(s.ptr + s.len - n, suffix, n) == 0;
}

static struct sh_str without(struct sh_str s, size_t front, size_t back)
{
    return (struct sh_str){s.ptr + front, s.len - front - back};
}

/* ---- sections ----------------------------------------------------------------------------- */

static void print_title(struct sh_gguf_printer *p, const struct sh_gguf *g,
                        const struct sh_gguf_summary *s)
{
    const int n = sh_gguf_n_shards(g);
    const struct sh_gguf_decimal human = human_bytes(s->file_bytes);

    for (int i = 0; i < n; i++) {
        cell(p, sh_str_from(sh_gguf_path(g, i)), SIZE_MAX, 0);
        sh_gguf_print(p, "\n");
    }
    sh_gguf_printf(p, "GGUF version %" PRIu32 ", ", sh_gguf_version(g));
    if (n > 1) sh_gguf_printf(p, "%d files, ", n);
    amount(p, s->file_bytes, " bytes", &human);
    sh_gguf_printf(p, ", %zu metadata keys, %zu tensors\n", sh_gguf_n_values(g),
                   sh_gguf_n_tensors(g));
}

static void print_mix(struct sh_gguf_printer *p, const struct sh_gguf_summary *s)
{
    bool some = false;

    for (uint32_t id = 0; id < SH_DTYPE_COUNT; id++) {
        const struct sh_gguf_total *t = &s->by_type[id];
        if (t->n_tensors == 0) continue;
        sh_gguf_printf(p, "%s%s %.1f %%", some ? ", " : "", sh_dtype_info((enum sh_dtype)id)->name,
                       100.0 * (double)t->bytes / (double)s->all.bytes);
        some = true;
    }
}

static void print_model(struct sh_gguf_printer *p, const struct sh_gguf *g,
                        const struct sh_gguf_summary *s)
{
    static const char *const KEYS[] = {
        "general.type",         "general.size_label", "general.basename",     "general.finetune",
        "general.version",      "general.author",     "general.organization", "general.description",
        "general.quantized_by", "general.license",    "general.license.name", "general.url",
        "general.repo_url",     "general.tags",       "general.languages",
    };
    struct sh_gguf_decimal human = human_count(s->all.n_elements);

    heading(p, "Model");
    label(p, SH_STR_LIT("architecture"), LABEL);
    cell(p, s->architecture.len ? s->architecture : SH_STR_LIT("(not said)"), VALUE_MAX, 0);
    if (s->name.len) {
        sh_gguf_print(p, "\n");
        label(p, SH_STR_LIT("name"), LABEL);
        cell(p, s->name, VALUE_MAX, 0);
    }
    sh_gguf_print(p, "\n");
    label(p, SH_STR_LIT("parameters"), LABEL);
    amount(p, s->all.n_elements, "", &human);
    sh_gguf_print(p, "\n");
    label(p, SH_STR_LIT("weights"), LABEL);
    human = human_bytes(s->all.bytes);
    amount(p, s->all.bytes, " bytes", &human);
    if (s->all.bytes) {
        sh_gguf_printf(p, ", %.2f bits each\n", sh_gguf_bits_per_weight(s));
        label(p, SH_STR_LIT("quantisation"), LABEL);
        if (s->file_type) sh_gguf_printf(p, "%s: ", s->file_type);
        print_mix(p, s);
    }
    sh_gguf_print(p, "\n");
    for (size_t i = 0; i < sizeof KEYS / sizeof KEYS[0]; i++) {
        const struct sh_gguf_value *v = sh_gguf_find(g, KEYS[i]);
        if (!v) continue;
        label(p, without(v->key, strlen("general."), 0), LABEL);
        print_value(p, v);
        sh_gguf_print(p, "\n");
    }
}

static bool is_hyper(struct sh_str key, struct sh_str arch)
{
    return arch.len && key.len > arch.len + 1 && key.ptr[arch.len] == '.' &&
           memcmp(key.ptr, arch.ptr, arch.len) == 0;
}

static void print_hyper(struct sh_gguf_printer *p, const struct sh_gguf *g, struct sh_str arch)
{
    size_t width = LABEL;
    bool some = false;

    for (size_t i = 0; i < sh_gguf_n_values(g); i++) {
        const struct sh_str key = sh_gguf_value(g, i)->key;
        const size_t w = is_hyper(key, arch) ? width_of(p, without(key, arch.len + 1, 0)) : 0;
        if (w > width && w <= KEY_MAX) width = w;
    }
    for (size_t i = 0; i < sh_gguf_n_values(g); i++) {
        const struct sh_gguf_value *v = sh_gguf_value(g, i);
        if (!is_hyper(v->key, arch)) continue;
        if (!some) heading(p, "Hyper-parameters");
        some = true;
        label(p, without(v->key, arch.len + 1, 0), width);
        print_value(p, v);
        sh_gguf_print(p, "\n");
    }
}

/* How many tokens of each kind there are. */
static void print_token_kinds(struct sh_gguf_printer *p, const struct sh_gguf *g)
{
    static const char *const KINDS[] = {"undefined",    "normal", "unknown", "control",
                                        "user-defined", "unused", "byte"};
    enum { N_KINDS = sizeof KINDS / sizeof KINDS[0] };
    const struct sh_gguf_value *v = sh_gguf_find(g, "tokenizer.ggml.token_type");
    size_t n[N_KINDS] = {0};
    const char *join = ": ";
    int64_t kind;

    for (size_t i = 0; v && i < v->count; i++) {
        if (sh_gguf_int_at(v, i, &kind) && kind >= 0 && kind < N_KINDS) n[kind]++;
    }
    for (int k = 0; k < N_KINDS; k++) {
        if (n[k] == 0) continue;
        sh_gguf_printf(p, "%s%s %s", join, sh_gguf_show_count(n[k]).text, KINDS[k]);
        join = ", ";
    }
}

/* "1 <s>": an id and, if `look_up`, the token that it stands for. */
static void print_token(struct sh_gguf_printer *p, const struct sh_gguf *g,
                        const struct sh_gguf_value *id, bool look_up)
{
    const struct sh_gguf_value *tokens = sh_gguf_find(g, "tokenizer.ggml.tokens");
    struct sh_str s = SH_STR_EMPTY;
    int64_t n;

    print_value(p, id);
    if (!look_up || !tokens || sh_gguf_is_array(id) || !sh_gguf_int_at(id, 0, &n)) return;
    if (n >= 0 && (uint64_t)n < tokens->count && tokens->elem == SH_GGUF_STRING) {
        struct sh_gguf_strings it = sh_gguf_strings_over(tokens);
        for (int64_t i = 0; i <= n; i++)
            (void)sh_gguf_strings_next(&it, &s);
        sh_gguf_print(p, "  ");
        cell(p, s, VALUE_MAX, 0);
    } else {
        sh_gguf_print(p, "  (no such token)");
    }
}

static void print_tokenizer(struct sh_gguf_printer *p, const struct sh_gguf *g)
{
    static const char FRONT[] = "tokenizer.ggml.";
    const size_t front = sizeof FRONT - 1;
    bool some = false;
    int n_ids = 0;

    for (size_t i = 0; i < sh_gguf_n_values(g); i++) {
        const struct sh_gguf_value *v = sh_gguf_value(g, i);
        if (!starts_with(v->key, "tokenizer.")) continue;
        if (!some) heading(p, "Tokenizer");
        some = true;
        if (ends_with(v->key, "_token_id") && starts_with(v->key, FRONT)) {
            label(p, without(v->key, front, strlen("_token_id")), LABEL);
            print_token(p, g, v, n_ids++ < IDS_LOOKED_UP);
        } else if (sh_gguf_is_array(v)) {
            label(p, without(v->key, starts_with(v->key, FRONT) ? front : 10, 0), LABEL);
            sh_gguf_print(p, sh_gguf_show_count(v->count).text);
            if (sh_str_is(v->key, "tokenizer.ggml.tokens")) print_token_kinds(p, g);
        } else if (v->type == SH_GGUF_STRING && starts_with(v->key, "tokenizer.chat_template")) {
            label(p, without(v->key, 10, 0), LABEL);
            sh_gguf_printf(p, "%s bytes", sh_gguf_show_count(v->n_bytes - 8).text);
        } else {
            label(p, without(v->key, starts_with(v->key, FRONT) ? front : 10, 0), LABEL);
            print_value(p, v);
        }
        sh_gguf_print(p, "\n");
    }
}

static void print_metadata(struct sh_gguf_printer *p, const struct sh_gguf *g)
{
    size_t key_width = 0, type_width = 0;
    char type[48];

    for (size_t i = 0; i < sh_gguf_n_values(g); i++) {
        const size_t w = width_of(p, sh_gguf_value(g, i)->key);
        if (w > key_width && w <= KEY_MAX) key_width = w;
    }
    if (sh_gguf_n_values(g)) heading(p, "Metadata");
    for (int pass = 0; pass < 2; pass++) { // the first only measures the types
        for (size_t i = 0; i < sh_gguf_n_values(g); i++) {
            const struct sh_gguf_value *v = sh_gguf_value(g, i);
            int len = snprintf(type, sizeof type, "%s", sh_gguf_type_name(v->elem));
            if (sh_gguf_is_array(v)) {
                len = snprintf(type, sizeof type, "%s[%zu]", sh_gguf_type_name(v->elem), v->count);
            }
            if (pass == 0) {
                if ((size_t)len > type_width) type_width = (size_t)len;
                continue;
            }
            label(p, v->key, key_width);
            sh_gguf_printf(p, "%-*s  ", (int)type_width, type);
            print_value(p, v);
            sh_gguf_print(p, "\n");
        }
    }
}

static void shape_text(const struct sh_gguf_tensor *t, char *out, size_t cap)
{
    size_t at = 0;

    for (int d = 0; d < t->n_dims && at < cap; d++) {
        at += (size_t)snprintf(out + at, cap - at, "%s%" PRId64, d ? " x " : "", t->ne[d]);
    }
}

static void print_tensors(struct sh_gguf_printer *p, const struct sh_gguf *g)
{
    const bool split = sh_gguf_n_shards(g) > 1;
    size_t name_width = 4, shape_width = 5;
    char shape[128];

    if (sh_gguf_n_tensors(g) == 0) return;
    for (size_t i = 0; i < sh_gguf_n_tensors(g); i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        const size_t w = width_of(p, t->name);
        shape_text(t, shape, sizeof shape);
        if (w > name_width) name_width = w;
        if (strlen(shape) > shape_width) shape_width = strlen(shape);
    }
    heading(p, "Tensors");
    label(p, SH_STR_LIT("name"), name_width);
    sh_gguf_printf(p, "type     %-*s", (int)shape_width, "shape");
    right(p, "bytes", 18);
    sh_gguf_print(p, split ? "  file\n" : "\n");
    for (size_t i = 0; i < sh_gguf_n_tensors(g); i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        shape_text(t, shape, sizeof shape);
        label(p, t->name, name_width);
        sh_gguf_printf(p, "%-9s%-*s", sh_dtype_info(t->dtype)->name, (int)shape_width, shape);
        right(p, sh_gguf_show_count(t->data_bytes).text, 18);
        if (split) sh_gguf_printf(p, "  %4d", t->shard + 1);
        sh_gguf_print(p, "\n");
    }
}

static void print_total(struct sh_gguf_printer *p, const char *name, const struct sh_gguf_total *t,
                        const struct sh_gguf_total *all)
{
    label(p, sh_str_from(name), 9);
    right(p, sh_gguf_show_count(t->n_tensors).text, 7);
    right(p, sh_gguf_show_count(t->n_elements).text, 20);
    right(p, sh_gguf_show_count(t->bytes).text, 20);
    sh_gguf_printf(p, "  %5.1f %%\n", 100.0 * (double)t->bytes / (double)all->bytes);
}

static void print_totals(struct sh_gguf_printer *p, const struct sh_gguf_summary *s)
{
    if (s->all.bytes == 0) return;
    heading(p, "By type");
    label(p, SH_STR_LIT("type"), 9);
    right(p, "tensors", 7);
    right(p, "elements", 20);
    right(p, "bytes", 20);
    sh_gguf_print(p, "    share\n");
    for (uint32_t id = 0; id < SH_DTYPE_COUNT; id++) {
        if (s->by_type[id].n_tensors == 0) continue;
        print_total(p, sh_dtype_info((enum sh_dtype)id)->name, &s->by_type[id], &s->all);
    }
    print_total(p, "all", &s->all, &s->all);
}

void sh_gguf_describe_text(const struct sh_gguf *g, const struct sh_gguf_summary *s,
                           struct sh_gguf_printer *p)
{
    print_title(p, g, s);
    print_model(p, g, s);
    print_hyper(p, g, s->architecture);
    print_tokenizer(p, g);
    print_metadata(p, g);
    print_tensors(p, g);
    print_totals(p, s);
}
