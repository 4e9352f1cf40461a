/* tests/rpc/claim_test.c - what a stage is said to take is what it takes.
 *
 * Both ends count before anything is there; then the stage is made, and asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "rpc/claim.h"
#include "support/rig.h"

enum { SLACK = 64 << 10 }; /* records of nodes, which a device holds beside */

static const struct rig *g_rig; /* that is being opened */
static struct sh_rpc_claim g_claims[RIG_STAGES];
static int g_made; /* graphs so far: of each stage its own, then the one that rotates keys */

static void count(struct sh_graph *g)
{
    const bool shifts = g_rig->m->info.can_shift;
    const int stage = shifts ? g_made / 2 : g_made;
    const bool is_own = !shifts || g_made % 2 == 0;
    struct sh_step_limits limits;
    struct sh_kv_group groups[SH_GROUPS_MAX];
    const struct sh_rpc_claim_of of = {.graph = g,
                                       .limits = &limits,
                                       .n_slots = g_rig->o.n_slots,
                                       .first = stage == 0,
                                       .last = stage + 1 == g_rig->n_stages,
                                       .kind = SH_DEVICE_CPU};
    struct shoal_error err = SHOAL_ERROR_INIT;

    g_made++;
    if (!is_own) return;
    rig_limits(g_rig, &limits, groups);
    if (sh_rpc_claim_count(&g_claims[stage], &of, &err)) fail_msg("%s", err.message);
}

static void check(enum tm_kind kind, int n_stages, int n_slots)
{
    const struct rig_options o = {.change = count, .n_stages = n_stages, .n_slots = n_slots};
    struct tm_model m;
    struct rig r;

    tm_make(&m, kind, SH_DTYPE_Q8_0, 5);
    g_rig = &r;
    g_made = 0;
    rig_open(&r, &m, &o);
    for (int i = 0; i < n_stages; i++) {
        const struct sh_rpc_claim *c = &g_claims[i];
        struct sh_stage_memory have;
        sh_stage_memory(r.stage[i][0], &have);
        // A device takes more for itself; the claim is no more than what is needed.
        if (c->scratch > have.scratch || have.scratch > 3 * c->scratch + SLACK) {
            fail_msg("%s, stage %d of %d: %zu bytes of scratch, %llu are claimed", tm_name(kind), i,
                     n_stages, have.scratch, (unsigned long long)c->scratch);
        }
        assert_in_range(c->cache, have.cache, have.cache + have.cache / 8 + SLACK);
    }
    rig_close(&r);
    tm_release(&m);
}

static void claim__is_what_stages_take(void **state)
{
    (void)state;
    for (int kind = 0; kind < TM_KIND_COUNT; kind++) {
        check((enum tm_kind)kind, 1, 1);
        check((enum tm_kind)kind, 2, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claim__is_what_stages_take),
    };
    return cmocka_run_group_tests_name("claims", tests, NULL, NULL);
}
