/* gguf/describe.c - adding up what is in a model, and choosing the form of its description. */
#include "gguf/describe.h"

#include <stdarg.h>
#include <stdio.h>

#include "gguf/describe_priv.h"

/* general.file_type, in llama.cpp's numbering. */
static const char *const FILE_TYPES[] = {
    [0] = "F32",      [1] = "F16",      [2] = "Q4_0",       [3] = "Q4_1",    [7] = "Q8_0",
    [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",      [11] = "Q3_K_S", [12] = "Q3_K_M",
    [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M",    [16] = "Q5_K_S", [17] = "Q5_K_M",
    [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS",    [21] = "Q2_K_S", [22] = "IQ3_XS",
    [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL",    [26] = "IQ3_S",  [27] = "IQ3_M",
    [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS",    [31] = "IQ1_M",  [32] = "BF16",
    [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4_MOE", [39] = "NVFP4",  [40] = "Q1_0",
    [41] = "Q2_0",
};

static struct sh_str string_of(const struct sh_gguf *g, const char *key)
{
    struct sh_str s;

    return sh_gguf_get_str(g, key, SH_STR_EMPTY, &s, NULL) ? SH_STR_EMPTY : s;
}

void sh_gguf_summarize(const struct sh_gguf *g, struct sh_gguf_summary *s)
{
    uint32_t type;

    *s = (struct sh_gguf_summary){
        .architecture = string_of(g, "general.architecture"),
        .name = string_of(g, "general.name"),
    };
    if (!sh_gguf_get_u32(g, "general.file_type", UINT32_MAX, &type, NULL) &&
        type < sizeof FILE_TYPES / sizeof FILE_TYPES[0]) {
        s->file_type = FILE_TYPES[type];
    }
    for (int i = 0; i < sh_gguf_n_shards(g); i++)
        s->file_bytes += sh_gguf_file_bytes(g, i);
    for (size_t i = 0; i < sh_gguf_n_tensors(g); i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        struct sh_gguf_total *const sums[] = {&s->all, &s->by_type[t->dtype]};
        const int64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; // checked at open
        for (int k = 0; k < 2; k++) {
            sums[k]->n_tensors++;
            sums[k]->n_elements += (uint64_t)n;
            sums[k]->bytes += t->data_bytes;
        }
    }
}

void sh_gguf_print(struct sh_gguf_printer *p, const char *s)
{
    if (!p->st) p->st = sh_buf_append(p->out, s, strlen(s));
}

void sh_gguf_printf(struct sh_gguf_printer *p, const char *fmt, ...)
{
    char text[200];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0) text[0] = '\0';
    va_end(args);
    sh_gguf_print(p, text);
}

enum shoal_status sh_gguf_describe(const struct sh_gguf *g, enum sh_describe_form form,
                                   struct sh_buf *out, struct shoal_error *err)
{
    struct sh_gguf_printer p = {.out = out, .scratch = SH_BUF_INIT, .st = SHOAL_OK};
    const size_t start = out->len;
    struct sh_gguf_summary s;
    enum shoal_status st;

    sh_gguf_summarize(g, &s);
    if (form == SH_DESCRIBE_JSON) {
        sh_gguf_describe_json(g, &s, &p);
    } else {
        sh_gguf_describe_text(g, &s, &p);
    }
    sh_buf_release(&p.scratch);
    st = p.st;
    if (st) {
        st = sh_fail(err, st, "gguf: %.150s: no memory to describe it", sh_gguf_path(g, 0));
    } else if (sh_gguf_faulted(g)) {
        st = sh_fail(err, SHOAL_ERR_IO, "gguf: %.150s: the file shrank while it was read",
                     sh_gguf_path(g, 0));
    }
    if (st && out->ptr) {
        out->len = start;
        out->ptr[start] = '\0';
    }
    return st;
}
