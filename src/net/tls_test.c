/* TLS over memory and TCP between two ends that know each other: data, the end, what it costs. */
#include "net/tls_rig_test.h"

#include <dirent.h>

/* ---- data -----------------------------------------------------------------------------------*/

#define MOVED ((uint64_t)2 << 20)

struct flow {
    struct sh_stream *s;
    unsigned salt;
    uint64_t seed;
    bool ok;
};

static void *write_flow(void *arg)
{
    struct flow *f = arg;
    uint8_t *bytes = sh_malloc(100000);

    f->ok = bytes != NULL;
    for (uint64_t at = 0; f->ok && at < MOVED;) {
        struct sh_pace pace = in_time();
        const uint64_t most = next_random(&f->seed) % 3 ? 500 : 100000;
        uint64_t n = 1 + next_random(&f->seed) % most;
        const uint64_t head = next_random(&f->seed) % 20;
        if (n > MOVED - at) n = MOVED - at;
        for (uint64_t i = 0; i < n; i++)
            bytes[i] = byte_at(at + i, f->salt);
        const size_t h = (size_t)(head < n ? head : n);
        struct iovec v[4] = {
            {bytes, h / 2}, {bytes + h / 2, h - h / 2}, {bytes, 0}, {bytes + h, (size_t)n - h}};
        f->ok = !sh_stream_writev_full(f->s, v, 4, &pace, NULL);
        at += n;
    }
    sh_tls_shutdown(f->s, LONG);
    sh_free(bytes);
    return NULL;
}

static void *read_flow(void *arg)
{
    struct flow *f = arg;
    uint8_t *bytes = sh_malloc(100000);
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint64_t at = 0;

    f->ok = bytes != NULL;
    while (f->ok) {
        struct sh_pace pace = in_time();
        const uint64_t most = next_random(&f->seed) % 3 ? 700 : 100000;
        size_t got = 0;
        f->ok = !sh_stream_read_some(f->s, bytes, (size_t)(1 + next_random(&f->seed) % most), &pace,
                                     &got, &err);
        if (!f->ok) print_message("reading: %s\n", err.message);
        if (!f->ok || got == 0) break;
        for (size_t i = 0; i < got; i++)
            f->ok = f->ok && bytes[i] == byte_at(at + i, f->salt);
        at += got;
    }
    f->ok = f->ok && at == MOVED;
    sh_free(bytes);
    return NULL;
}

static void tls__moves_all_bytes_both_ways_at_once(void **state)
{
    struct sh_stream *a, *b;
    struct sh_thread thread[4] = {SH_THREAD_INIT, SH_THREAD_INIT, SH_THREAD_INIT, SH_THREAD_INIT};
    struct flow flow[4];

    open_tls(*state, &a, &b);
    ((struct sh_tls *)a)->update_every = 7; // keys change all the time
    ((struct sh_tls *)b)->update_every = 50;
    flow[0] = (struct flow){a, 1, 11, false};
    flow[1] = (struct flow){b, 2, 22, false};
    flow[2] = (struct flow){a, 2, 33, false};
    flow[3] = (struct flow){b, 1, 44, false};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(
            sh_thread_start(&thread[i], "flow", i < 2 ? write_flow : read_flow, &flow[i], NULL),
            SHOAL_OK);
    }
    for (int i = 0; i < 4; i++)
        sh_thread_join(&thread[i]);
    for (int i = 0; i < 4; i++)
        assert_true(flow[i].ok);
    assert_int_equal(atomic_load(&a->bytes_written), MOVED);
    assert_int_equal(atomic_load(&a->bytes_read), MOVED);
    assert_true(((struct sh_tls *)a)->n_updates > 10);
    assert_true(((struct sh_tls *)b)->n_updates > 1);
    sh_stream_close(a);
    sh_stream_close(b);
}

