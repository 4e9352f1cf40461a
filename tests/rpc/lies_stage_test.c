/* tests/rpc/lies_stage_test.c - clients that lie about stages: limits, claims, weights, graphs.
 *
 * What is refused leaves all that was set aside to the next one; after every test an honest session
 * works and the worker has nothing left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "rpc/worker.h"

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

static void finish(struct client *c)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint64_t freed;

    must(client_finish(c, &freed, &err), &err);
    worker_client_close(c);
}

typedef void spoil_put(struct sh_rpc_stage_put *m);

static void no_slots(struct sh_rpc_stage_put *m)
{
    m->n_slots = 0;
}
static void many_slots(struct sh_rpc_stage_put *m)
{
    m->n_slots = 67;
}
static void far_index(struct sh_rpc_stage_put *m)
{
    m->index = 64;
}
static void first_of_another_kind(struct sh_rpc_stage_put *m)
{
    m->first = 2;
}
static void shards(struct sh_rpc_stage_put *m)
{
    m->n_shards = 2;
}
static void no_device(struct sh_rpc_stage_put *m)
{
    m->device = 9;
}
static void not_the_first(struct sh_rpc_stage_put *m)
{
    m->first = 0;
}
static void not_the_last(struct sh_rpc_stage_put *m)
{
    m->last = 0;
}
static void more_rows_than_the_graph(struct sh_rpc_stage_put *m)
{
    m->rows_max = 257;
}
static void rows_without_end(struct sh_rpc_stage_put *m)
{
    m->rows_max = INT64_MAX;
}
static void no_rows(struct sh_rpc_stage_put *m)
{
    m->rows_max = 0;
}
static void more_wanted_than_rows(struct sh_rpc_stage_put *m)
{
    m->wanted_max = 1 << 20;
}
static void more_sequences(struct sh_rpc_stage_put *m)
{
    m->n_seqs = 2;
}
static void more_positions(struct sh_rpc_stage_put *m)
{
    m->n_positions += 64;
}
static void positions_without_end(struct sh_rpc_stage_put *m)
{
    m->n_positions = INT64_MAX;
}
static void fewer_positions(struct sh_rpc_stage_put *m)
{
    m->n_positions = 64;
}
static void no_groups(struct sh_rpc_stage_put *m)
{
    m->n_groups = 0;
}
static void no_graph(struct sh_rpc_stage_put *m)
{
    m->graph.n = 0;
}
static void half_a_graph(struct sh_rpc_stage_put *m)
{
    m->graph.n /= 2;
}
static void rotation_for_a_graph(struct sh_rpc_stage_put *m)
{
    m->graph = m->rotate;
}
static void graph_for_a_rotation(struct sh_rpc_stage_put *m)
{
    m->rotate = m->graph;
}
static void no_weights(struct sh_rpc_stage_put *m)
{
    m->n_weights = 0;
}
static void a_weight_less(struct sh_rpc_stage_put *m)
{
    m->n_weights--;
}

/* What is refused leaves all that was set aside to the next one. */
static void lies__in_stage_put(void **state)
{
    static spoil_put *const ALL[] = {
        no_slots,
        many_slots,
        far_index,
        first_of_another_kind,
        shards,
        no_device,
        not_the_first,
        not_the_last,
        more_rows_than_the_graph,
        rows_without_end,
        no_rows,
        more_wanted_than_rows,
        more_sequences,
        more_positions,
        positions_without_end,
        fewer_positions,
        no_groups,
        no_graph,
        half_a_graph,
        rotation_for_a_graph,
        graph_for_a_rotation,
        no_weights,
        a_weight_less,
    };
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stage;
    struct stage_put put;

    stage_put_make(&put, &t->m, 0, 1);
    must(client_session(c, put.claim.weights,
                        put.claim.cache + put.claim.scratch + put.claim.places, &err),
         &err);
    assert_int_equal(client_put(c, &put, &stage, &err), SHOAL_ERR_STATE); // no weight is here
    client_weights(c, &put);
    for (size_t i = 0; i < sizeof ALL / sizeof ALL[0]; i++) {
        struct stage_put bad = put;
        ALL[i](&bad.m);
        err = (struct shoal_error)SHOAL_ERROR_INIT;
        if (client_put(c, &bad, &stage, &err) == SHOAL_OK) fail_msg("lie %zu was believed", i);
        assert_true(strlen(err.message) > 0);
    }
    must(client_put(c, &put, &stage, &err), &err);
    client_check_model(c, &t->m, &stage, 1, 80);
    stage_put_release(&put);
    finish(c);
}

