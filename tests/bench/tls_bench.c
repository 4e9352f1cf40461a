/* tests/bench/tls_bench.c - what TLS costs: bytes per second and core, round trips, handshakes.
 *
 *     tls_bench [rounds]
 *
 * GB/s: one thread writes and reads through memory; the time of either half is the thread's own.
 * Round trips: two threads over TCP on loopback, plain and TLS by turns, medians of wall time.
 * Handshakes: wall time of both ends over memory, median.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/listener.h"
#include "net/tls.h"

#define MOVED ((size_t)1 << 30)
#define ROUND_TRIPS 2000
#define HANDSHAKES 200

static struct sh_key g_key;

static double now(clockid_t which)
{
    struct timespec t;

    clock_gettime(which, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool find(void *self, const char *identity, struct sh_key *out)
{
    (void)self;
    (void)identity;
    *out = g_key;
    return true;
}

struct server {
    struct sh_stream *below, *tls;
};

static void *accept_one(void *arg)
{
    static const struct sh_tls_keys keys = {.find = find};
    struct server *s = arg;
    char identity[SH_TLS_IDENTITY_MAX];

    if (sh_tls_accept(&s->tls, s->below, &keys, 10 * SH_SECOND, identity, NULL)) s->tls = NULL;
    return NULL;
}

/* TLS over both ends, in their place. */
static bool encrypt(struct sh_stream **a, struct sh_stream **b)
{
    struct server s = {.below = *b};
    struct sh_thread thread = SH_THREAD_INIT;
    struct sh_stream *client = NULL;

    if (sh_thread_start(&thread, "server", accept_one, &s, NULL)) return false;
    const enum shoal_status st =
        sh_tls_connect(&client, *a, "v1|bench|c2w", &g_key, 10 * SH_SECOND, NULL);
    sh_thread_join(&thread);
    *a = client;
    *b = s.tls;
    return !st && s.tls;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

/* ---- bytes ----------------------------------------------------------------------------------*/

static bool move(bool tls, size_t piece, size_t total)
{
    struct sh_stream *a, *b;
    uint8_t *src = sh_calloc(1, piece), *dst = sh_malloc(piece);
    double writing = 0, reading = 0;
    bool ok = src && dst && !sh_stream_pair(&a, &b, (size_t)4 << 20, NULL);

    ok = ok && (!tls || encrypt(&a, &b));
    for (size_t at = 0; ok && at < total; at += piece) {
        struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);
        const double start = now(CLOCK_THREAD_CPUTIME_ID);
        ok = !sh_stream_write_full(a, src, piece, &pace, NULL);
        const double middle = now(CLOCK_THREAD_CPUTIME_ID);
        ok = ok && !sh_stream_read_full(b, dst, piece, &pace, NULL);
        writing += middle - start;
        reading += now(CLOCK_THREAD_CPUTIME_ID) - middle;
    }
    if (ok) {
        printf("%-5s %7zu bytes   write %6.2f GB/s   read %6.2f GB/s   both %6.2f GB/s\n",
               tls ? "tls" : "plain", piece, (double)total / writing / 1e9,
               (double)total / reading / 1e9, (double)total / (writing + reading) / 1e9);
        sh_stream_close(a);
        sh_stream_close(b);
    }
    sh_free(src);
    sh_free(dst);
    return ok;
}

/* ---- round trips ----------------------------------------------------------------------------*/

struct echo {
    struct sh_stream *s;
    size_t bytes;
};

static void *run_echo(void *arg)
{
    struct echo *e = arg;
    uint8_t *buf = sh_malloc(e->bytes);
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);

    while (buf && !sh_stream_read_full(e->s, buf, e->bytes, &pace, NULL) &&
           !sh_stream_write_full(e->s, buf, e->bytes, &pace, NULL)) {
    }
    sh_free(buf);
    return NULL;
}

static bool connect_tcp(struct sh_stream **a, struct sh_stream **b)
{
    const struct sh_tcp_options opt = {.user_timeout_ms = 0};
    struct sh_listener *l = NULL;
    struct sh_address peer;
    struct sh_endpoint ep;
    bool ok = !sh_endpoint_parse(&ep, "127.0.0.1:0", -1, NULL) && !sh_listener_open(&l, &ep, NULL);

    ok = ok && !sh_endpoint_parse(&ep, sh_listener_text(l), -1, NULL) &&
         !sh_tcp_connect(a, &ep, SH_SECOND, &opt, NULL) &&
         !sh_listener_accept(l, SH_SECOND, &opt, b, &peer, NULL);
    sh_listener_close(l);
    return ok;
}

/* Median microseconds; negative: failed. */
static double round_trip(bool tls, size_t bytes)
{
    static double each[ROUND_TRIPS];
    struct sh_stream *a, *b;
    struct sh_thread thread = SH_THREAD_INIT;
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);
    uint8_t *buf = sh_calloc(1, bytes);
    struct echo e;

    if (!buf || !connect_tcp(&a, &b) || (tls && !encrypt(&a, &b))) return -1;
    e = (struct echo){.s = b, .bytes = bytes};
    if (sh_thread_start(&thread, "echo", run_echo, &e, NULL)) return -1;
    for (int i = 0; i < ROUND_TRIPS; i++) {
        const double start = now(CLOCK_MONOTONIC);
        if (sh_stream_write_full(a, buf, bytes, &pace, NULL) ||
            sh_stream_read_full(a, buf, bytes, &pace, NULL)) {
            return -1;
        }
        each[i] = (now(CLOCK_MONOTONIC) - start) * 1e6;
    }
    sh_stream_close(a);
    sh_thread_join(&thread);
    sh_stream_close(b);
    sh_free(buf);
    return median(each, ROUND_TRIPS);
}

static bool handshakes(void)
{
    static double each[HANDSHAKES];

    for (int i = 0; i < HANDSHAKES; i++) {
        struct sh_stream *a, *b;
        if (sh_stream_pair(&a, &b, 65536, NULL)) return false;
        const double start = now(CLOCK_MONOTONIC);
        if (!encrypt(&a, &b)) return false;
        each[i] = (now(CLOCK_MONOTONIC) - start) * 1e3;
        sh_stream_close(a);
        sh_stream_close(b);
    }
    printf("handshake %.2f ms\n", median(each, HANDSHAKES));
    return true;
}

int main(int argc, char **argv)
{
    static const size_t pieces[] = {1024, 16384, 65536, 1048576};
    static const size_t frames[] = {64, 4096, 16384};
    const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 3;
    bool ok = !sh_key_make(&g_key, NULL);

    for (size_t i = 0; ok && i < sizeof pieces / sizeof pieces[0]; i++)
        ok = move(false, pieces[i], MOVED) && move(true, pieces[i], MOVED);
    for (size_t i = 0; ok && i < sizeof frames / sizeof frames[0]; i++) {
        for (long r = 0; ok && r < rounds; r++) {
            const double plain = round_trip(false, frames[i]), tls = round_trip(true, frames[i]);
            ok = plain > 0 && tls > 0;
            if (ok)
                printf("round trip %6zu bytes   plain %6.1f us   tls %6.1f us\n", frames[i], plain,
                       tls);
        }
    }
    ok = ok && handshakes();
    if (!ok) printf("failed\n");
    return ok ? 0 : 1;
}
