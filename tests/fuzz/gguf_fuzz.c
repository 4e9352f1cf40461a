/* Fuzz target: any bytes as a GGUF model.  Whatever opens must be readable to its last byte and
 * describable in both forms.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "gguf/describe.h"
#include "gguf/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every byte must be there. */
static void touch(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)((const volatile uint8_t *)p)[i];
}

static void check(const struct sh_gguf *g)
{
    struct sh_gguf_strings it;
    struct sh_buf out = SH_BUF_INIT;
    struct sh_str s;

    for (size_t i = 0; i < sh_gguf_n_values(g); i++) {
        it = sh_gguf_strings_over(sh_gguf_value(g, i));
        while (sh_gguf_strings_next(&it, &s))
            touch(s.ptr, s.len);
    }
    for (size_t i = 0; i < sh_gguf_n_tensors(g); i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        touch(t->data, t->data_bytes);
        if (sh_gguf_find_tensor(g, t->name) != t) abort();
    }
    if (sh_gguf_describe(g, SH_DESCRIBE_TEXT, &out, NULL)) abort();
    if (sh_gguf_describe(g, SH_DESCRIBE_JSON, &out, NULL)) abort();
    sh_buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;

    if (sh_gguf_open_memory(&g, data, size, "fuzz", &err)) {
        if (g || err.message[0] == '\0') abort();
        return 0;
    }
    check(g);
    sh_gguf_close(g);
    return 0;
}
