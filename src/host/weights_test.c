/* Hashes of a model for those who send it: hashed while they wait, remembered the next time,
 * stopped, and a file that changes meanwhile. */
#include "host/weights.h"

#include "blob/rig_test.h"

enum { N = 5 };

static const size_t SIZES[N] = {1 << 20, 3, 70000, (1 << 20) + 5, 300};
static const uint64_t SEEDS[N] = {1, 2, 3, 4, 5};

static struct sh_gguf *open_model(const struct rig *r, const char *name)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", r->models, name);
    if (sh_gguf_open(&g, path, &err)) fail_msg("%s", err.message);
    return g;
}

static struct sh_host_weights *start(const struct sh_gguf *g, const char *hashes)
{
    const struct sh_host_weights_options opt = {.hashes = hashes, .n_threads = 2};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_host_weights *w = NULL;

    if (sh_host_weights_start(&w, g, &opt, &err)) fail_msg("%s", err.message);
    return w;
}

static bool never(void *self)
{
    atomic_int *asked = self;

    atomic_fetch_add(asked, 1);
    return false;
}

static bool always(void *self)
{
    (void)self;
    return true;
}

/* Take all as they become ready; how many calls that took. */
static int take_all(struct sh_host_weights *w)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    size_t tensors[N] = {4, 3, 2, 1, 0};
    size_t at = 0, ready;
    bool seen[N] = {false};
    atomic_int asked = 0;
    int calls = 0;

    for (; at < N; at += ready, calls++) {
        if (sh_host_weights_next(w, tensors + at, N - at, &ready, never, &asked, &err))
            fail_msg("%s", err.message);
        assert_true(ready >= 1 && ready <= N - at);
        for (size_t i = at; i < at + ready; i++) {
            const size_t t = tensors[i];
            const struct sh_sha256 want = rig_hash(SIZES[t], SEEDS[t]);
            assert_false(seen[t]);
            seen[t] = true;
            assert_true(sh_sha256_equal(sh_host_weights_hash(w, t), &want));
        }
    }
    return calls;
}

static void weights__hashed_then_remembered(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_host_weights *w;
    uint64_t done, total;
    struct sh_gguf *g;
    struct rig r;

    (void)state;
    rig_open(&r);
    rig_model(&r, "m.gguf", 1, N, SIZES, SEEDS);
    g = open_model(&r, "m.gguf");
    w = start(g, NULL);
    (void)take_all(w);
    assert_int_equal(sh_host_weights_finish(w, NULL, NULL, &err), SHOAL_OK);
    sh_host_weights_progress(w, &done, &total);
    assert_int_equal(done, total);
    assert_true(total > 8 << 20);
    sh_host_weights_destroy(w);
    { // an hour later
        const struct sh_manifest_options opt = {.dir = r.hashes, .wall = &RIG_LATER};
        struct sh_manifest *m;
        assert_int_equal(sh_manifest_make(&m, g, &opt, &err), SHOAL_OK);
        sh_manifest_destroy(m);
    }
    w = start(g, r.hashes);
    sh_host_weights_progress(w, &done, &total);
    assert_int_equal(done, total); // at once: nothing is hashed
    assert_int_equal(take_all(w), 1);
    assert_int_equal(sh_host_weights_finish(w, always, NULL, &err), SHOAL_OK);
    sh_host_weights_destroy(w);
    sh_gguf_close(g);
    rig_close(&r);
}

static void weights__stopped(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_host_weights *w;
    struct sh_gguf *g;
    struct rig r;

    (void)state;
    rig_open(&r);
    rig_model(&r, "m.gguf", 2, N, SIZES, SEEDS);
    g = open_model(&r, "m-00001-of-00002.gguf");
    w = start(g, r.hashes);
    // Whichever comes first: it is over, or somebody asks whether to stop.
    if (sh_host_weights_finish(w, always, NULL, &err))
        assert_int_equal(err.code, SHOAL_ERR_CANCELLED);
    sh_host_weights_destroy(w);
    w = start(g, r.hashes);
    sh_host_weights_destroy(w); // while it hashes
    sh_host_weights_destroy(NULL);
    sh_gguf_close(g);
    rig_close(&r);
}

static void weights__a_file_that_changed(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    size_t tensor = 0, ready;
    struct sh_host_weights *w;
    struct sh_gguf *g;
    char path[256];
    struct rig r;
    FILE *f;

    (void)state;
    rig_open(&r);
    rig_model(&r, "m.gguf", 1, N, SIZES, SEEDS);
    g = open_model(&r, "m.gguf");
    (void)snprintf(path, sizeof path, "%s/m.gguf", r.models);
    f = fopen(path, "ab");
    assert_non_null(f);
    assert_int_equal(fputc('x', f), 'x');
    assert_int_equal(fclose(f), 0);
    w = start(g, r.hashes);
    assert_int_equal(sh_host_weights_finish(w, NULL, NULL, &err), SHOAL_ERR_IO);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(sh_host_weights_next(w, &tensor, 1, &ready, NULL, NULL, &err), SHOAL_ERR_IO);
    sh_host_weights_destroy(w);
    sh_gguf_close(g);
    rig_close(&r);
}

static void weights__every_allocation_may_fail(void **state)
{
    struct sh_gguf *g;
    bool more = true;
    struct rig r;

    (void)state;
    rig_open(&r);
    rig_model(&r, "m.gguf", 1, 1, &SIZES[4], &SEEDS[4]);
    g = open_model(&r, "m.gguf");
    for (int64_t n = 0; more; n++) {
        const struct sh_host_weights_options opt = {.hashes = r.hashes, .n_threads = 1};
        struct shoal_error err = SHOAL_ERROR_INIT;
        const size_t live = sh_mem_live_bytes();
        struct sh_host_weights *w;
        enum shoal_status st;
        sh_mem_fail_after(n);
        st = sh_host_weights_start(&w, g, &opt, &err);
        if (!st) st = sh_host_weights_finish(w, NULL, NULL, &err);
        sh_host_weights_destroy(w);
        more = !sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        assert_int_equal(sh_mem_live_bytes(), live);
        if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
        if (!more) assert_int_equal(st, SHOAL_OK);
    }
    sh_gguf_close(g);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights__hashed_then_remembered),
        cmocka_unit_test(weights__stopped),
        cmocka_unit_test(weights__a_file_that_changed),
        cmocka_unit_test(weights__every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("host weights", tests, NULL, NULL);
}
