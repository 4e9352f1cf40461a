/* tests/bench/conn_bench.c - what a connection costs beyond its bytes: round trips of frames.
 *
 *     conn_bench [rounds]
 *
 * Two threads over TCP on loopback, plain and TLS by turns: bare reads and writes of as many bytes,
 * then HIDDEN frames from run() to run(), each answered from the handler.  Medians and least of
 * wall time in microseconds, over all rounds.  CPU is that of the whole process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/listener.h"
#include "net/tls.h"
#include "rpc/conn.h"

#define ROUND_TRIPS 4000
#define WARM 500

static struct sh_key g_key;

static double now(clockid_t which)
{
    struct timespec t;

    clock_gettime(which, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- streams --------------------------------------------------------------------------------*/

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

static bool connect_two(bool tls, struct sh_stream **a, struct sh_stream **b)
{
    const struct sh_tcp_options opt = {.unsent_max = SH_TCP_UNSENT_MAX};
    struct sh_listener *l = NULL;
    struct sh_address peer;
    struct sh_endpoint ep;
    bool ok = !sh_endpoint_parse(&ep, "127.0.0.1:0", -1, NULL) && !sh_listener_open(&l, &ep, NULL);

    ok = ok && !sh_endpoint_parse(&ep, sh_listener_text(l), -1, NULL) &&
         !sh_tcp_connect(a, &ep, SH_SECOND, &opt, NULL) &&
         !sh_listener_accept(l, SH_SECOND, &opt, b, &peer, NULL);
    sh_listener_close(l);
    return ok && (!tls || encrypt(a, b));
}

/* ---- figures --------------------------------------------------------------------------------*/

struct figures {
    double *each;
    size_t n;
    double cpu, wall;
};

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void say(const char *what, bool tls, size_t bytes, struct figures *f)
{
    qsort(f->each, f->n, sizeof *f->each, by_value);
    printf("%-5s %-5s %6zu bytes   median %7.2f us   least %7.2f us   cpu %7.2f us\n", what,
           tls ? "tls" : "plain", bytes, f->each[f->n / 2] * 1e6, f->each[0] * 1e6,
           f->cpu / (double)f->n * 1e6);
}

/* ---- bare bytes -----------------------------------------------------------------------------*/

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

static bool measure_bare(bool tls, size_t bytes, struct figures *f)
{
    struct sh_stream *a, *b;
    struct sh_thread thread = SH_THREAD_INIT;
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);
    uint8_t *buf = sh_calloc(1, bytes);
    struct echo e;
    bool ok = buf && connect_two(tls, &a, &b);

    if (!ok) return false;
    e = (struct echo){.s = b, .bytes = bytes};
    ok = !sh_thread_start(&thread, "echo", run_echo, &e, NULL);
    double cpu = 0;
    for (int i = 0; ok && i < WARM + ROUND_TRIPS; i++) {
        if (i == WARM) cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        const double start = now(CLOCK_MONOTONIC);
        ok = !sh_stream_write_full(a, buf, bytes, &pace, NULL) &&
             !sh_stream_read_full(a, buf, bytes, &pace, NULL);
        if (i >= WARM) f->each[f->n++] = now(CLOCK_MONOTONIC) - start;
    }
    f->cpu += now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    sh_stream_cut(a);
    sh_thread_join(&thread);
    sh_stream_close(a);
    sh_stream_close(b);
    sh_free(buf);
    return ok;
}

/* ---- frames ---------------------------------------------------------------------------------*/

struct end {
    struct sh_rpc_conn *c;
    struct sh_stream *s;
    bool tls, is_client;
    uint8_t *data;
    uint32_t n_data;
    int round;
    double start, cpu;
    struct figures *f;
};

static enum shoal_status send_rows(struct end *e, struct shoal_error *err)
{
    const struct sh_rpc_hidden m = {.data = {e->data, e->n_data}};

