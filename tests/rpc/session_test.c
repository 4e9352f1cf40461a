/* tests/rpc/session_test.c - sessions, stages and steps on a worker, frame by frame.
 *
 * What a worker computes is compared bit for bit with a stage of this process.  After each test the
 * worker has nothing left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rpc/worker.h"

struct test {
    struct tm_model m;
    struct worker w;
};

static struct client *new_client(struct worker *w)
{
    struct client *c = sh_calloc(1, sizeof *c);

    assert_non_null(c);
    client_open(c, w, SH_RPC_FOR_CONTROL, "", 0);
    return c;
}

static int setup(void **state)
{
    struct test *t = sh_calloc(1, sizeof *t);

    tm_make(&t->m, TM_LLAMA, SH_DTYPE_Q8_0, 7);
    worker_open(&t->w, NULL);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct test *t = *state;

    worker_close(&t->w);
    tm_release(&t->m);
    sh_free(t);
    return 0;
}

static void session__one_stage_gives_the_same_bits(void **state)
{
    struct test *t = *state;

    worker_check(&t->w, &t->m);
    worker_await_idle(&t->w);
}

static void session__two_stages_give_the_same_bits(void **state)
{
    struct test *t = *state;
    struct client *c = new_client(&t->w);
    struct sh_rpc_handle stages[2], readers[2];

    client_model(c, &t->m, 2, stages);
    (void)readers;
    client_check_model(c, &t->m, stages, 2, 13);
    client_close(c);
    sh_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(session__one_stage_gives_the_same_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(session__two_stages_give_the_same_bits, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
