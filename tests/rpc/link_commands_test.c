/* tests/rpc/link_commands_test.c - what a client may have a worker do about links, frame by frame:
 * where it is sent, how often, and what is answered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/listener.h"
#include "rpc/worker.h"

#define ELSEWHERE "10.9.8.7:5" /* a client of another machine */
#define HERE "127.0.0.1:5"

static int addresses(void *self, char out[][SH_ADDRESS_TEXT_MAX], int n)
{
    (void)self;
    if (n < 1) return 0;
    snprintf(out[0], SH_ADDRESS_TEXT_MAX, "10.9.8.1:7");
    return 1;
}

static int setup(void **state)
{
    static const struct sh_rpc_server_options opt = {.drain_ns = 50 * SH_MS,
                                                     .addresses = addresses};
    struct worker_test *t = sh_calloc(1, sizeof *t);

    assert_non_null(t);
    tm_make(&t->m, TM_LLAMA, SH_DTYPE_Q8_0, 7);
    worker_open(&t->w, &opt);
    *state = t;
    return 0;
}

struct asked {
    enum shoal_status st;
    struct shoal_error err;
    struct sh_rpc_handle link;
};

static struct asked expect_link(struct client *c, struct sh_rpc_handle stage, uint8_t token)
{
    struct sh_rpc_link_expect m = {.stage = stage, .purpose = SH_RPC_FOR_LINK, .writes = 1};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_link_expected answer;
    struct asked a = {.link = {0, 0}};

    memset(m.token, token, sizeof m.token);
    a.st = client_ask(c, SH_RPC_MSG_LINK_EXPECT, &m, &answer, &arena, &a.err);
    if (!a.st) {
        assert_int_equal(answer.n_addresses, 1);
        assert_memory_equal(answer.addresses[0].address.ptr, "10.9.8.1:7", 10);
        a.link = answer.link;
    }
    sh_arena_release(&arena);
    return a;
}

static struct sh_rpc_link_open open_to(struct sh_rpc_handle stage, bool with_key,
                                       const struct sh_rpc_address *list, uint32_t n)
{
    struct sh_rpc_link_open m = {.stage = stage,
                                 .purpose = SH_RPC_FOR_LINK,
                                 .writes = 1,
                                 .token = {1},
                                 .addresses = list,
                                 .n_addresses = n};

    memset(m.key, with_key ? 7 : 0, sizeof m.key);
    return m;
}

static struct asked open_link(struct client *c, struct sh_rpc_handle stage, bool with_key,
                              const char *address)
{
    const struct sh_rpc_address list[] = {{.address = sh_rpc_text_from(address)}};
    const struct sh_rpc_link_open m = open_to(stage, with_key, list, 1);
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_link_opened answer;
    struct asked a = {.link = {0, 0}};

    a.st = client_ask(c, SH_RPC_MSG_LINK_OPEN, &m, &answer, &arena, &a.err);
    sh_arena_release(&arena);
    return a;
}

static void says(const struct asked *a, enum shoal_status st, const char *reason)
{
    if (a->st != st || !strstr(a->err.message, reason)) {
        fail_msg("%s \"%s\", expected %s \"%s\"", shoal_status_name(a->st), a->err.message,
                 shoal_status_name(st), reason);
    }
}

static void finish(struct client *c)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint64_t freed;

    if (client_finish(c, &freed, &err)) fail_msg("%s", err.message);
    worker_client_close(c);
}

/* ---- expecting -------------------------------------------------------------------------------*/

static void commands__expect_and_close(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    const struct sh_rpc_handle nobody = {9, 9};
    struct sh_rpc_handle stage;
    struct sh_rpc_link_close close_m;
    struct sh_rpc_link_closed closed;
    struct sh_rpc_link_probe probe = {.bytes = 8, .count = 1};
    struct sh_rpc_link_probed probed;
    struct sh_arena arena = SH_ARENA_INIT;
    struct asked a, b;

    client_model(c, &t->m, 1, &stage);
    a = expect_link(c, nobody, 1);
    says(&a, SHOAL_ERR_NOT_FOUND, "no stage 9.9");
    a = expect_link(c, stage, 1);
    assert_int_equal(a.st, SHOAL_OK);
    b = expect_link(c, stage, 1);
    says(&b, SHOAL_ERR_STATE, "expected already");
    // Nobody has come: nothing to measure.
    probe.link = a.link;
    b.st = client_ask(c, SH_RPC_MSG_LINK_PROBE, &probe, &probed, &arena, &b.err);
    says(&b, SHOAL_ERR_STATE, "not up");
    probe.count = 0;
    b.st = client_ask(c, SH_RPC_MSG_LINK_PROBE, &probe, &probed, &arena, &b.err);
    says(&b, SHOAL_ERR_ARG, "0 probes");
    close_m.link = a.link;
    assert_int_equal(client_ask(c, SH_RPC_MSG_LINK_CLOSE, &close_m, &closed, &arena, &b.err),
                     SHOAL_OK);
    assert_int_equal(closed.link.generation, a.link.generation);
    b.st = client_ask(c, SH_RPC_MSG_LINK_CLOSE, &close_m, &closed, &arena, &b.err);
    says(&b, SHOAL_ERR_NOT_FOUND, "no link");
    a = expect_link(c, stage, 1); // the token is free again
    assert_int_equal(a.st, SHOAL_OK);
    sh_arena_release(&arena);
    finish(c);
}

