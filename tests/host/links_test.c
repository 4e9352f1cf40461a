/* tests/host/links_test.c - workers joined by links: what passes where, refused and broken links,
 * formats of rows.  Whatever happens to a link, the bits are those of an unsplit run.
 */
#include "cluster.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gate.h"

enum { GATES = 3, PROMPT = 40, TOKENS = 24, VOCAB = 96, MODEL_LAYERS = 5 };

struct links {
    struct cluster c;
    struct gate g[GATES];
    int n;
};

// On a slow machine a link must not be given up before it was dialled again, unless that is wanted.
static void links_open(struct links *l, int n, const uint64_t *features, bool give_up)
{
    cluster_open(&l->c, 0, NULL);
    cluster_model(&l->c, TM_LLAMA, SH_DTYPE_F32, MODEL_LAYERS);
    for (l->n = 0; l->n < n; l->n++) {
        gate_open(&l->g[l->n], features ? features[l->n] : 0, give_up ? 0 : 60 * SH_SECOND);
        l->c.list[l->n] = (struct sh_host_worker){.address = l->g[l->n].address};
    }
}

static void links_close(struct links *l)
{
    for (int i = 0; i < l->n; i++)
        gate_close(&l->g[i]);
    cluster_close(&l->c);
}

static struct sh_remote_route route_of(const struct sh_host *h, int i)
{
    struct sh_remote_route route;

    assert_true(sh_host_route(h, i, &route));
    return route;
}

// Logits of ids in chunks, and of a host without workers, must be the same.
static void same_bits(struct links *l, const struct sh_host *h, int64_t chunk, const char *what)
{
    const struct sh_host_options o = cluster_options(&l->c, 0);
    struct sh_host *alone = cluster_host(&o);
    float *want = sh_calloc(CLUSTER_IDS * VOCAB, sizeof *want);
    float *have = sh_calloc(CLUSTER_IDS * VOCAB, sizeof *have);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[CLUSTER_IDS];

    assert_non_null(want);
    assert_non_null(have);
    rig_ids(ids, CLUSTER_IDS, 9, VOCAB);
    if (cluster_try(alone, ids, CLUSTER_IDS, 0, want, &err)) fail_msg("%s", err.message);
    if (cluster_try((struct sh_host *)h, ids, CLUSTER_IDS, chunk, have, &err))
        fail_msg("%s: %s", what, err.message);
    rig_expect_equal(what, have, want, CLUSTER_IDS, VOCAB);
    sh_host_close(alone);
    sh_free(want);
    sh_free(have);
}

/* ---- frames ----------------------------------------------------------------------------------*/

static void feed_token(struct sh_engine *e, int32_t *token)
{
    const struct sh_feed f = {.ids = token, .n = 1, .sample = true};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t next;

    if (sh_engine_feed(e, &f, &next, &err)) fail_msg("%s", err.message);
    *token = next;
}

struct passed {
    uint64_t step, hidden_home, hidden_in, acks, others, result;
};

static uint64_t other_frames(struct gate *g, bool in)
{
    uint64_t n = 0;

    for (int t = 0; t < SH_RPC_TYPE_COUNT; t++) {
        if (t != SH_RPC_MSG_HIDDEN && t != SH_RPC_MSG_BEAT && t != SH_RPC_MSG_LINK_ACK)
            n += gate_frames(g, SH_RPC_FOR_LINK, (enum sh_rpc_type)t, in);
    }
    return n;
}

static struct passed passed_of(struct gate *g)
{
    return (struct passed){.step = gate_frames(g, SH_RPC_FOR_CONTROL, SH_RPC_MSG_STEP, true),
                           .hidden_home =
                               gate_frames(g, SH_RPC_FOR_CONTROL, SH_RPC_MSG_HIDDEN, false),
                           .hidden_in = gate_frames(g, SH_RPC_FOR_LINK, SH_RPC_MSG_HIDDEN, true) +
                                        gate_frames(g, SH_RPC_FOR_LINK, SH_RPC_MSG_HIDDEN, false),
                           .acks = gate_frames(g, SH_RPC_FOR_LINK, SH_RPC_MSG_LINK_ACK, true) +
                                   gate_frames(g, SH_RPC_FOR_LINK, SH_RPC_MSG_LINK_ACK, false),
                           .others = other_frames(g, true) + other_frames(g, false),
                           .result = gate_frames(g, SH_RPC_FOR_CONTROL, SH_RPC_MSG_RESULT, false)};
}

/* N stages: the host sends N STEPs, each link carries one HIDDEN, the last stage sends one RESULT,
 * and that is all but for a few acknowledgements. */