static void tls__a_frame_is_one_record_and_one_write(void **state)
{
    static const size_t total[] = {1, 100, 16383, 16384};
    static uint8_t bytes[SH_TLS_RECORD_BYTES];
    struct sh_stream *a, *b;
    struct end c, s;
    struct tap *tap;

    (void)state;
    assert_int_equal(sh_stream_pair(&a, &b, 1 << 20, NULL), SHOAL_OK);
    tap = new_tap(a);
    ends_over(&c, &s, &tap->head, b);
    shake(&c, &s);
    assert_int_equal(c.st, SHOAL_OK);
    assert_int_equal(s.st, SHOAL_OK);
    for (size_t i = 0; i < 4; i++) {
        struct sh_pace pace = in_time();
        const size_t n = total[i], head = n < 16 ? 0 : 16, mid = n / 2 < 5 ? 0 : 5;
        const uint64_t writes = tap->n_writes, written = tap->n_written;
        struct iovec v[3] = {{bytes, head}, {bytes, mid}, {bytes, n - head - mid}};
        assert_int_equal(sh_stream_writev_full(c.tls, v, 3, &pace, NULL), SHOAL_OK);
        assert_int_equal(tap->n_writes, writes + 1);
        assert_int_equal(tap->n_written, written + n + 22);
    }
    const uint64_t writes = tap->n_writes;
    uint8_t *big = sh_calloc(10, SH_TLS_RECORD_BYTES);
    struct sh_pace pace = in_time();
    assert_int_equal(
        sh_stream_write_full(c.tls, big, (size_t)10 * SH_TLS_RECORD_BYTES, &pace, NULL), SHOAL_OK);
    assert_int_equal(tap->n_writes, writes + 3); // batches of four records
    sh_free(big);
    sh_stream_close(c.tls);
    sh_stream_close(s.tls);
    sh_free(tap);
}

static void tls__an_end_is_orderly_only_after_close_notify(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    char buf[8] = "";
    size_t got;

    open_tls(*state, &a, &b);
    assert_int_equal(sh_stream_write_full(a, "abc", 3, &pace, NULL), SHOAL_OK);
    sh_tls_shutdown(a, LONG);
    assert_int_equal(sh_stream_read_full(b, buf, 3, &pace, NULL), SHOAL_OK);
    assert_memory_equal(buf, "abc", 3);
    assert_int_equal(sh_stream_read_some(b, buf, 8, &pace, &got, NULL), SHOAL_OK);
    assert_int_equal(got, 0);
    assert_true(sh_stream_hung_up(b));
    // The other direction is still open.
    assert_int_equal(sh_stream_write_full(b, "def", 3, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_full(a, buf, 1, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_write_full(b, "gh", 2, &pace, NULL), SHOAL_OK);
    sh_tls_shutdown(a, LONG); // once is enough, twice does no harm to what is still to be read
    assert_int_equal(sh_stream_read_full(a, buf, 4, &pace, NULL), SHOAL_OK);
    assert_memory_equal(buf, "efgh", 4);
    sh_stream_close(a);
    assert_int_equal(sh_stream_read_some(b, buf, 8, &pace, &got, NULL), SHOAL_OK);
    assert_int_equal(got, 0);
    sh_stream_close(b);

    open_tls(*state, &a, &b);
    assert_int_equal(sh_stream_write_full(a, "abc", 3, &pace, NULL), SHOAL_OK);
    sh_stream_close(a); // without a word
    assert_int_equal(sh_stream_read_full(b, buf, 3, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_some(b, buf, 8, &pace, &got, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "cut off"));
    assert_string_equal(err.peer, b->peer);
    assert_int_equal(sh_stream_read_some(b, buf, 8, &pace, &got, &err), SHOAL_ERR_PEER);
    assert_true(sh_stream_hung_up(b));
    sh_stream_close(b);
}

static void *read_blocked(void *arg)
{
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);
    char one;

    return (void *)(intptr_t)sh_stream_read_full(arg, &one, 1, &pace, NULL);
}

static void tls__cut_ends_a_blocked_read_and_all_later_calls(void **state)
{
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    pthread_t thread;
    void *result;

    open_tls(*state, &a, &b);
    assert_int_equal(pthread_create(&thread, NULL, read_blocked, b), 0);
    sh_stream_cut(b);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, SHOAL_ERR_CANCELLED);
    assert_int_equal(sh_stream_write_full(b, "x", 1, &pace, NULL), SHOAL_ERR_CANCELLED);
    sh_tls_shutdown(b, LONG);
    sh_stream_close(b);
    sh_stream_close(a);
}

static void tls__silence_and_a_full_pipe_time_out(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *a, *b;
    struct sh_pace pace = sh_pace_rate(50 * SH_MS, SH_NO_DEADLINE, 0);
    const size_t big = (size_t)64 << 20;
    uint8_t *zeros = sh_calloc(big, 1);
    char one;

    open_tls(*state, &a, &b);
    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_read_full(b, &one, 1, &pace, &err), SHOAL_ERR_TIMEOUT);
    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_write_full(a, zeros, big, &pace, &err), SHOAL_ERR_TIMEOUT);
    // Another, shorter message cannot follow half of one.
    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_write_full(a, zeros, 1, &pace, &err), SHOAL_ERR_STATE);
    sh_tls_shutdown(a, 10 * SH_MS); // does not wait for ever
    sh_free(zeros);
    sh_stream_close(a);
    sh_stream_close(b);
}

/* ---- what it costs --------------------------------------------------------------------------*/

