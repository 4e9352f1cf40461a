/* Weights from a host to a worker: sent once, found, taken up again, refused, cut, and what a
 * worker may lie about. */
#include "rpc/remote.h"

#include <sys/mman.h>

#include "rpc/weights_rig_test.h"

enum { N = 24, BIG = 400000 }; /* weights, and numbers of the largest */

struct model {
    struct sh_remote_weight weights[N];
    struct sh_sha256 sha256[N];
    char names[N][32];
    float *data[N];
    uint64_t bytes; /* of those with different hashes */
};

static void model_init(struct model *m, uint64_t seed)
{
    m->bytes = 0;
    for (size_t i = 0; i < N; i++) {
        // The last one equals the first.
        const size_t n = i == 0 || i == N - 1 ? BIG : 100 * i;
        m->data[i] = rig_numbers(n, seed + (i == N - 1 ? 0 : i));
        assert_int_equal(sh_sha256_of(&m->sha256[i], m->data[i], 4 * n, NULL), SHOAL_OK);
        (void)snprintf(m->names[i], sizeof m->names[i], "blk.%zu.weight", i);
        m->weights[i].name = m->names[i];
        m->weights[i].weight = (struct sh_weight){.dtype = SH_DTYPE_F32,
                                                  .ne = {(int64_t)n, 1, 1, 1},
                                                  .data = m->data[i],
                                                  .bytes = 4 * n,
                                                  .sha256 = m->sha256[i].bytes};
        if (i < N - 1) m->bytes += 4 * n;
    }
}

static void model_release(struct model *m)
{
    for (size_t i = 0; i < N; i++)
        sh_free(m->data[i]);
}

/* Every weight is held by the worker's last session, whole and with these bytes. */
static void expect_there(struct mini *m, const struct model *model)
{
    for (size_t i = 0; i < N; i++) {
        const struct sh_weight *w = &model->weights[i].weight;
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_blob *blob;
        const struct sh_map *map;
        size_t bytes;
        assert_int_equal(sh_blobs_want(m->blobs, m->kid, &model->sha256[i], w->bytes, &blob, &err),
                         SHOAL_OK);
        assert_true(sh_blob_whole(blob));
        assert_memory_equal(sh_blob_data(blob, &bytes, &map), w->data, w->bytes);
        sh_blob_release(blob);
    }
}

static void send_all(struct sh_remote *r, const struct model *model)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_remote_weights(r, model->weights, N, NULL, NULL, NULL, &err))
        fail_msg("%s", err.message);
}

static void expect_loaded(const struct sh_remote *r, uint64_t total, uint64_t found, uint64_t sent)
{
    struct sh_remote_load l;

    sh_remote_loaded(r, &l);
    assert_int_equal(l.bytes_total, total);
    assert_int_equal(l.bytes_found, found);
    assert_int_equal(l.bytes_sent, sent);
}

/* ---- what crosses ---------------------------------------------------------------------------*/

static void weights__cross_once(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_remote *r, *other;
    struct sh_rpc_traffic t;
    struct model model;
    struct mini m;

    (void)state;
    model_init(&model, 1);
    mini_begin(&m, NULL, "00000000000000aa", 0);
    r = mini_host(&m, 0, model.bytes);
    expect_loaded(r, 0, 0, 0);
    // In two calls that overlap, as hashes become known.
    assert_int_equal(sh_remote_weights(r, model.weights, 5, NULL, NULL, NULL, &err), SHOAL_OK);
    send_all(r, &model);
    expect_loaded(r, model.bytes, 0, model.bytes);
    expect_there(&m, &model);
    send_all(r, &model);
    expect_loaded(r, model.bytes, 0, model.bytes);
    // Another session of the same key, while the first one lives.
    other = mini_host(&m, 0, model.bytes);
    send_all(other, &model);
    expect_loaded(other, model.bytes, model.bytes, 0);
    sh_remote_traffic(other, &t);
    assert_true(t.bytes_sent < 16 << 10);
    sh_remote_traffic(r, &t);
    assert_true(t.bytes_sent > model.bytes && t.bytes_sent < model.bytes + (64 << 10));
    sh_remote_close(other);
    sh_remote_close(r);
    mini_wait(&m);
    assert_int_equal(m.n_data, 2);
    assert_true(m.data_bytes >= model.bytes);
    assert_true(m.data_bytes < model.bytes + (64 << 10));
    mini_end(&m);
    model_release(&model);
}

static void weights__without_features(void **state)
{
    struct sh_remote *r;
    struct model model;
    struct mini m;

    (void)state;
    model_init(&model, 2);
    // No second connection.
    mini_begin(&m, NULL, "", SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_DATA);
    r = mini_host(&m, 0, model.bytes);
    send_all(r, &model);
    expect_loaded(r, model.bytes, 0, model.bytes);
    expect_there(&m, &model);
    sh_remote_close(r);
    mini_wait(&m);
    assert_int_equal(m.n_data, 0);
    mini_end(&m);
    model_release(&model);
}

