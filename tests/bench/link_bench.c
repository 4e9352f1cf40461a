/* tests/bench/link_bench.c - one way of a small frame: over a link, and over a bare TCP stream.
 *
 *     link_bench [bytes of rows] [rounds] [pause us]
 *
 * Both in one process on loopback: a thread sends, the thread of the other end notes the time when
 * it has the rows.  The two take turns; medians and least times in microseconds, then half of a
 * round trip as PROBE measures it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/listener.h"
#include "rpc/link.h"

#define ROUNDS_MAX 100000

struct side {
    struct sh_mutex lock;
    struct sh_cond changed;
    int n_seen;
    int64_t seen_ns; /* when the last one came */
    size_t bytes;    /* of the bare stream */
    struct sh_stream *stream;
    struct sh_rpc_links *links;
    struct sh_listener *listener;
};

static int64_t now(void)
{
    return sh_now_ns(&sh_clock_system);
}

static void note(struct side *s, int64_t when)
{
    sh_mutex_lock(&s->lock);
    s->seen_ns = when;
    s->n_seen++;
    sh_cond_signal(&s->changed);
    sh_mutex_unlock(&s->lock);
}

static int64_t await(struct side *s, int n)
{
    int64_t when;

    sh_mutex_lock(&s->lock);
    while (s->n_seen < n)
        (void)sh_cond_wait(&s->changed, &s->lock, INT64_MAX);
    when = s->seen_ns;
    sh_mutex_unlock(&s->lock);
    return when;
}

static enum shoal_status on_rows(void *self, const struct sh_rpc_hidden *m, struct shoal_error *err)
{
    (void)m;
    (void)err;
    note(self, now());
    return SHOAL_OK;
}

static void on_wants(void *self, struct sh_rpc_handle *stage, uint64_t *epoch, uint64_t *next)
{
    (void)self;
    *stage = (struct sh_rpc_handle){0, 1};
    *epoch = *next = 0;
}

static void on_up(void *self, uint64_t epoch, uint64_t next)
{
    (void)self, (void)epoch, (void)next;
}

static void on_down(void *self, enum shoal_status st, const struct shoal_error *why)
{
    (void)self, (void)st, (void)why;
}

/* Let one in, and serve it as a link. */
static void *serve_link(void *self)
{
    const struct sh_rpc_conn_options opt = {.features = SH_RPC_FEATURES_ALL};
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct side *s = self;
    struct sh_address peer;
    struct sh_rpc_conn *c;

    if (sh_listener_accept(s->listener, 10 * SH_SECOND, &tcp, &s->stream, &peer, NULL)) return NULL;
    if (!sh_rpc_conn_accept(&c, s->stream, &opt, NULL)) {
        (void)sh_rpc_links_serve(s->links, c, "", NULL);
        sh_rpc_conn_close(c, NULL);
    }
    return NULL;
}

static void *serve_bare(void *self)
{
    struct side *s = self;
    uint8_t *buf = sh_malloc(s->bytes);
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);

    while (buf && !sh_stream_read_full(s->stream, buf, s->bytes, &pace, NULL))
        note(s, now());
    sh_free(buf);
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void tell(const char *what, double *us, int n)
{
    qsort(us, (size_t)n, sizeof *us, by_size);
    printf("%-14s least %6.1f  median %6.1f  p90 %6.1f us\n", what, us[0], us[n / 2],
           us[n * 9 / 10]);
}

struct ends {
    struct side link, bare;
    struct sh_rpc_link *from, *to;
    struct sh_stream *out;
    struct sh_thread link_thread, bare_thread;
};

