/* The weights of a session against clients who say nonsense: entries that contradict themselves,
 * pieces that do not fit, weights that nobody wants. */
#include <inttypes.h>

#include "rpc/weights_rig_test.h"

enum { N = 1000, BYTES = 4 * N };

struct client {
    struct mini m;
    struct sh_remote *r; /* for its session */
    struct sh_rpc_conn *c;
    struct sh_thread reader;
    struct sh_arena arena;
    struct sh_sha256 sha256;
    float *data;
    enum shoal_status ended; /* how the connection did, once the reader was joined */
    enum shoal_status sent;
};

static enum shoal_status on_message(void *self, struct sh_rpc_conn *c,
                                    const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    (void)self;
    (void)c;
    return sh_fail(err, SHOAL_ERR_FORMAT, "message %d was not asked for", (int)m->type);
}

static void *read_all(void *arg)
{
    struct client *k = arg;
    const struct sh_rpc_handler h = {.message = on_message};

    k->ended = sh_rpc_conn_run(k->c, &h, NULL);
    return NULL;
}

static enum shoal_status ask(struct client *k, enum sh_rpc_type type, const void *msg, void *answer,
                             struct shoal_error *err)
{
    struct sh_rpc_ask a = {.type = type,
                           .msg = msg,
                           .answer = answer,
                           .arena = &k->arena,
                           .timeout_ns = 60 * SH_SECOND};

    return sh_rpc_conn_ask(k->c, &a, err);
}

/* A DATA connection to the first session of a worker. */
static void attach(struct client *k, const struct mini *m)
{
    const struct sh_rpc_conn_options opt = {.features = SH_RPC_FEATURES_ALL,
                                            .purpose = SH_RPC_FOR_DATA};
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct sh_rpc_attach msg = {.session = 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_attached attached;
    struct sh_stream *stream;
    struct sh_endpoint ep;

    k->data = rig_numbers(N, 7);
    assert_int_equal(sh_sha256_of(&k->sha256, k->data, BYTES, NULL), SHOAL_OK);
    if (sh_endpoint_parse(&ep, sh_listener_text(m->listener), -1, &err) ||
        sh_tcp_connect(&stream, &ep, 60 * SH_SECOND, &tcp, &err) ||
        sh_rpc_conn_connect(&k->c, stream, &opt, &err) ||
        sh_thread_start(&k->reader, "client", read_all, k, &err))
        fail_msg("%s", err.message);
    memset(msg.secret, 1, sizeof msg.secret);
    if (ask(k, SH_RPC_MSG_ATTACH, &msg, &attached, &err)) fail_msg("%s", err.message);
}

static void detach(struct client *k)
{
    sh_rpc_conn_cut(k->c);
    sh_thread_join(&k->reader);
    sh_rpc_conn_close(k->c, NULL);
    sh_arena_release(&k->arena);
    sh_free(k->data);
}

/* A client with a session for `bytes` of weights and a DATA connection of its own. */
static void begin_with(struct client *k, uint64_t bytes, struct sh_folder *folder)
{
    memset(k, 0, sizeof *k);
    mini_begin(&k->m, folder, "", 0);
    k->r = mini_host(&k->m, 0, bytes);
    attach(k, &k->m);
}

static void begin(struct client *k, uint64_t bytes)
{
    begin_with(k, bytes, NULL);
}

static void end(struct client *k)
{
    detach(k);
    sh_remote_close(k->r);
    mini_end(&k->m);
}

static struct sh_rpc_weight entry(const struct client *k)
{
    struct sh_rpc_weight w = {.name = sh_rpc_text_from("some.weight"),
                              .dtype = SH_DTYPE_F32,
                              .ne0 = N,
                              .ne1 = 1,
                              .ne2 = 1,
                              .ne3 = 1,
                              .bytes = BYTES,
                              .axis = -1};

    memcpy(w.sha256, k->sha256.bytes, sizeof w.sha256);
    return w;
}

static enum shoal_status want(struct client *k, const struct sh_rpc_weight *w, uint32_t n,
                              struct sh_rpc_missing *missing, struct shoal_error *err)
{
    const struct sh_rpc_want msg = {.weights = w, .n_weights = n};

    return ask(k, SH_RPC_MSG_WANT, &msg, missing, err);
}

static void put(struct client *k, uint64_t offset, uint32_t n)
{
    struct sh_rpc_put msg = {.offset = offset, .data = {(const uint8_t *)k->data, n}};
    struct shoal_error err = SHOAL_ERROR_INIT;

    memcpy(msg.sha256, k->sha256.bytes, sizeof msg.sha256);
    if (offset < BYTES) msg.data.ptr += offset;
    if (sh_rpc_conn_send(k->c, SH_RPC_MSG_PUT, 0, &msg, &err)) fail_msg("%s", err.message);
}

static enum shoal_status put_end(struct client *k, struct shoal_error *err)
{
    struct sh_rpc_put_end msg;
    struct sh_rpc_put_done done;

    memcpy(msg.sha256, k->sha256.bytes, sizeof msg.sha256);
    return ask(k, SH_RPC_MSG_PUT_END, &msg, &done, err);
}

/* ---- entries --------------------------------------------------------------------------------*/

static void expect_refused(struct client *k, const struct sh_rpc_weight *w,
                           enum shoal_status want_st, const char *says)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_missing missing;

    assert_int_equal(want(k, w, 1, &missing, &err), want_st);
    if (!strstr(err.message, says)) fail_msg("\"%s\" does not say \"%s\"", err.message, says);
}

