/* The JSON description of models, read back by a JSON library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <jansson.h>

#include "gguf/describe.h"
#include "gguf/write.h"

static json_t *describe(const struct sh_gguf *g)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buf out = SH_BUF_INIT;
    json_error_t bad = {.text = ""};
    json_t *root;

    if (sh_gguf_describe(g, SH_DESCRIBE_JSON, &out, &err)) assert_string_equal(err.message, "");
    root = json_loadb(out.ptr, out.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &bad);
    if (!root) assert_string_equal(bad.text, "");
    sh_buf_release(&out);
    return root;
}

static json_t *open_and_describe(const char *path)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    json_t *root;

    if (sh_gguf_open(&g, path, &err)) assert_string_equal(err.message, "");
    root = describe(g);
    sh_gguf_close(g);
    return root;
}

static void describe_json__golden_models(void **state)
{
    json_t *index = json_load_file("tests/data/models/index.json", 0, NULL), *entry;
    char path[256];
    size_t i;

    (void)state;
    assert_non_null(index);
    json_array_foreach(json_object_get(index, "entries"), i, entry)
    {
        json_t *root, *shape, *tokens;
        (void)snprintf(path, sizeof path, "tests/data/models/%s",
                       json_string_value(json_object_get(entry, "file")));
        root = open_and_describe(path);
        shape = json_object_get(entry, "shape");
        tokens = json_object_get(json_object_get(root, "metadata"), "tokenizer.ggml.tokens");
        assert_int_equal(json_integer_value(json_object_get(tokens, "length")),
                         json_integer_value(json_array_get(shape, 1)));
        assert_int_equal(json_array_size(json_object_get(tokens, "value")),
                         json_integer_value(json_array_get(shape, 1)));
        assert_in_range(json_array_size(json_object_get(root, "tensors")), 10, 100);
        json_decref(root);
    }
    assert_int_equal(i, 8);
    json_decref(index);
}

/* Keys and strings of every single byte and of many pairs of bytes. */
static void describe_json__any_bytes(void **state)
{
    struct sh_gguf_writer *w = sh_gguf_writer_create();
    struct sh_buf bytes = SH_BUF_INIT;
    struct sh_gguf *g = NULL;
    char key[32], text[2];
    json_t *root, *metadata;

    (void)state;
    assert_non_null(w);
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 1; b < 256; b += 7) {
            (void)snprintf(key, sizeof key, "k%u.%u.%c", a, b, (char)b);
            text[0] = (char)a;
            text[1] = (char)b;
            sh_gguf_put_str(w, key, (struct sh_str){text, 2});
        }
    }
    assert_int_equal(sh_gguf_write_memory(w, &bytes, NULL), SHOAL_OK);
    assert_int_equal(sh_gguf_open_memory(&g, bytes.ptr, bytes.len, "m", NULL), SHOAL_OK);
    root = describe(g);
    metadata = json_object_get(root, "metadata");
    assert_int_equal(json_object_size(metadata), sh_gguf_n_values(g));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(metadata, "k65.92.\\"), "value")), "A\\");
    json_decref(root);
    sh_gguf_close(g);
    sh_gguf_writer_destroy(w);
    sh_buf_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describe_json__golden_models),
        cmocka_unit_test(describe_json__any_bytes),
    };
    return cmocka_run_group_tests_name("gguf describe json", tests, NULL, NULL);
}
