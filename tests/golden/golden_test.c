/* tests/golden/golden_test.c - logits of small models against a stock implementation's.
 *
 * index.json of tests/data/models (llama) and tests/data/archs (others) names the runs: model,
 * token ids, golden logits, the largest acceptable NMSE.  Each runs whole, token by token and in
 * one batch; the tokenizer check of the same file goes along.  The golden numbers were made with an
 * f32 cache.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/mem.h"
#include "host/host.h"
#include "text/tokenize.h"

struct run {
    float *logits;
    int64_t n_vocab;
};

static void keep(void *self, int64_t index, const float *logits, int32_t n_vocab)
{
    struct run *r = self;

    memcpy(r->logits + index * n_vocab, logits, (size_t)n_vocab * sizeof *logits);
    r->n_vocab = n_vocab;
}

static const char *text_of(const json_t *e, const char *key)
{
    const char *s = json_string_value(json_object_get(e, key));

    if (!s) fail_msg("index.json: an entry has no %s", key);
    return s;
}

static struct sh_host *open_model(const char *folder, const json_t *e)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_host_options o = {.cache_f32 = true, .n_threads = 2};
    char path[256];
    struct sh_host *h;

    snprintf(path, sizeof path, "%s/%s", folder, text_of(e, "file"));
    o.model_path = path;
    o.n_ctx = json_integer_value(json_object_get(e, "n_ctx"));
    if (sh_host_open(&h, &o, &err)) fail_msg("%s", err.message);
    return h;
}

static int64_t read_ids(const json_t *list, int32_t *ids, int64_t max)
{
    const int64_t n = (int64_t)json_array_size(list);

    assert_true(n > 0 && n <= max);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return n;
}

static void check_logits(const char *folder, const json_t *e, struct sh_host *h, int64_t chunk)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const double bound = json_real_value(json_object_get(e, "bound"));
    struct sh_engine *engine;
    struct run r = {0};
    char path[256], *golden;
    int32_t ids[256];
    size_t bytes;
    double num = 0, den = 0;

    const int64_t n = read_ids(json_object_get(e, "tokens"), ids, 256);
    snprintf(path, sizeof path, "%s/%s", folder, text_of(e, "golden"));
    if (sh_read_file(&golden, &bytes, path, 1 << 22, &err)) fail_msg("%s", err.message);
    r.logits = sh_calloc(1, bytes);
    assert_non_null(r.logits);
    const struct sh_feed f = {.ids = ids, .n = n, .logits = keep, .self = &r, .chunk = chunk};
    if (sh_engine_create(&engine, sh_host_pipeline(h), 256, &err)) fail_msg("%s", err.message);
    if (sh_engine_feed(engine, &f, NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(bytes, (size_t)(n * r.n_vocab) * sizeof(float));
    for (int64_t i = 0; i < n * r.n_vocab; i++) {
        float b;
        memcpy(&b, golden + i * 4, 4);
        const double d = (double)r.logits[i] - (double)b;
        num += d * d;
        den += (double)b * (double)b;
    }
    print_message("    %-24s chunks of %2d: NMSE %.2e (at most %.0e)\n", text_of(e, "name"),
                  (int)chunk, num / den, bound);
    if (!(num / den <= bound))
        fail_msg("%s: NMSE %g, at most %g", text_of(e, "name"), num / den, bound);
    sh_engine_destroy(engine);
    sh_free(r.logits);
    sh_free(golden);
}

static void check_text(const json_t *e, const struct sh_host *h)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_ids have = SH_IDS_INIT;
    const char *text = text_of(e, "text");
    int32_t want[256];

    const int64_t n = read_ids(json_object_get(e, "text_ids"), want, 256);
    if (sh_tokenize(sh_host_vocab(h), sh_str_from(text), true, true, &have, &err))
        fail_msg("%s", err.message);
    assert_int_equal((int64_t)have.len, n);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(have.ptr[i], want[i]);
    sh_ids_release(&have);
}

static size_t check_folder(const char *folder)
{
    char path[256];
    json_error_t je;
    json_t *index, *e;
    size_t i;

    snprintf(path, sizeof path, "%s/index.json", folder);
    index = json_load_file(path, 0, &je);
    if (!index) fail_msg("%s: %s", path, je.text);
    json_array_foreach(json_object_get(index, "entries"), i, e)
    {
        struct sh_host *h = open_model(folder, e);
        check_text(e, h);
        check_logits(folder, e, h, 1);
        sh_host_close(h);
        h = open_model(folder, e);
        check_logits(folder, e, h, 80);
        sh_host_close(h);
    }
    json_decref(index);
    return i;
}

static void golden__llama(void **state)
{
    (void)state;
    assert_int_equal(check_folder("tests/data/models"), 8);
}

static void golden__other_architectures(void **state)
{
    (void)state;
    assert_int_equal(check_folder("tests/data/archs"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden__llama),
        cmocka_unit_test(golden__other_architectures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