static void session_data__entries_that_contradict_themselves(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_missing missing;
    struct sh_rpc_weight w, two[2];
    struct client k;

    (void)state;
    begin(&k, BYTES);
    w = entry(&k);
    w.dtype = 4;
    expect_refused(&k, &w, SHOAL_ERR_FORMAT, "some.weight has type 4");
    w.dtype = UINT32_MAX;
    expect_refused(&k, &w, SHOAL_ERR_FORMAT, "which is none");
    w.dtype = SH_DTYPE_Q4_0;
    expect_refused(&k, &w, SHOAL_ERR_FORMAT, "rows of 1000 elements of q4_0");
    w = entry(&k);
    w.ne2 = 0;
    expect_refused(&k, &w, SHOAL_ERR_FORMAT, "0 elements in dimension 2");
    w.ne2 = -1;
    expect_refused(&k, &w, SHOAL_ERR_FORMAT, "-1 elements");
    w.ne2 = 1;
    w.ne0 = INT64_MAX;
    expect_refused(&k, &w, SHOAL_ERR_FORMAT, "rows of");
    w.ne0 = N;
    w.ne3 = INT64_MAX;
    expect_refused(&k, &w, SHOAL_ERR_LIMIT, "overflows");
    w.ne3 = 2;
    expect_refused(&k, &w, SHOAL_ERR_FORMAT, "its shape has 8000");
    // Twice the same hash with two sizes.
    two[0] = two[1] = entry(&k);
    two[1].ne0 = N - 1;
    two[1].bytes = BYTES - 4;
    assert_int_equal(want(&k, two, 2, &missing, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "has the hash of some.weight"));
    // Beyond what was set aside, and then within.
    two[1].sha256[0] ^= 1;
    assert_int_equal(want(&k, two, 2, &missing, &err), SHOAL_ERR_NOMEM);
    two[1] = two[0];
    assert_int_equal(want(&k, two, 2, &missing, &err), SHOAL_OK);
    assert_int_equal(missing.n_misses, 1); // each hash once
    assert_int_equal(missing.misses[0].held, 0);
    assert_int_equal(sh_session_weights_bytes(k.m.weights[0]), BYTES);
    end(&k);
}

/* What a stage asks for goes the same way. */
static void session_data__for_stages(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_session_weights *weights;
    struct sh_rpc_weight w;
    struct sh_rpc_segment segment = {.begin = 0, .end = 32};
    struct sh_blob *blob, *again;
    struct client k;

    (void)state;
    begin(&k, BYTES);
    weights = k.m.weights[0];
    w = entry(&k);
    w.axis = 0;
    w.segments = &segment;
    w.n_segments = 1;
    assert_int_equal(sh_session_weights_want(weights, &w, &blob, &err), SHOAL_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "slices"));
    assert_null(blob);
    w = entry(&k);
    assert_int_equal(sh_session_weights_want(weights, &w, &blob, &err), SHOAL_OK);
    assert_false(sh_blob_whole(blob));
    put(&k, 0, BYTES);
    assert_int_equal(put_end(&k, &err), SHOAL_OK);
    assert_int_equal(sh_session_weights_want(weights, &w, &again, &err), SHOAL_OK);
    assert_ptr_equal(blob, again);
    assert_true(sh_blob_whole(blob));
    end(&k);
}