static void weights__of_files(void **state)
{
    static const size_t SIZES[3] = {BIG, 100, 200};
    static const uint64_t SEEDS[3] = {3, 4, 5}; // as model_init() has them for its first three
    struct sh_folder_options opt = {.n_threads = 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_folder *f = NULL;
    struct sh_remote *r;
    struct model model;
    struct mini m;
    struct rig rig;

    (void)state;
    rig_open(&rig);
    rig_model(&rig, "other-name.gguf", 2, 3, SIZES, SEEDS);
    opt.dir = rig.models;
    if (sh_folder_open(&f, &opt, &err) || sh_folder_hash(f, &err)) fail_msg("%s", err.message);
    sh_folder_wait(f);
    model_init(&model, 3);
    mini_begin(&m, f, "", 0);
    // Only the rest must fit into what is set aside.
    r = mini_host(&m, 0, model.bytes - 4 * (BIG + 300));
    send_all(r, &model);
    expect_loaded(r, model.bytes, 4 * (BIG + 300), model.bytes - 4 * (BIG + 300));
    expect_there(&m, &model);
    sh_remote_close(r);
    // A host that cannot have it so sends all; what the file has is passed over.
    r = mini_host(&m, SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_OWN_FILES, model.bytes);
    send_all(r, &model);
    expect_loaded(r, model.bytes, model.bytes - 4 * (BIG + 300), 4 * (BIG + 300));
    sh_remote_close(r);
    mini_end(&m);
    model_release(&model);
    sh_folder_close(f);
    rig_close(&rig);
}

/* A file that is copied in while the worker runs: the first who asks has it hashed, and waits. Most
 * of the file is what nobody asks for, so hashing takes a while. */
static void weights__of_files_that_came_late(void **state)
{
    enum { MINE = 7, ALL = 8 };
    size_t sizes[ALL];
    uint64_t seeds[ALL];
    struct sh_folder_options opt = {.n_threads = 1};
    struct sh_remote_weight mine[MINE];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_remote_load l;
    struct sh_folder *f = NULL;
    struct sh_remote *r;
    struct model model;
    struct mini m;
    struct rig rig;
    char names[MINE][8];

    (void)state;
    rig_open(&rig);
    opt.dir = rig.models;
    if (sh_folder_open(&f, &opt, &err) || sh_folder_hash(f, &err)) fail_msg("%s", err.message);
    sh_folder_wait(f);
    model_init(&model, 30);
    for (size_t i = 0; i < ALL; i++) {
        sizes[i] = i < MINE ? model.weights[i].weight.bytes / 4 : (size_t)4 << 20;
        seeds[i] = 30 + i;
    }
    for (size_t i = 0; i < MINE; i++) {
        mine[i] = model.weights[i];
        (void)snprintf(names[i], sizeof names[i], "t%zu", i); // as rig_model() names them
        mine[i].name = names[i];
    }
    rig_model(&rig, "late.gguf", 1, ALL, sizes, seeds);
    mini_begin(&m, f, "", 0);
    r = mini_host(&m, 0, model.bytes);
    if (sh_remote_weights(r, mine, MINE, NULL, NULL, NULL, &err)) fail_msg("%s", err.message);
    sh_remote_loaded(r, &l);
    assert_int_equal(l.bytes_sent, 0);
    assert_int_equal(l.bytes_found, l.bytes_total);
    sh_remote_close(r);
    mini_end(&m);
    model_release(&model);
    sh_folder_close(f);
    rig_close(&rig);
}

/* ---- breaking off, and going on -------------------------------------------------------------*/

struct stopping {
    uint64_t after; /* bytes */
    uint64_t sent;
};

static void watch(void *self, const struct sh_remote_load *l)
{
    struct stopping *s = self;

    assert_true(l->bytes_found + l->bytes_sent <= l->bytes_total);
    s->sent = l->bytes_sent;
}

static bool stop_now(void *self)
{
    const struct stopping *s = self;

    return s->sent >= s->after;
}

static uint64_t bytes_held(struct mini *m, const struct model *model)
{
    uint64_t held = 0;

    for (size_t i = 0; i < N - 1; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_blob *blob;
        assert_int_equal(sh_blobs_want(m->blobs, m->kid, &model->sha256[i],
                                       model->weights[i].weight.bytes, &blob, &err),
                         SHOAL_OK);
        held += sh_blob_held(blob);
        sh_blob_release(blob);
    }
    return held;
}

static void weights__taken_up_again(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct stopping s = {.after = 600000};
    struct sh_remote *r;
    struct model model;
    struct mini m;
    uint64_t held;

    (void)state;
    model_init(&model, 4);
    mini_begin(&m, NULL, "", 0);
    r = mini_host(&m, 0, model.bytes);
    assert_int_equal(sh_remote_weights(r, model.weights, N, watch, stop_now, &s, &err),
                     SHOAL_ERR_CANCELLED);
    sh_remote_close(r);
    mini_wait(&m);
    held = bytes_held(&m, &model);
    assert_true(held < model.bytes);
    r = mini_host(&m, 0, model.bytes);
    send_all(r, &model);
    expect_loaded(r, model.bytes, held, model.bytes - held);
    expect_there(&m, &model);
    sh_remote_close(r);
    mini_end(&m);
    model_release(&model);
}

/* What somebody else of the key has left of a tensor is wrong. */
static void weights__a_bad_half_is_replaced(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_blob *half;
    struct sh_remote *r;
    struct model model;
    struct mini m;

    (void)state;
    model_init(&model, 5);
    mini_begin(&m, NULL, "", 0);
    assert_int_equal(sh_blobs_want(m.blobs, "", &model.sha256[0], 4 * BIG, &half, &err), SHOAL_OK);
    assert_int_equal(sh_blob_write(half, 0, model.data[1], 77, &err), SHOAL_OK);
    r = mini_host(&m, 0, model.bytes);
    send_all(r, &model);
    expect_loaded(r, model.bytes, 0, model.bytes + 4 * BIG - 77);
    expect_there(&m, &model);
    sh_remote_close(r);
    sh_blob_release(half);
    mini_end(&m);
    model_release(&model);
}

static void weights__a_cut_is_survived(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_remote *r;
    struct model model;
    struct mini m;

    (void)state;
    model_init(&model, 6);
    mini_begin(&m, NULL, "", 0);
    r = mini_host(&m, 0, model.bytes);
    atomic_store(&m.lie, MINI_CUTS_AT_PUT);
    assert_int_equal(sh_remote_weights(r, model.weights, N, NULL, NULL, NULL, &err),
                     SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, sh_listener_text(m.listener)));
    atomic_store(&m.lie, MINI_HONEST);
    send_all(r, &model); // on a new connection
    expect_there(&m, &model);
    sh_remote_close(r);
    mini_end(&m);
    model_release(&model);
}

