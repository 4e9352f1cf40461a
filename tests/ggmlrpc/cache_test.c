/* The cache as clients see it: what is stored and when, and what cannot be done to it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "fake_device.h"
#include "peer.h"
#include "tensor/dtype.h"

enum { BYTES = 3 << 20, ROOM = 4 << 20 }; // more than one piece of what is read at once

struct bench {
    struct fake_device fake;
    struct sh_ggmlrpc_server *server;
    char dir[64];
    struct peer p;
    struct peer_buffer buf;
    uint8_t *bytes;
    uint64_t hash;
};

static void connect_client(struct bench *b)
{
    peer_open(&b->p, b->server);
    peer_hello(&b->p);
    peer_alloc(&b->p, ROOM, &b->buf);
}

static void bench_open(struct bench *b)
{
    struct sh_ggmlrpc_server_options opt = {.log_lines_max = 100000, .cache_bytes_max = 1 << 30};
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint64_t seed = 1;

    peer_log_begin();
    memset(b, 0, sizeof *b);
    fake_device_init(&b->fake);
    (void)snprintf(b->dir, sizeof b->dir, "/tmp/shoal-cache-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    opt.device = fake_device_of(&b->fake);
    opt.cache_dir = b->dir;
    if (sh_ggmlrpc_server_create(&b->server, &opt, &err)) fail_msg("%s", err.message);
    b->bytes = sh_malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1;
        b->bytes[i] = (uint8_t)(seed >> 40);
    }
    b->hash = sh_fnv(SH_FNV_START, b->bytes, BYTES);
    connect_client(b);
}

static void path_of(const struct bench *b, uint64_t hash, char out[128])
{
    (void)snprintf(out, 128, "%s/%016" PRIx64, b->dir, hash);
}

static int n_entries(struct bench *b)
{
    struct sh_cache_stats s;

    sh_ggmlrpc_server_cache_flush(b->server);
    sh_ggmlrpc_server_cache_stats(b->server, &s);
    return (int)s.n_entries;
}

static void bench_close(struct bench *b)
{
    char path[128];

    sh_ggmlrpc_server_cache_flush(b->server);
    sh_ggmlrpc_server_destroy(b->server);
    fake_device_release(&b->fake);
    path_of(b, b->hash, path);
    (void)unlink(path);
    assert_int_equal(rmdir(b->dir), 0); // nothing else may be there
    sh_free(b->bytes);
}

/* Does the server have the bytes of a hash for `n` bytes of a tensor that begins at `at`? */
static int ask(struct bench *b, size_t at, uint32_t n, uint64_t offset, uint64_t hash)
{
    struct sh_wire_request rq = {.offset = offset, .hash = hash};
    struct sh_wire_answer a = {.result = 9};

    rq.tensor = peer_tensor(&b->buf, at, SH_DTYPE_I8, n, 1);
    peer_send(&b->p, SH_WIRE_SET_TENSOR_HASH, &rq, NULL, 0);
    peer_answer(&b->p, SH_WIRE_SET_TENSOR_HASH, &a);
    return a.result;
}

static void set(struct bench *b, size_t at, const uint8_t *bytes, uint32_t n, uint8_t flag)
{
    struct sh_wire_request rq = {.value = flag};

    rq.tensor = peer_tensor(&b->buf, at, SH_DTYPE_I8, n, 1);
    peer_send(&b->p, SH_WIRE_SET_TENSOR, &rq, bytes, n);
}

static void expect_there(struct bench *b, size_t at)
{
    uint8_t *got = sh_calloc(BYTES, 1);

    peer_get(&b->p, &b->buf, at, got, BYTES);
    assert_memory_equal(got, b->bytes, BYTES);
    sh_free(got);
}

/* ---- rows -----------------------------------------------------------------------------------*/

static void cache__stores_what_it_lacked(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    assert_int_equal(ask(&b, 32, BYTES, 0, b.hash), 0);
    set(&b, 32, b.bytes, BYTES, 1);
    expect_there(&b, 32);
    assert_int_equal(n_entries(&b), 1);
    assert_int_equal(peer_end(&b.p), SHOAL_OK);

    // Another client, another place, a longer tensor, an offset in it.
    connect_client(&b);
    assert_int_equal(ask(&b, 64, BYTES + 1000, 500, b.hash), 1);
    expect_there(&b, 564);
    assert_int_equal(ask(&b, 0, BYTES, 0, b.hash ^ 1), 0);
    expect_there(&b, 564);
    assert_int_equal(peer_end(&b.p), SHOAL_OK);
    bench_close(&b);
}