/* Claims that are too small for the stage. */
static void lies__in_claims(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_stage_ready ready;
    struct stage_put put;
    struct sh_rpc_ask ask;
    uint64_t rest;

    stage_put_make(&put, &t->m, 0, 1);
    rest = put.claim.cache + put.claim.scratch + put.claim.places;
    must(client_session(c, put.claim.weights, rest - 1, &err), &err);
    client_weights(c, &put);
    ask = (struct sh_rpc_ask){.type = SH_RPC_MSG_STAGE_PUT,
                              .msg = &put.m,
                              .answer = &ready,
                              .arena = &arena,
                              .timeout_ns = SOON_NS};
    assert_int_equal(sh_rpc_conn_ask(c->c, &ask, &err), SHOAL_ERR_NOMEM);
    assert_int_equal(ask.need, rest);
    assert_int_equal(ask.free, rest - 1);
    sh_arena_release(&arena);
    stage_put_release(&put);
    finish(c);
}

/* The bytes of a graph, changed at random: refused, or a stage, which then takes steps. */
static void lies__in_graphs(void **state)
{
    enum { TIMES = 200 };
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct step_make *s = sh_malloc(sizeof *s);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct stage_put put, bad;
    uint32_t seed = 11;
    int n_refused = 0;
    uint8_t *bytes;

    assert_non_null(s);
    stage_put_make(&put, &t->m, 0, 1);
    bytes = sh_malloc(put.m.graph.n);
    assert_non_null(bytes);
    must(client_session(c, put.claim.weights, (uint64_t)64 << 20, &err), &err);
    client_weights(c, &put);
    bad = put;
    bad.m.graph.ptr = bytes;
    for (int i = 0; i < TIMES; i++) {
        const uint32_t n = 1 + tm_random(&seed, 3);
        struct sh_rpc_handle stage;
        memcpy(bytes, put.graph, put.m.graph.n);
        for (uint32_t k = 0; k < n; k++)
            bytes[tm_random(&seed, put.m.graph.n)] = (uint8_t)tm_random(&seed, 256);
        if (client_put(c, &bad, &stage, &err)) {
            n_refused++;
        } else {
            const int32_t ids[3] = {1, 2, 3};
            const struct sh_rpc_stage_drop m = {.stage = stage};
            const int event = c->n_events;
            struct sh_arena arena = SH_ARENA_INIT;
            struct sh_rpc_stage_dropped dropped;
            c->next = 0;
            c->hash = SH_FNV_START;
            step_make(s, ids, 3, 0, SH_WANT_TOKEN, 1);
            client_step(c, s, &stage, 1);
            (void)client_event(c, event);
            must(client_ask(c, SH_RPC_MSG_STAGE_DROP, &m, &dropped, &arena, &err), &err);
            sh_arena_release(&arena);
        }
        client_forget(c);
    }
    printf("%d of %d graphs were refused\n", n_refused, TIMES);
    assert_true(n_refused > TIMES / 4);
    sh_free(bytes);
    sh_free(s);
    stage_put_release(&put);
    finish(c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, worker_setup, worker_teardown)
    const struct CMUnitTest tests[] = {
        TEST(lies__in_stage_put),
        TEST(lies__in_claims),
        TEST(lies__in_graphs),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