/* ---- refusals -------------------------------------------------------------------------------*/

static void weights__that_are_not_what_was_promised(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_remote *r;
    struct model model;
    struct mini m;
    char text[SH_SHA256_TEXT_BYTES];

    (void)state;
    model_init(&model, 7);
    mini_begin(&m, NULL, "", 0);
    r = mini_host(&m, 0, model.bytes);
    *(uint8_t *)model.data[9] ^= 1; // the file was changed after it was hashed
    assert_int_equal(sh_remote_weights(r, model.weights, N, NULL, NULL, NULL, &err),
                     SHOAL_ERR_FORMAT);
    sh_sha256_text(&model.sha256[9], text);
    text[16] = '\0';
    assert_non_null(strstr(err.message, text));
    assert_non_null(strstr(err.message, "blk.9.weight"));
    assert_non_null(strstr(err.message, sh_listener_text(m.listener)));
    *(uint8_t *)model.data[9] ^= 1;
    send_all(r, &model);
    expect_there(&m, &model);
    sh_remote_close(r);
    mini_end(&m);
    model_release(&model);
}

static void weights__beyond_what_was_set_aside(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_remote *r;
    struct model model;
    struct mini m;

    (void)state;
    model_init(&model, 8);
    mini_begin(&m, NULL, "", 0);
    r = mini_host(&m, 0, model.bytes - 1);
    assert_int_equal(sh_remote_weights(r, model.weights, N, NULL, NULL, NULL, &err),
                     SHOAL_ERR_NOMEM);
    assert_non_null(strstr(err.message, "set aside for weights"));
    assert_int_equal(sh_remote_weights(r, model.weights, N - 2, NULL, NULL, NULL, &err), SHOAL_OK);
    sh_remote_close(r);
    mini_end(&m);
    model_release(&model);
}

static void weights__bad_calls(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_remote_options opt = {.address = NULL};
    struct sh_remote *r;
    struct model model;
    struct mini m;

    (void)state;
    model_init(&model, 9);
    mini_begin(&m, NULL, "", 0);
    opt.address = sh_listener_text(m.listener);
    assert_int_equal(sh_remote_open(&r, &opt, &err), SHOAL_OK);
    assert_int_equal(sh_remote_weights(r, model.weights, N, NULL, NULL, NULL, &err),
                     SHOAL_ERR_STATE);
    assert_int_equal(sh_remote_weights(r, model.weights, 0, NULL, NULL, NULL, &err), SHOAL_OK);
    sh_remote_close(r);
    r = mini_host(&m, 0, model.bytes);
    model.weights[3].weight.sha256 = NULL;
    assert_int_equal(sh_remote_weights(r, model.weights, N, NULL, NULL, NULL, &err), SHOAL_ERR_ARG);
    assert_non_null(strstr(err.message, "blk.3.weight has no hash"));
    sh_remote_close(r);
    mini_end(&m);
    model_release(&model);
}