static void links__a_token_costs_one_frame_per_hop(void **state)
{
    struct passed a[GATES], b[GATES];
    struct sh_host_options o;
    struct sh_engine *e;
    struct sh_host *h;
    struct links l;
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t token = 3;
    int64_t begin;

    (void)state;
    links_open(&l, GATES, NULL, false);
    o = cluster_options(&l.c, GATES);
    h = cluster_host(&o);
    for (int i = 0; i + 1 < GATES; i++) {
        assert_true(route_of(h, i).direct);
        assert_string_equal(route_of(h, i).address, l.g[i + 1].address);
    }
    if (sh_engine_create(&e, sh_host_pipeline(h), sh_host_n_ctx(h), &err))
        fail_msg("%s", err.message);
    feed_token(e, &token);
    for (int i = 0; i < GATES; i++)
        a[i] = passed_of(&l.g[i]);
    begin = sh_now_ns(&sh_clock_system);
    for (int i = 0; i < TOKENS; i++)
        feed_token(e, &token);
    for (int i = 0; i < GATES; i++) {
        const int64_t beats = (sh_now_ns(&sh_clock_system) - begin) / (250 * SH_MS) + 2;
        b[i] = passed_of(&l.g[i]);
        assert_int_equal(b[i].step - a[i].step, TOKENS);
        assert_int_equal(b[i].hidden_home - a[i].hidden_home, 0);
        // Each link is dialled by its writer, so it is seen at the gate of its reader.
        assert_int_equal(b[i].hidden_in - a[i].hidden_in, i > 0 ? TOKENS : 0);
        assert_in_range(b[i].acks - a[i].acks, 0, beats);
        assert_int_equal(b[i].others - a[i].others, 0);
        assert_int_equal(b[i].result - a[i].result, i == GATES - 1 ? TOKENS : 0);
    }
    sh_engine_destroy(e);
    sh_host_close(h);
    links_close(&l);
}

/* ---- links that cannot be -------------------------------------------------------------------*/

static void links__go_the_other_way(void **state)
{
    struct sh_host_options o;
    struct sh_remote_route route;
    struct sh_host *h;
    struct links l;

    (void)state;
    links_open(&l, 2, NULL, false);
    l.g[1].refuse_links = true;
    o = cluster_options(&l.c, 2);
    h = cluster_host(&o);
    route = route_of(h, 0);
    assert_true(route.direct);
    assert_string_equal(route.address, l.g[0].address);
    same_bits(&l, h, 16, "a link that its reader dialled");
    assert_int_equal(gate_frames(&l.g[0], SH_RPC_FOR_CONTROL, SH_RPC_MSG_HIDDEN, false), 0);
    sh_host_close(h);
    links_close(&l);
}

static void links__refused_means_relayed(void **state)
{
    struct sh_host_options o;
    struct sh_remote_route route;
    struct sh_host *h;
    struct links l;

    (void)state;
    links_open(&l, 2, NULL, false);
    l.g[0].refuse_links = l.g[1].refuse_links = true;
    o = cluster_options(&l.c, 2);
    h = cluster_host(&o);
    route = route_of(h, 0);
    assert_false(route.direct);
    assert_non_null(strstr(route.why, "let this worker in"));
    same_bits(&l, h, 16, "rows that pass through the host");
    assert_true(gate_frames(&l.g[0], SH_RPC_FOR_CONTROL, SH_RPC_MSG_HIDDEN, false) > 0);
    sh_host_close(h);
    links_close(&l);
}

static void links__of_one_who_makes_none(void **state)
{
    const uint64_t features[2] = {0, SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_LINKS};
    struct sh_host_options o;
    struct sh_host *h;
    struct links l;

    (void)state;
    links_open(&l, 2, features, false);
    o = cluster_options(&l.c, 2);
    h = cluster_host(&o);
    assert_false(route_of(h, 0).direct);
    assert_non_null(strstr(route_of(h, 0).why, "makes no links"));
    same_bits(&l, h, 16, "with a worker that makes no links");
    sh_host_close(h);
    links_close(&l);
}

/* ---- links that break ------------------------------------------------------------------------*/

// A link is cut in the middle of the rows of every fifth step, and dialled again each time.
static void links__cut_are_dialled_again(void **state)
{
    struct sh_host_options o;
    struct sh_host *h;
    struct links l;

    (void)state;
    for (int reader_dials = 0; reader_dials < 2; reader_dials++) {
        struct gate *at;
        links_open(&l, 2, NULL, false);
        at = &l.g[!reader_dials];
        l.g[reader_dials].refuse_links = true;
        at->cut_every = 5;
        o = cluster_options(&l.c, 2);
        h = cluster_host(&o);
        same_bits(&l, h, 7, "a link that is cut and dialled again");
        assert_in_range(at->n_cuts, 3, 100);
        assert_true(route_of(h, 0).direct);
        assert_in_range(gate_connections(at, SH_RPC_FOR_LINK), at->n_cuts + 1, GATE_CONNS);
        assert_int_equal(gate_frames(&l.g[0], SH_RPC_FOR_CONTROL, SH_RPC_MSG_HIDDEN, false), 0);
        sh_host_close(h);
        links_close(&l);
    }
}