static void commands__links_are_bounded(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_rpc_handle stage;
    struct asked a;

    client_model(c, &t->m, 1, &stage);
    for (int i = 0; i < 128; i++) {
        a = expect_link(c, stage, (uint8_t)(i + 1));
        assert_int_equal(a.st, SHOAL_OK);
    }
    a = expect_link(c, stage, 200);
    says(&a, SHOAL_ERR_LIMIT, "128 links");
    finish(c);
}

/* A link of one session is none in another. */
static void commands__of_another_session(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, ""), *d = worker_client(&t->w, "");
    struct sh_rpc_handle stage, other;
    struct sh_rpc_link_close close_m;
    struct sh_rpc_link_closed closed;
    struct sh_arena arena = SH_ARENA_INIT;
    struct asked a, b;

    client_model(c, &t->m, 1, &stage);
    client_model(d, &t->m, 1, &other);
    a = expect_link(c, stage, 1);
    close_m.link = a.link;
    b.st = client_ask(d, SH_RPC_MSG_LINK_CLOSE, &close_m, &closed, &arena, &b.err);
    says(&b, SHOAL_ERR_NOT_FOUND, "no link");
    b = expect_link(d, other, 1);
    says(&b, SHOAL_ERR_STATE, "expected already");
    sh_arena_release(&arena);
    finish(c);
    finish(d);
}

/* ---- where a worker goes ---------------------------------------------------------------------*/

static void commands__a_client_from_elsewhere(void **state)
{
    static const char *const NOT[] = {"127.0.0.1:1",  "[::1]:1", "unix:/tmp/x", "localhost:1",
                                      "240.1.2.3:50", ":1",      "10.9.8.7",    "nonsense"};
    struct worker_test *t = *state;
    struct sh_rpc_handle stage;
    struct client *c;

    t->w.peer = ELSEWHERE;
    c = worker_client(&t->w, "");
    client_model(c, &t->m, 1, &stage);
    for (size_t i = 0; i < sizeof NOT / sizeof NOT[0]; i++) {
        for (int with_key = 0; with_key < 2; with_key++) {
            const struct asked a = open_link(c, stage, with_key, NOT[i]);
            says(&a, SHOAL_ERR_ARG, "goes to none of these 1 addresses");
        }
    }
    finish(c);
    t->w.peer = NULL;
}

/* Eight addresses in a minute, and no more than yes or no. */
static void commands__only_so_often(void **state)
{
    struct worker_test *t = *state;
    struct sh_rpc_handle stage;
    struct client *c;
    struct asked a;

    t->w.peer = HERE;
    c = worker_client(&t->w, "");
    client_model(c, &t->m, 1, &stage);
    for (int i = 0; i < 8; i++) {
        a = open_link(c, stage, false, "127.0.0.1:1"); // nobody listens on port 1
        says(&a, SHOAL_ERR_PEER, "none of 1 addresses let this worker in");
    }
    a = open_link(c, stage, false, "127.0.0.1:1");
    says(&a, SHOAL_ERR_LIMIT, "8 addresses in a minute");
    finish(c);
    t->w.peer = NULL;
}

/* While somebody who never answers is dialled, the session goes on, and may end. */
static void commands__opening_stops_nobody(void **state)
{
    struct worker_test *t = *state;
    struct sh_endpoint ep;
    struct sh_listener *l;
    struct sh_rpc_handle stage;
    struct sh_rpc_address list[1];
    struct sh_rpc_link_open m;
    struct sh_rpc_link_opened answer;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_ask ask = {.type = SH_RPC_MSG_LINK_OPEN,
                             .msg = &m,
                             .answer = &answer,
                             .arena = &arena,
                             .timeout_ns = SOON_NS};
    struct sh_rpc_asked *asked;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct client *c;
    struct asked a;

    assert_int_equal(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, &err), SHOAL_OK);
    assert_int_equal(sh_listener_open(&l, &ep, &err), SHOAL_OK);
    list[0].address = sh_rpc_text_from(sh_listener_text(l));
    t->w.peer = HERE;
    c = worker_client(&t->w, "");
    client_model(c, &t->m, 1, &stage);
    m = open_to(stage, false, list, 1);
    assert_int_equal(sh_rpc_conn_ask_begin(c->c, &ask, &asked, &err), SHOAL_OK);
    client_check_model(c, &t->m, &stage, 1, 16);
    a = expect_link(c, stage, 3);
    assert_int_equal(a.st, SHOAL_OK);
    assert_int_not_equal(sh_rpc_conn_ask_end(c->c, asked, &err), SHOAL_OK); // not answered yet
    finish(c);
    sh_listener_close(l);
    sh_arena_release(&arena);
    t->w.peer = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commands__expect_and_close, setup, worker_teardown),
        cmocka_unit_test_setup_teardown(commands__links_are_bounded, setup, worker_teardown),
        cmocka_unit_test_setup_teardown(commands__of_another_session, setup, worker_teardown),
        cmocka_unit_test_setup_teardown(commands__a_client_from_elsewhere, setup, worker_teardown),
        cmocka_unit_test_setup_teardown(commands__only_so_often, setup, worker_teardown),
        cmocka_unit_test_setup_teardown(commands__opening_stops_nobody, setup, worker_teardown),
    };
    return cmocka_run_group_tests_name("link_commands", tests, NULL, NULL);
}