    return sh_rpc_conn_send(e->c, SH_RPC_MSG_HIDDEN, 0, &m, err);
}

static enum shoal_status on_message(void *self, struct sh_rpc_conn *c,
                                    const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    struct end *e = self;
    const double t = now(CLOCK_MONOTONIC);

    (void)m;
    e->c = c;
    if (e->is_client) {
        if (e->round >= WARM) e->f->each[e->f->n++] = t - e->start;
        if (++e->round == WARM) e->cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        if (e->round == WARM + ROUND_TRIPS) {
            e->f->cpu += now(CLOCK_PROCESS_CPUTIME_ID) - e->cpu;
            sh_rpc_conn_leave(c, "done");
            return SHOAL_OK;
        }
        e->start = now(CLOCK_MONOTONIC);
    }
    return send_rows(e, err);
}

static const struct sh_rpc_conn_options *options(bool tls)
{
    static const struct sh_rpc_conn_options opts[2] = {
        {.features = SH_RPC_FEATURES_ALL}, {.features = SH_RPC_FEATURES_ALL, .encrypted = true}};

    return &opts[tls];
}

static void *run_server(void *arg)
{
    struct end *e = arg;
    const struct sh_rpc_handler h = {.message = on_message, .self = e};

    if (sh_rpc_conn_accept(&e->c, e->s, options(e->tls), NULL)) return NULL;
    (void)!sh_rpc_conn_run(e->c, &h, NULL);
    sh_rpc_conn_close(e->c, NULL);
    return NULL;
}

static bool measure_frames(bool tls, size_t bytes, struct figures *f)
{
    const struct sh_rpc_hidden none = {.n_rows = 0};
    const size_t head = sh_rpc_frame_bytes(SH_RPC_MSG_HIDDEN, &none, SH_RPC_REVISION);
    struct sh_thread thread = SH_THREAD_INIT;
    struct end ends[2] = {{.tls = tls, .is_client = true, .f = f}, {.tls = tls}};
    struct sh_stream *a, *b;
    bool ok = connect_two(tls, &a, &b);

    for (int i = 0; i < 2; i++) {
        ends[i].n_data = (uint32_t)(bytes - head);
        ends[i].data = sh_calloc(1, bytes);
    }
    ends[1].s = b;
    ok = ok && ends[0].data && ends[1].data &&
         !sh_thread_start(&thread, "server", run_server, &ends[1], NULL) &&
         !sh_rpc_conn_connect(&ends[0].c, a, options(tls), NULL);
    if (!ok) return false;
    const struct sh_rpc_handler h = {.message = on_message, .self = &ends[0]};
    ends[0].start = now(CLOCK_MONOTONIC);
    ok = !send_rows(&ends[0], NULL) && !sh_rpc_conn_run(ends[0].c, &h, NULL);
    sh_rpc_conn_close(ends[0].c, NULL);
    sh_thread_join(&thread);
    sh_free(ends[0].data);
    sh_free(ends[1].data);
    return ok;
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {400, 4096, 16500, 65536};
    const size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 3;
    bool ok = !sh_key_make(&g_key, NULL);

    for (size_t i = 0; ok && i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int tls = 0; ok && tls < 2; tls++) {
            struct figures bare = {.n = 0}, frames = {.n = 0};
            bare.each = sh_calloc(rounds * ROUND_TRIPS, sizeof(double));
            frames.each = sh_calloc(rounds * ROUND_TRIPS, sizeof(double));
            ok = rounds > 0 && bare.each && frames.each;
            for (size_t r = 0; ok && r < rounds; r++)
                ok = measure_bare(tls, sizes[i], &bare) && measure_frames(tls, sizes[i], &frames);
            if (ok) say("bare", tls, sizes[i], &bare);
            if (ok) say("conn", tls, sizes[i], &frames);
            sh_free(bare.each);
            sh_free(frames.each);
        }
    }
    return ok ? 0 : 1;
}