static void cache__several_are_asked_ahead(void **state)
{
    struct bench b;
    uint64_t half = 0;

    (void)state;
    bench_open(&b);
    half = sh_fnv(SH_FNV_START, b.bytes + 1000, BYTES - 1000);
    assert_int_equal(ask(&b, 0, BYTES, 0, b.hash), 0);
    assert_int_equal(ask(&b, BYTES, 4000, 0, half), 0); // never comes
    set(&b, BYTES, b.bytes, 4000, 0);                   // nor does the flag
    set(&b, 0, b.bytes, BYTES, 1);
    expect_there(&b, 0);
    assert_int_equal(n_entries(&b), 1);
    assert_int_equal(peer_end(&b.p), SHOAL_OK);
    bench_close(&b);
}

static void cache__needs_question_flag_and_place(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    set(&b, 0, b.bytes, BYTES, 1); // nobody asked
    assert_int_equal(n_entries(&b), 0);
    assert_int_equal(ask(&b, 0, BYTES, 0, b.hash), 0);
    set(&b, 0, b.bytes, BYTES, 0);  // no flag
    set(&b, 32, b.bytes, BYTES, 1); // not there
    expect_there(&b, 32);
    assert_int_equal(n_entries(&b), 0);
    assert_int_equal(peer_end(&b.p), SHOAL_OK);

    connect_client(&b); // what another session asked does not count
    set(&b, 0, b.bytes, BYTES, 1);
    expect_there(&b, 0);
    assert_int_equal(n_entries(&b), 0);
    assert_int_equal(peer_end(&b.p), SHOAL_OK);
    bench_close(&b);
}

static void cache__cannot_be_poisoned_by_other_bytes(void **state)
{
    struct bench b;
    char log[4000];

    (void)state;
    bench_open(&b);
    assert_int_equal(ask(&b, 0, BYTES, 0, b.hash), 0);
    b.bytes[7] ^= 1;
    set(&b, 0, b.bytes, BYTES, 1);
    expect_there(&b, 0); // the client has what it sent
    b.bytes[7] ^= 1;
    assert_int_equal(n_entries(&b), 0);
    set(&b, 0, b.bytes, BYTES - 1, 1); // fewer
    set(&b, 0, b.bytes, 4, 1);
    assert_int_equal(n_entries(&b), 0);
    assert_int_equal(ask(&b, 0, BYTES, 0, b.hash), 0);
    assert_int_equal(peer_end(&b.p), SHOAL_OK);
    (void)peer_log_take(log, sizeof log);
    assert_non_null(strstr(log, "do not have the hash"));
    bench_close(&b);
}