static bool open_ends(struct ends *e, uint32_t bytes, struct shoal_error *err)
{
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct sh_rpc_link_options opt = {
        .features = SH_RPC_FEATURES_ALL,
        .events = {on_rows, on_wants, on_up, on_up, on_down, &e->link}};
    char text[SH_ADDRESS_TEXT_MAX], worked[SH_ADDRESS_TEXT_MAX];
    const char *list[] = {text};
    struct sh_listener *l;
    struct sh_address peer;
    struct sh_endpoint ep;
    uint32_t us;

    memset(e, 0, sizeof *e);
    e->bare.bytes = bytes;
    sh_mutex_init(&e->link.lock), sh_cond_init(&e->link.changed);
    sh_mutex_init(&e->bare.lock), sh_cond_init(&e->bare.changed);
    if (sh_endpoint_parse(&ep, "127.0.0.1:0", -1, err) || sh_listener_open(&l, &ep, err))
        return false;
    snprintf(text, sizeof text, "%s", sh_listener_text(l));
    e->link.listener = l;
    if (sh_endpoint_parse(&ep, text, -1, err) || sh_tcp_connect(&e->out, &ep, SH_SECOND, &tcp, err))
        return false;
    if (sh_listener_accept(l, SH_SECOND, &tcp, &e->bare.stream, &peer, err)) return false;
    if (sh_thread_start(&e->bare_thread, "bare", serve_bare, &e->bare, err)) return false;
    if (sh_rpc_links_create(&e->link.links, err)) return false;
    if (sh_rpc_link_expect(e->link.links, &e->to, &opt, err)) return false;
    opt.writes = true;
    if (sh_thread_start(&e->link_thread, "link", serve_link, &e->link, err)) return false;
    return !sh_rpc_link_open(&e->from, &opt, list, 1, SH_SECOND, worked, &us, err);
}

static void close_ends(struct ends *e)
{
    sh_rpc_link_close(e->from);
    sh_rpc_link_close(e->to);
    sh_stream_close(e->out);
    sh_thread_join(&e->bare_thread);
    sh_thread_join(&e->link_thread);
    sh_stream_close(e->bare.stream);
    sh_rpc_links_destroy(e->link.links);
    sh_listener_close(e->link.listener);
}

static bool measure(struct ends *e, uint32_t bytes, int rounds, int pause_us,
                    struct shoal_error *err)
{
    const struct timespec pause = {.tv_nsec = pause_us * 1000L};
    double *link_us = sh_calloc((size_t)rounds, sizeof *link_us);
    double *bare_us = sh_calloc((size_t)rounds, sizeof *bare_us);
    uint8_t *data = sh_calloc(bytes, 1);
    const struct sh_rpc_hidden m = {.n_rows = 1, .data = {.ptr = data, .n = bytes}};
    struct sh_rpc_link_probed probed;
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);
    bool ok = link_us && bare_us && data;

    for (int i = 0; i < rounds && ok; i++) {
        int64_t start = now();
        ok = !sh_rpc_link_send(e->from, &m, err);
        if (ok) link_us[i] = (double)(await(&e->link, i + 1) - start) / 1e3;
        nanosleep(&pause, NULL);
        start = now();
        ok = ok && !sh_stream_write_full(e->out, data, bytes, &pace, err);
        if (ok) bare_us[i] = (double)(await(&e->bare, i + 1) - start) / 1e3;
        nanosleep(&pause, NULL);
    }
    if (ok) tell("link", link_us, rounds);
    if (ok) tell("bare", bare_us, rounds);
    ok = ok && !sh_rpc_link_probe(e->from, bytes, 1000, &probed, err);
    if (ok)
        printf("half a probe   least %6.1f  median %6.1f us\n", probed.least_us / 2.0,
               probed.median_us / 2.0);
    sh_free(link_us);
    sh_free(bare_us);
    sh_free(data);
    return ok;
}

static int number(int argc, char **argv, int i, int otherwise)
{
    return argc > i ? (int)strtol(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    const int bytes = number(argc, argv, 1, 2304), rounds = number(argc, argv, 2, 2000);
    const int pause_us = number(argc, argv, 3, 200);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct ends e;

    if (bytes < 1 || bytes > 1 << 20 || rounds < 1 || rounds > ROUNDS_MAX || pause_us < 0) {
        puts("usage: link_bench [bytes of rows] [rounds] [pause us]");
        return 2;
    }
    if (!open_ends(&e, (uint32_t)bytes, &err) ||
        !measure(&e, (uint32_t)bytes, rounds, pause_us, &err)) {
        printf("link_bench: %s\n", err.message);
        return 1;
    }
    close_ends(&e);
    return 0;
}