/* A half is given up for a file, and what was set aside for it is free again. */
static void session_data__files_instead_of_halves(void **state)
{
    static const size_t SIZES[1] = {N};
    static const uint64_t SEEDS[1] = {7};
    struct sh_folder_options opt = {.n_threads = 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_missing missing;
    struct sh_folder *f = NULL;
    struct sh_rpc_weight w;
    struct client k;
    struct rig rig;

    (void)state;
    rig_open(&rig);
    opt.dir = rig.models;
    if (sh_folder_open(&f, &opt, &err)) fail_msg("%s", err.message);
    begin_with(&k, BYTES, f);
    w = entry(&k);
    assert_int_equal(want(&k, &w, 1, &missing, &err), SHOAL_OK);
    assert_int_equal(missing.n_misses, 1);
    put(&k, 0, 100);
    rig_model(&rig, "late.gguf", 1, 1, SIZES, SEEDS);
    if (sh_folder_scan(f, &err) || sh_folder_hash(f, &err)) fail_msg("%s", err.message);
    sh_folder_wait(f);
    assert_int_equal(sh_session_weights_bytes(k.m.weights[0]), BYTES);
    assert_int_equal(want(&k, &w, 1, &missing, &err), SHOAL_OK);
    assert_int_equal(missing.n_misses, 0);
    assert_int_equal(sh_session_weights_bytes(k.m.weights[0]), 0);
    end(&k);
    sh_folder_close(f);
    rig_close(&rig);
}

/* ---- pieces ---------------------------------------------------------------------------------*/

static void session_data__pieces_that_do_not_fit(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_missing missing;
    struct sh_rpc_weight w;
    struct client k;

    (void)state;
    begin(&k, BYTES);
    w = entry(&k);
    assert_int_equal(want(&k, &w, 1, &missing, &err), SHOAL_OK);
    put(&k, 0, 100);
    put(&k, 101, 100); // a gap
    put(&k, 100, 50);  // too late: this one has failed
    assert_int_equal(put_end(&k, &err), SHOAL_ERR_ARG);
    assert_non_null(strstr(err.message, "some.weight: bytes from 101 on"));
    // What fitted is still there, and it goes on from there.
    assert_int_equal(want(&k, &w, 1, &missing, &err), SHOAL_OK);
    assert_int_equal(missing.n_misses, 1);
    assert_int_equal(missing.misses[0].held, 100);
    put(&k, UINT64_MAX, 100);
    assert_int_equal(put_end(&k, &err), SHOAL_ERR_ARG);
    put(&k, 100, 10);
    assert_int_equal(put_end(&k, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "110 of its 4000 bytes came"));
    k.data[500] = 1;
    put(&k, 110, BYTES - 110);
    assert_int_equal(put_end(&k, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "some.weight: its bytes have the SHA-256"));
    assert_int_equal(want(&k, &w, 1, &missing, &err), SHOAL_OK);
    assert_int_equal(missing.misses[0].held, 0);
    end(&k);
}

static void *send_it(void *arg)
{
    struct client *k = arg;
    const struct sh_rpc_weight w = entry(k);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_missing missing;

    k->sent = want(k, &w, 1, &missing, &err);
    if (!k->sent && missing.n_misses > 0) {
        for (uint64_t at = missing.misses[0].held; at < BYTES; at += 100)
            put(k, at, 100);
        k->sent = put_end(k, &err);
    }
    return NULL;
}

/* Two connections of a session send the same at once: the bytes count once. */
static void session_data__two_connections(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_thread threads[2] = {SH_THREAD_INIT, SH_THREAD_INIT};
    struct client k, other;

    (void)state;
    begin(&k, BYTES);
    memset(&other, 0, sizeof other);
    attach(&other, &k.m);
    assert_int_equal(sh_thread_start(&threads[0], "send", send_it, &k, &err), SHOAL_OK);
    assert_int_equal(sh_thread_start(&threads[1], "send", send_it, &other, &err), SHOAL_OK);
    sh_thread_join(&threads[0]);
    sh_thread_join(&threads[1]);
    assert_int_equal(k.sent, SHOAL_OK);
    assert_int_equal(other.sent, SHOAL_OK);
    assert_int_equal(sh_session_weights_bytes(k.m.weights[0]), BYTES);
    detach(&other);
    end(&k);
}

static void session_data__weights_that_nobody_wants(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct client k;

    (void)state;
    begin(&k, BYTES);
    assert_int_equal(put_end(&k, &err), SHOAL_ERR_NOT_FOUND);
    put(&k, 0, 100);
    sh_thread_join(&k.reader); // the worker ends the connection
    assert_int_equal(k.ended, SHOAL_ERR_FORMAT);
    end(&k);
}

/* Everything that was sent is given back with the session. */
static void session_data__memory_comes_back(void **state)
{
    const size_t live = sh_mem_live_bytes();
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_missing missing;
    struct sh_rpc_weight w;
    struct client k;

    (void)state;
    begin(&k, BYTES);
    w = entry(&k);
    assert_int_equal(want(&k, &w, 1, &missing, &err), SHOAL_OK);
    put(&k, 0, 100);
    assert_int_equal(want(&k, &w, 1, &missing, &err), SHOAL_OK);
    assert_int_equal(missing.misses[0].held, 100);
    end(&k);
    assert_int_equal(sh_mem_live_bytes(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_data__entries_that_contradict_themselves),
        cmocka_unit_test(session_data__for_stages),
        cmocka_unit_test(session_data__files_instead_of_halves),
        cmocka_unit_test(session_data__pieces_that_do_not_fit),
        cmocka_unit_test(session_data__two_connections),
        cmocka_unit_test(session_data__weights_that_nobody_wants),
        cmocka_unit_test(session_data__memory_comes_back),
    };
    return cmocka_run_group_tests_name("session data", tests, NULL, NULL);
}