static void put_entry(const struct bench *b, uint64_t hash, const uint8_t *bytes, size_t n)
{
    char path[128];
    FILE *f;

    path_of(b, hash, path);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put_file(const struct bench *b, const uint8_t *bytes, size_t n)
{
    put_entry(b, b->hash, bytes, n);
}

static void cache__files_of_others_are_checked(void **state)
{
    struct bench b;
    char path[128];

    (void)state;
    bench_open(&b);
    path_of(&b, b.hash, path);
    put_file(&b, b.bytes, BYTES); // as another server has left it
    assert_int_equal(ask(&b, 0, BYTES, 0, b.hash), 1);
    expect_there(&b, 0);
    // Longer than what there is room for.
    assert_int_equal(ask(&b, 0, BYTES - 1, 0, b.hash), 0);
    assert_int_equal(ask(&b, 0, BYTES, 1, b.hash), 0);
    assert_int_equal(access(path, F_OK), 0); // it may be right elsewhere
    // A wrong one is deleted, and then stored anew.
    b.bytes[BYTES - 1] ^= 1;
    put_file(&b, b.bytes, BYTES);
    b.bytes[BYTES - 1] ^= 1;
    assert_int_equal(ask(&b, 0, BYTES, 0, b.hash), 0);
    assert_int_equal(access(path, F_OK), -1);
    set(&b, 0, b.bytes, BYTES, 1);
    assert_int_equal(ask(&b, 100, BYTES, 0, UINT64_C(1)), 0); // the SET is done by then
    assert_int_equal(n_entries(&b), 1);
    assert_int_equal(ask(&b, 64, BYTES, 0, b.hash), 1);
    expect_there(&b, 64);
    assert_int_equal(peer_end(&b.p), SHOAL_OK);
    bench_close(&b);
}

static void cache__a_wrong_offset_ends_the_connection(void **state)
{
    static const uint64_t OFFSETS[] = {BYTES + 1, UINT64_MAX, UINT64_MAX - 31};
    struct bench b;

    (void)state;
    bench_open(&b);
    put_file(&b, b.bytes, BYTES);
    for (size_t i = 0; i < sizeof OFFSETS / sizeof OFFSETS[0]; i++) {
        struct sh_wire_request rq = {.offset = OFFSETS[i], .hash = b.hash};
        if (i > 0) connect_client(&b);
        rq.tensor = peer_tensor(&b.buf, 0, SH_DTYPE_I8, BYTES, 1);
        peer_send(&b.p, SH_WIRE_SET_TENSOR_HASH, &rq, NULL, 0);
        assert_int_equal(peer_expect_end(&b.p), SHOAL_ERR_FORMAT);
    }
    connect_client(&b); // at the very end there is room for nothing
    assert_int_equal(ask(&b, 0, BYTES, BYTES, b.hash), 0);
    assert_int_equal(peer_end(&b.p), SHOAL_OK);
    bench_close(&b);
}

/* A client that goes in the middle of what should be stored. */
static void cache__half_a_tensor_is_none(void **state)
{
    struct sh_wire_request rq = {.value = 1};
    uint8_t frame[SH_WIRE_REQUEST_BYTES_MAX];
    struct sh_writer w = sh_writer_over(frame, sizeof frame);
    struct bench b;

    (void)state;
    bench_open(&b);
    assert_int_equal(ask(&b, 0, BYTES, 0, b.hash), 0);
    rq.tensor = peer_tensor(&b.buf, 0, SH_DTYPE_I8, BYTES, 1);
    sh_wire_request_put(&w, SH_WIRE_SET_TENSOR, &rq, BYTES);
    peer_raw(&b.p, frame, w.pos);
    peer_raw(&b.p, b.bytes, BYTES / 2);
    assert_int_equal(peer_end(&b.p), SHOAL_ERR_PEER);
    assert_int_equal(n_entries(&b), 0);
    bench_close(&b);
}

/* Questions that arrive together are worked on together; each is answered as if alone. */
static void cache__many_questions_at_once(void **state)
{
    enum { N = 10, MISSING = 3, DAMAGED = 5, EMPTY = 6, OVER = 8 };
    static const size_t SIZE[N] = {900000, 1, 1300000, 5000, 65536, 400000, 0, 70001, 30000, 12};
    static uint8_t want[ROOM], got[ROOM];
    struct sh_wire_request rq = {.offset = 0};
    struct sh_wire_answer a = {.result = 0};
    uint8_t frames[(N + 1) * 400];
    struct sh_writer w = sh_writer_over(frames, sizeof frames);
    uint64_t hash[N];
    size_t from = 0, to = 0;
    struct bench b;
    char path[128];

    (void)state;
    bench_open(&b);
    memset(want, 0, sizeof want);
    for (int i = 0; i < N; i++) {
        hash[i] = sh_fnv(SH_FNV_START, b.bytes + from, SIZE[i]);
        put_entry(&b, hash[i], b.bytes + from, SIZE[i] - (i == DAMAGED));
        if (i == MISSING) {
            path_of(&b, hash[i], path);
            assert_int_equal(unlink(path), 0);
        }
        if (i == OVER) to -= 20000; // over the end of the one before: the later one wins
        if (i != MISSING && i != DAMAGED) memcpy(want + to, b.bytes + from, SIZE[i]);
        rq.tensor = peer_tensor(&b.buf, to, SH_DTYPE_I8, (uint32_t)SIZE[i] + 1, 1);
        rq.hash = hash[i];
        sh_wire_request_put(&w, SH_WIRE_SET_TENSOR_HASH, &rq, 0);
        from += SIZE[i];
        to += SIZE[i] + 7;
    }
    rq.offset = ROOM;
    sh_wire_request_put(&w, SH_WIRE_SET_TENSOR_HASH, &rq, 0);
    assert_false(w.bad);
    peer_raw(&b.p, frames, w.pos - w.pos / (N + 1)); // all but the last, which is wrong
    for (int i = 0; i < N; i++) {
        peer_answer(&b.p, SH_WIRE_SET_TENSOR_HASH, &a);
        assert_int_equal(a.result, i != MISSING && i != DAMAGED);
    }
    peer_get(&b.p, &b.buf, 0, got, ROOM);
    from = SIZE[0] + SIZE[1] + SIZE[2] + SIZE[3] + SIZE[4] + 7 * 5; // of the damaged one
    memset(got + from, 0, SIZE[DAMAGED]);
    assert_memory_equal(got, want, ROOM);

    // With the wrong one at the end: the others are answered before the connection ends.
    peer_raw(&b.p, frames, w.pos);
    for (int i = 0; i < N; i++)
        peer_answer(&b.p, SH_WIRE_SET_TENSOR_HASH, &a);
    assert_int_equal(peer_expect_end(&b.p), SHOAL_ERR_FORMAT);
    for (int i = 0; i < N; i++) {
        path_of(&b, hash[i], path);
        assert_int_equal(unlink(path) == 0, i != MISSING && i != DAMAGED);
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache__stores_what_it_lacked),
        cmocka_unit_test(cache__several_are_asked_ahead),
        cmocka_unit_test(cache__needs_question_flag_and_place),
        cmocka_unit_test(cache__cannot_be_poisoned_by_other_bytes),
        cmocka_unit_test(cache__files_of_others_are_checked),
        cmocka_unit_test(cache__a_wrong_offset_ends_the_connection),
        cmocka_unit_test(cache__half_a_tensor_is_none),
        cmocka_unit_test(cache__many_questions_at_once),
    };

    return cmocka_run_group_tests_name("server cache", tests, NULL, NULL);
}