/* A file that shrinks under its mapping while it is sent. */
static void weights__of_a_file_that_shrinks(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_map map = SH_MAP_INIT;
    struct sh_remote *r;
    struct model model;
    struct mini m;
    struct rig rig;
    char path[256];
    FILE *f;

    (void)state;
    model_init(&model, 10);
    rig_open(&rig);
    (void)snprintf(path, sizeof path, "%s/raw", rig.models);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(model.data[0], 4, BIG, f), BIG);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(sh_map_file(&map, path, &err), SHOAL_OK);
    model.weights[0].weight.data = map.ptr;
    model.weights[0].weight.map = &map;
    assert_int_equal(truncate(path, 100000), 0);
    mini_begin(&m, NULL, "", 0);
    r = mini_host(&m, 0, model.bytes);
    assert_int_equal(sh_remote_weights(r, model.weights, N, NULL, NULL, NULL, &err), SHOAL_ERR_IO);
    assert_non_null(strstr(err.message, "blk.0.weight lost bytes"));
    sh_remote_close(r);
    mini_end(&m);
    sh_map_release(&map);
    model_release(&model);
    rig_close(&rig);
}

/* ---- lies -----------------------------------------------------------------------------------*/

static void weights__of_a_worker_that_lies(void **state)
{
    static const struct {
        enum mini_lie lie;
        const char *says;
    } LIES[] = {{MINI_MISSES_ANOTHER, "nobody wants"},
                {MINI_HELD_TOO_MUCH, "1600001 bytes are held of its 1600000"},
                {MINI_DONE_ANOTHER, "the answer names another"}};
    struct model model;

    (void)state;
    model_init(&model, 11);
    for (size_t i = 0; i < sizeof LIES / sizeof LIES[0]; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_remote *r;
        struct mini m;
        mini_begin(&m, NULL, "", 0);
        r = mini_host(&m, 0, model.bytes);
        atomic_store(&m.lie, LIES[i].lie);
        assert_int_equal(sh_remote_weights(r, model.weights, N, NULL, NULL, NULL, &err),
                         SHOAL_ERR_FORMAT);
        if (!strstr(err.message, LIES[i].says)) fail_msg("%s", err.message);
        assert_non_null(strstr(err.message, sh_listener_text(m.listener)));
        sh_remote_close(r);
        mini_end(&m);
    }
    model_release(&model);
}

static bool stop_soon(void *self)
{
    int *n = self;

    return ++*n >= 3;
}

/* A worker that does not answer can be left at any time. */
static void weights__stopped_while_waiting(void **state)
{
    static const enum mini_lie LIES[] = {MINI_NEVER_MISSING, MINI_NEVER_DONE};
    struct model model;

    (void)state;
    model_init(&model, 12);
    for (size_t i = 0; i < sizeof LIES / sizeof LIES[0]; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_remote *r;
        struct mini m;
        int n = 0;
        mini_begin(&m, NULL, "", 0);
        r = mini_host(&m, 0, model.bytes);
        atomic_store(&m.lie, LIES[i]);
        // One small tensor: then there is nothing to do but wait.
        assert_int_equal(sh_remote_weights(r, &model.weights[1], 1, NULL, stop_soon, &n, &err),
                         SHOAL_ERR_CANCELLED);
        sh_remote_close(r);
        mini_end(&m);
    }
    model_release(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights__cross_once),
        cmocka_unit_test(weights__without_features),
        cmocka_unit_test(weights__of_files),
        cmocka_unit_test(weights__of_files_that_came_late),
        cmocka_unit_test(weights__taken_up_again),
        cmocka_unit_test(weights__a_bad_half_is_replaced),
        cmocka_unit_test(weights__a_cut_is_survived),
        cmocka_unit_test(weights__that_are_not_what_was_promised),
        cmocka_unit_test(weights__beyond_what_was_set_aside),
        cmocka_unit_test(weights__bad_calls),
        cmocka_unit_test(weights__of_a_file_that_shrinks),
        cmocka_unit_test(weights__of_a_worker_that_lies),
        cmocka_unit_test(weights__stopped_while_waiting),
    };
    return cmocka_run_group_tests_name("remote weights", tests, NULL, NULL);
}
