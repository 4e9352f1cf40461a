/* gguf/describe_priv.h - what the text and the JSON description have in common. */
#ifndef GGUF_DESCRIBE_PRIV_H
#define GGUF_DESCRIBE_PRIV_H

#include "gguf/describe.h"

struct sh_gguf_total {
    size_t n_tensors;
    uint64_t n_elements, bytes;
};

struct sh_gguf_summary {
    struct sh_str architecture, name; /* empty if not said */
    const char *file_type;            /* name of general.file_type, NULL if absent or unknown */
    uint64_t file_bytes;              /* of all shards */
    struct sh_gguf_total all, by_type[SH_DTYPE_COUNT];
};

void sh_gguf_summarize(const struct sh_gguf *g, struct sh_gguf_summary *s);
static inline double sh_gguf_bits_per_weight(const struct sh_gguf_summary *s)
{
    return s->all.n_elements ? 8.0 * (double)s->all.bytes / (double)s->all.n_elements : 0;
}

/* Appending with one status to look at, at the end. */
struct sh_gguf_printer {
    struct sh_buf *out;
    struct sh_buf scratch;
    enum shoal_status st; /* the first failure; nothing is appended after it */
};
void sh_gguf_print(struct sh_gguf_printer *p, const char *s);
/* At most 200 bytes of output. */
void sh_gguf_printf(struct sh_gguf_printer *p, const char *fmt, ...) SHOAL_PRINTF(2, 3);

void sh_gguf_describe_text(const struct sh_gguf *g, const struct sh_gguf_summary *s,
                           struct sh_gguf_printer *p);
void sh_gguf_describe_json(const struct sh_gguf *g, const struct sh_gguf_summary *s,
                           struct sh_gguf_printer *p);

#endif
