/* tests/host/host_nomem_test.c - opening a model over a worker while memory fails once, here or
 * there: a status and a sentence, nothing left behind, and the next host is served.
 */
#include "cluster.h"

#include "base/mem.h"

enum { IDS = 20 };

// True: nothing failed any more.
static bool attempt(const struct cluster *c, int64_t n)
{
    struct sh_host_options o = cluster_options(c, 1);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_host *h = NULL;
    int32_t ids[IDS];
    enum shoal_status st;
    bool pending;

    o.with_local = true;
    rig_ids(ids, IDS, 1, 96);
    sh_mem_fail_after(n);
    st = sh_host_open(&h, &o, &err);
    if (!st) st = cluster_try(h, ids, IDS, 0, NULL, &err);
    sh_host_close(h);
    pending = sh_mem_fail_pending();
    sh_mem_fail_after(-1);
    if (st && !err.message[0]) fail_msg("allocation %lld: no sentence", (long long)n);
    return pending;
}

static void host_nomem__every_allocation(void **state)
{
    struct sh_host_options o;
    struct cluster c;
    int64_t n = 0;

    (void)state;
    cluster_open(&c, 1, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_Q8_0, 2);
    for (; !attempt(&c, n); n++)
        cluster_await_idle(&c);
    print_message("%lld allocations\n", (long long)n);
    o = cluster_options(&c, 1);
    cluster_check(&c, &o, 0, "after all of it");
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_nomem__every_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
