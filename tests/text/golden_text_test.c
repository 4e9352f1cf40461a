/* The texts of tests/data/models/index.json give the ids that a stock implementation gave, with
 * the tokenizer of the model file: special tokens parsed, BOS and EOS as the file says. */
#include "gguf_desc.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "vocab_case.h"

#define MODELS "tests/data/models/"

/* The ids of `list` as vocab_case_holds() takes them. */
static void write_ids(char *dst, size_t cap, const json_t *list)
{
    size_t n = 0;

    dst[0] = '\0';
    for (size_t i = 0; i < json_array_size(list); i++) {
        const int id = (int)json_integer_value(json_array_get(list, i));
        n += (size_t)snprintf(dst + n, cap - n, "%d ", id);
        assert_true(n < cap);
    }
}

static void one_entry(const json_t *entry)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_vocab *v = NULL;
    struct gguf_desc d;
    char path[256], ids[4096];

    (void)snprintf(path, sizeof path, MODELS "%s",
                   json_string_value(json_object_get(entry, "file")));
    write_ids(ids, sizeof ids, json_object_get(entry, "text_ids"));
    if (gguf_desc_open(&d, path, &err)) fail_msg("%s", err.message);
    if (sh_vocab_create(&v, &d.desc, &err)) fail_msg("%s: %s", path, err.message);
    if (!vocab_case_holds(v, sh_str_from(json_string_value(json_object_get(entry, "text"))), true,
                          true, ids))
        fail_msg("%s differs", path);
    sh_vocab_destroy(v);
    gguf_desc_close(&d);
}

static void golden_text__ids_equal(void **state)
{
    json_error_t why;
    json_t *root = json_load_file(MODELS "index.json", 0, &why);
    const json_t *entries = json_object_get(root, "entries");
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        if (!json_is_string(json_object_get(entry, "text"))) continue;
        one_entry(entry);
        n++;
    }
    assert_true(n >= 8);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_text__ids_equal)};
    return cmocka_run_group_tests_name("golden_text", tests, NULL, NULL);
}