static int open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* The first bytes that a client sends. */
static size_t client_hello(uint8_t *dst, size_t cap)
{
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    struct end c;
    size_t n;

    open_below(NULL, &a, &b);
    c = (struct end){.below = a, .identity = g_identity, .key = g_key, .ns = 0};
    run_client(&c); // its time has passed when the first message is out
    assert_int_equal(c.st, SHOAL_ERR_TIMEOUT);
    assert_int_equal(sh_stream_read_some(b, dst, cap, &pace, &n, NULL), SHOAL_OK);
    sh_stream_close(b);
    return n;
}

static void tls__half_open_handshakes_leave_nothing(void **state)
{
    uint8_t hello[1000];
    const size_t n = client_hello(hello, sizeof hello);
    int64_t ssl_live = 0;
    size_t live = 0;
    int files = 0;

    for (int i = 0; i < 300; i++) {
        struct sh_stream *a, *b;
        struct sh_pace pace = in_time();
        struct end s;
        if (i == 20) { // what OpenSSL keeps for ever is there
            ssl_live = g_ssl_live;
            live = sh_mem_live_bytes();
            files = open_descriptors();
        }
        open_below(*state, &a, &b);
        s = (struct end){.below = b, .ns = LONG};
        assert_int_equal(sh_stream_write_full(a, hello, i % 4 ? n : (size_t)i % n, &pace, NULL),
                         SHOAL_OK);
        sh_stream_close(a);
        run_server(&s);
        assert_int_equal(s.st, SHOAL_ERR_PEER);
    }
    assert_int_equal(sh_mem_live_bytes(), live);
    assert_int_equal(open_descriptors(), files);
    assert_int_equal(g_ssl_live, ssl_live);
}

static void tls__memory_of_a_stream_is_bounded(void **state)
{
    enum { PAIRS = 8 };
    struct sh_stream *a[PAIRS + 1], *b[PAIRS + 1];
    int64_t ssl_live, each;
    size_t live, ours;

    open_tls(NULL, &a[PAIRS], &b[PAIRS]);
    ssl_live = g_ssl_live;
    live = sh_mem_live_bytes();
    for (int i = 0; i < PAIRS; i++)
        open_tls(*state, &a[i], &b[i]);
    each = (g_ssl_live - ssl_live) / (2 * PAIRS);
    ours = (sh_mem_live_bytes() - live) / (2 * PAIRS);
    print_message("OpenSSL: %lld bytes per stream, ours: %zu\n", (long long)each, ours);
    assert_true(each > 0 && each < 65536);
    assert_true(ours < 32768);
    for (int i = 0; i <= PAIRS; i++) {
        sh_stream_close(a[i]);
        sh_stream_close(b[i]);
    }
}

static void tls__each_failed_allocation_is_survived(void **state)
{
    bool pending = false;

    (void)state;
    for (int n = 0; !pending; n++) {
        struct sh_stream *a, *b;
        struct end c, s;
        open_below(NULL, &a, &b);
        ends_over(&c, &s, a, b);
        sh_mem_fail_after(n);
        shake(&c, &s);
        pending = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (!pending) assert_true(c.st && s.st);
        sh_stream_close(c.tls);
        sh_stream_close(s.tls);
    }
}

static void tls__openssl_without_memory_is_survived(void **state)
{
    int64_t n = 0, step = 1;
    bool pending = false;

    (void)state;
    for (; !pending; n += step) {
        struct sh_stream *a, *b;
        struct end c, s;
        open_below(NULL, &a, &b);
        ends_over(&c, &s, a, b);
        g_ssl_fail = n;
        shake(&c, &s);
        pending = g_ssl_fail >= 0;
        g_ssl_fail = -1;
        if (c.st) assert_true(c.err.message[0]);
        if (s.st) assert_true(s.err.message[0]);
        sh_stream_close(c.tls);
        sh_stream_close(s.tls);
        step = n < 100 ? 1 : 17; // most are alike
    }
    print_message("%lld allocations\n", (long long)n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(tls__moves_all_bytes_both_ways_at_once),
        cmocka_unit_test(tls__a_frame_is_one_record_and_one_write),
        BOTH(tls__an_end_is_orderly_only_after_close_notify),
        BOTH(tls__cut_ends_a_blocked_read_and_all_later_calls),
        BOTH(tls__silence_and_a_full_pipe_time_out),
        BOTH(tls__half_open_handshakes_leave_nothing),
        cmocka_unit_test(tls__memory_of_a_stream_is_bounded),
        cmocka_unit_test(tls__each_failed_allocation_is_survived),
        cmocka_unit_test(tls__openssl_without_memory_is_survived),
    };

    if (!tls_rig_open()) return 1;
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
