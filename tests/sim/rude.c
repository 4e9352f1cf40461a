/* tests/sim/rude.c - clients that come to a worker, stop in the middle, and stay.  They are sent
 * away, and nobody else is kept from coming. */
#include <string.h>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/mem.h"
#include "ggmlrpc/wire.h"
#include "net/tcp.h"
#include "net/tls.h"
#include "rpc/codec.h"
#include "rpc/conn.h"
#include "sim/sched.h"
#include "sim/world_cast.h"

#define RUDE_NS (25 * SH_SECOND) /* 5 s for a greeting, 10 s for a pause */

/* The beginning of a frame in llama.cpp's protocol: of the greeting, or of one behind it. */
static size_t half_a_foreign_frame(struct sh_writer *w)
{
    const struct sh_wire_request rq = {.device = 0};
    size_t greeting;

    sh_wire_request_put(w, SH_WIRE_HELLO, &rq, 0);
    greeting = w->pos;
    if (sim_chance(300)) return sim_random((uint32_t)greeting);
    sh_wire_request_put(w, SH_WIRE_SET_TENSOR, &rq, 1000000);
    return greeting + 1 + sim_random((uint32_t)(w->pos - greeting));
}

/* In shoal's own: up to somewhere in the preface, in HELLO, or to its end and a bit more. */
static size_t half_a_frame(struct sh_writer *w)
{
    const struct sh_rpc_hello hello = {.revision_min = 1,
                                       .revision_max = 1,
                                       .features = SH_RPC_FEATURES_ALL,
                                       .purpose = (uint8_t)sim_random(4)};
    struct shoal_error err = SHOAL_ERROR_INIT;
    size_t n;

    sh_write_bytes(w, SH_RPC_PREFACE, SH_RPC_PREFACE_BYTES);
    if (sh_rpc_encode(w, SH_RPC_MSG_HELLO, 1, &hello, 1, false, &err))
        sim_fail("no HELLO: %s", err.message);
    n = w->pos;
    if (sim_chance(400)) return n;
    return sim_chance(300) ? sim_random(SH_RPC_PREFACE_BYTES) : sim_random((uint32_t)n);
}

/* The beginning of a record of TLS. */
static size_t half_a_record(struct sh_writer *w)
{
    static const uint8_t head[] = {22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3};

    sh_write_bytes(w, head, sizeof head);
    return sim_random(sizeof head + 1);
}

/* A connection to the first worker, inside TLS where it says so; NULL: it did not come about. */
static struct sh_stream *come(struct cast *c, bool inside)
{
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct shoal_error err = SHOAL_ERROR_INIT;
    char kid[SH_KID_TEXT], identity[SH_KEY_IDENTITY_TEXT];
    struct sh_stream *s = NULL;
    struct sh_endpoint ep;
    enum shoal_status st = sh_endpoint_parse(&ep, cast_worker(c, 0)->address, -1, &err);

    if (!st) st = sh_tcp_connect(&s, &ep, SH_SECOND, &tcp, &err);
    if (st || !inside) return s;
    st = sh_key_id(kid, &c->key[0][CAST_KEY_RUDE], &err);
    if (st) return s;
    sh_key_identity(identity, kid);
    st = sh_tls_connect(&s, s, identity, &c->key[0][CAST_KEY_RUDE], 5 * SH_SECOND, &err);
    return st ? NULL : s;
}

static void stay(struct cast *c, struct sh_stream *s, bool inside)
{
    struct sh_pace pace = sh_pace_until(sim_now() + RUDE_NS);
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t bytes[2048];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
    enum shoal_status st;
    size_t n, got = 1;

    if (c->fate.with_keys && !inside) {
        n = half_a_record(&w);
    } else {
        n = c->fate.own && sim_chance(700) ? half_a_frame(&w) : half_a_foreign_frame(&w);
    }
    st = sh_stream_write_full(s, bytes, n, &pace, &err);
    while (!st && got > 0)
        st = sh_stream_read_some(s, bytes, sizeof bytes, &pace, &got, &err);
    sim_say("a rude client: %s %s", shoal_status_name(st), err.message);
    if (st == SHOAL_ERR_TIMEOUT && !fate_holds_up(c, 0)) sim_fail("a rude client is not sent away");
}

static void *rude_main(void *arg)
{
    struct cast *c = arg;
    const bool inside = c->fate.with_keys && sim_chance(400);
    struct sh_stream *crowd[CAST_CROWD_MAX] = {NULL}, *s;

    // Those who came with it say nothing at all.
    for (int i = 0; i < c->fate.n_crowd; i++)
        crowd[i] = come(c, false);
    s = come(c, inside);
    if (s) stay(c, s, inside); // else its worker has a fault already
    sh_stream_close(s);
    for (int i = 0; i < c->fate.n_crowd; i++)
        sh_stream_close(crowd[i]);
    return NULL;
}

void cast_begin_rude(struct cast *c)
{
    const int proc = c->n_procs++;

    net_place(proc, CAST_RUDE_NODE);
    c->rude_thread = sim_spawn(proc, "rude", rude_main, c);
}