// Cut in the middle, and blocked in both directions from then on: the host relays, same epoch.
static void links__lost_are_relayed(void **state)
{
    struct sh_host_options o;
    struct sh_remote_route route;
    struct sh_host *h;
    struct links l;

    (void)state;
    for (int n = 2; n <= GATES; n++) {
        links_open(&l, n, NULL, true);
        l.g[1].cut_every = 5;
        l.g[1].refuse_after_cut = true;
        o = cluster_options(&l.c, n);
        h = cluster_host(&o);
        assert_true(route_of(h, 0).direct);
        same_bits(&l, h, 7, "a link that is lost");
        assert_int_equal(l.g[1].n_cuts, 1);
        route = route_of(h, 0);
        assert_false(route.direct);
        assert_true(route.why[0] != '\0');
        assert_true(gate_frames(&l.g[0], SH_RPC_FOR_CONTROL, SH_RPC_MSG_HIDDEN, false) > 0);
        if (n > 2) assert_true(route_of(h, 1).direct);
        sh_host_close(h);
        links_close(&l);
    }
}

// A link that breaks at every step, though it can be dialled: in the end the host relays.
static void links__of_no_use_are_relayed(void **state)
{
    struct sh_host_options o;
    struct sh_host *h;
    struct links l;

    (void)state;
    links_open(&l, 2, NULL, false);
    l.g[1].cut_every = 1;
    o = cluster_options(&l.c, 2);
    h = cluster_host(&o);
    same_bits(&l, h, 7, "a link that breaks at every step");
    assert_in_range(l.g[1].n_cuts, 8, 200);
    assert_false(route_of(h, 0).direct);
    sh_host_close(h);
    links_close(&l);
}

/* ---- formats ---------------------------------------------------------------------------------*/

struct difference {
    double most, mean;
};

static struct difference compare(const float *a, const float *b, size_t n)
{
    struct difference d = {0, 0};

    for (size_t i = 0; i < n; i++) {
        const double x = fabs((double)a[i] - (double)b[i]);
        if (x > d.most) d.most = x;
        d.mean += x / (double)n;
    }
    return d;
}

static void logits_of(const struct links *l, enum sh_rpc_format format, bool relay, float *out)
{
    struct sh_host_options o = cluster_options(&l->c, 2);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[CLUSTER_IDS];
    struct sh_host *h;

    o.format = format;
    o.relay = relay;
    h = cluster_host(&o);
    rig_ids(ids, CLUSTER_IDS, 9, VOCAB);
    if (cluster_try(h, ids, CLUSTER_IDS, 16, out, &err)) fail_msg("%s", err.message);
    sh_host_close(h);
}

/* Rows in f16 and q8 change the logits a little; how they travel does not. */
static void links__formats_of_rows(void **state)
{
    enum { N = CLUSTER_IDS * VOCAB };
    float *exact = sh_calloc(N, sizeof *exact), *have = sh_calloc(N, sizeof *have);
    float *relayed = sh_calloc(N, sizeof *relayed);
    struct links l;

    (void)state;
    assert_true(exact && have && relayed);
    links_open(&l, 2, NULL, false);
    logits_of(&l, SH_RPC_ROWS_F32, false, exact);
    for (int f = SH_RPC_ROWS_F16; f < SH_RPC_FORMAT_COUNT; f++) {
        struct difference d;
        logits_of(&l, (enum sh_rpc_format)f, false, have);
        d = compare(have, exact, N);
        printf("rows in format %d: logits differ by %.2g at most, %.2g in the mean\n", f, d.most,
               d.mean);
        assert_true(d.most > 0 && d.most < (f == SH_RPC_ROWS_F16 ? 0.02 : 0.5));
        logits_of(&l, (enum sh_rpc_format)f, true, relayed);
        assert_memory_equal(relayed, have, N * sizeof *have);
    }
    links_close(&l);
    sh_free(exact);
    sh_free(have);
    sh_free(relayed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links__a_token_costs_one_frame_per_hop),
        cmocka_unit_test(links__go_the_other_way),
        cmocka_unit_test(links__refused_means_relayed),
        cmocka_unit_test(links__of_one_who_makes_none),
        cmocka_unit_test(links__cut_are_dialled_again),
        cmocka_unit_test(links__lost_are_relayed),
        cmocka_unit_test(links__of_no_use_are_relayed),
        cmocka_unit_test(links__formats_of_rows),
    };
    return cmocka_run_group_tests_name("links", tests, NULL, NULL);
}
