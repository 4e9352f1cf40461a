/* Random graphs from the op table on the CPU device, valid and nearly valid (gen.h), on a heap with
 * guard pages (guard_mem.h).
 *
 * What the validator refuses must get a status and a sentence.  What it accepts must run to its end
 * or to a sentence about an index, touch nothing outside its memory, and give the same bits for
 * every tier, number of threads and former contents of memory.  Results of many ops are compared
 * with plain formulas (reference.h).  Over a whole run every op must have been refused once, and
 * have run once: so the generator cannot lose one unnoticed.
 *
 * report.h says how to repeat one seed.
 * test-options: timeout=200
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "reference.h"
#include "report.h"
#include "run.h"

#define N_SEEDS 2500

static struct run_devices g_devices;
static struct gen_op_count g_counts[SH_OP_COUNT];
static struct {
    int64_t refused, failed, ran;
} g_graphs[2]; // whole ones, damaged ones

static bool uses(const struct gen *g, enum sh_op op)
{
    for (int32_t n = 0; n < g->g.n_nodes; n++) {
        const int32_t t = g->g.nodes[n];
        if (t >= 0 && t < g->g.n_tensors && g->g.tensors[t].op == op) return true;
    }
    return false;
}

/* Rows of CACHE_PUT go to different places: that is the host's promise, which a bent graph breaks.
 */
static bool promises_kept(const struct gen *g)
{
    return !(g->wild || g->damaged) || !uses(g, SH_OP_CACHE_PUT);
}

/* Numbers that are none have no defined quantised form. */
static bool has_numbers(const struct gen *g, const struct run_outcome *o)
{
    for (int32_t i = 0; i < g->g.n_tensors; i++) {
        if (gen_at(g, i)->dtype == SH_DTYPE_F32 && !reference_is_finite(g, o, i)) return false;
    }
    return !g->hot && g->places == GEN_OWN; // else not all can be seen
}

static void check_status(const struct gen *g, const struct run_outcome *o)
{
    const bool known = o->st == SHOAL_ERR_FORMAT || o->st == SHOAL_ERR_LIMIT ||
                       o->st == SHOAL_ERR_UNSUPPORTED || o->st == SHOAL_ERR_NOMEM ||
                       o->st == SHOAL_ERR_ARG;

    if (o->late) report_failure(g, "a command was not complete in time");
    if (o->wrote) report_failure(g, "an import was written");
    if (!o->st) return;
    if (!known) report_failure(g, "status %d: %s", (int)o->st, o->err.message);
    if (!o->err.message[0] || o->err.code != o->st) {
        report_failure(g, "status %d, said as %d: \"%s\"", (int)o->st, (int)o->err.code,
                       o->err.message);
    }
}

/* How a run differs from the first one. */
static void compare(const struct gen *g, const struct run_outcome *first,
                    const struct run_outcome *o, const struct run_way *way)
{
    char why[256] = "";
    bool same;

    if (o->st != first->st || o->prepared != first->prepared) {
        report_failure(g, "%s with %d threads ends with %d (%s), the first run with %d (%s)",
                       sh_isa_name(g_devices.at[way->device].isa),
                       g_devices.at[way->device].n_threads, (int)o->st, o->err.message,
                       (int)first->st, first->err.message);
        return;
    }
    if (o->st || !promises_kept(g)) return;
    same = run_equal(g, first, g, o, why, sizeof why);
    if (same && way->filler == 0 && has_numbers(g, first)) {
        same = run_equal_buffers(g, first, o, why, sizeof why);
    }
    // Other tiers may round what is no number to another one.
    if (!same && (way->device < 2 || has_numbers(g, first))) {
        report_failure(
            g, "%s with %d threads%s, filler %02x: %s", sh_isa_name(g_devices.at[way->device].isa),
            g_devices.at[way->device].n_threads, way->dirty ? ", dirty" : "", way->filler, why);
    }
}

/* Extents above the maxima never run. */
static void check_extents(struct gen *g, uint64_t seed)
{
    const struct sh_extents bound = g->bound;
    const struct run_way way = {.device = 0};
    struct run_outcome o;

    if (seed % 16) return;
    switch (seed / 16 % 4) {
    case 0:
        g->bound.t = g->g.max.t + 1;
        break;
    case 1:
        g->bound.o = g->g.max.o + 1;
        break;
    case 2:
        g->bound.r = INT64_MAX;
        break;
    default:
        g->bound.t = -1;
        break;
    }
    run_graph(g, &g_devices, way, seed, &o);
    if (o.prepared && o.st != SHOAL_ERR_ARG) {
        report_failure(g, "extents beyond their maxima: status %d", (int)o.st);
    }
    check_status(g, &o);
    run_release(&o);
    g->bound = bound;
}

/* Tensors that share scratch hold what they hold when each has memory of its own. */
static void check_places(const struct gen *g, uint64_t seed, const struct run_outcome *first)
{
    const struct run_way way = {.device = 0};
    static struct gen_op_count unused[SH_OP_COUNT];
    struct run_outcome o;
    struct gen alone;
    char why[256] = "";

    if (first->st || g->damaged || g->alias || g->places != GEN_SCRATCH || !promises_kept(g))
        return;
    gen_graph(&alone, seed, false, unused);
    alone.places = GEN_OWN;
    gen_place(&alone);
    if (!alone.alias) {
        run_graph(&alone, &g_devices, way, seed, &o);
        if (o.st == SHOAL_OK && !run_equal(g, first, &alone, &o, why, sizeof why))
            report_failure(g, "placed alone: %s", why);
        run_release(&o);
    }
    gen_release(&alone);
}

/* A node by itself gives what it gives among others: devices keep things from node to node. */
static void check_steps(struct gen *g, uint64_t seed, const struct run_outcome *first)
{
    const struct run_way way = {.device = 0, .stepwise = true};
    struct run_outcome o;
    char why[256] = "";

    if (first->st || g->damaged || g->places == GEN_SCRATCH || g->g.n_sums || !promises_kept(g)) {
        return;
    }
    run_graph(g, &g_devices, way, seed, &o);
    check_status(g, &o);
    if (o.st) {
        report_failure(g, "node by node: %s", o.err.message);
    } else if (!run_equal(g, first, g, &o, why, sizeof why)) {
        report_failure(g, "node by node: %s", why);
    }
    run_release(&o);
}

static void count(const struct gen *g)
{
    for (int32_t i = 0; i < g->g.n_tensors; i++) {
        if ((unsigned)g->g.tensors[i].op < SH_OP_COUNT) g_counts[g->g.tensors[i].op].ran++;
    }
}

static void run_seed(uint64_t seed)
{
    struct run_outcome first, o;
    struct run_way ways[] = {
        {.device = 0},
        {.device = g_devices.n - 1, .side = GUARD_BEGIN, .filler = 0xff, .dirty = true},
        {.device = g_devices.n > 2 ? 2 : 0, .side = GUARD_BEGIN},
        {.device = 1, .filler = 0xff, .dirty = true}};
    struct gen g;

    gen_graph(&g, seed, false, g_counts);
    gen_place(&g);
    report_begin(seed, &g);
    if (gen_chance(&g, 45)) (void)gen_break(&g);
    // A node that was damaged may read what nobody wrote: then only device memory may differ.
    for (size_t i = 1; i < sizeof ways / sizeof *ways && g.damaged; i++)
        ways[i].filler = 0;
    run_graph(&g, &g_devices, ways[0], seed, &first);
    check_status(&g, &first);
    if (!first.prepared)
        g_graphs[g.damaged].refused++;
    else if (first.st)
        g_graphs[g.damaged].failed++;
    else
        g_graphs[g.damaged].ran++;
    if (!first.st) {
        count(&g);
        if (!g.damaged && !g.alias && !g.hot && g.places == GEN_OWN) reference_check(&g, &first);
    }
    for (size_t i = 1; i < sizeof ways / sizeof *ways && first.prepared; i++) {
        run_graph(&g, &g_devices, ways[i], seed, &o);
        check_status(&g, &o);
        compare(&g, &first, &o, &ways[i]);
        run_release(&o);
    }
    check_extents(&g, seed);
    check_places(&g, seed, &first);
    check_steps(&g, seed, &first);
    run_release(&first);
    gen_release(&g);
}

static void generate__runs_the_same_everywhere(void **state)
{
    uint64_t seed;
    int64_t n = 0;

    (void)state;
    report_install("tests/generate/graphs_test"); // here: cmocka takes the signals before each test
    assert_true(run_open(&g_devices));
    while (report_next(1, N_SEEDS, &n, &seed))
        run_seed(seed);
    print_message("%lld graphs\n", (long long)n - 1);
    for (int i = 0; i < 2; i++) {
        print_message("%s: %lld refused, %lld failed while running, %lld ran\n",
                      i ? "damaged" : "whole", (long long)g_graphs[i].refused,
                      (long long)g_graphs[i].failed, (long long)g_graphs[i].ran);
    }
    run_close(&g_devices);
    assert_int_equal(report_failures(), 0);
    assert_int_equal(sh_mem_live_bytes(), 0);
}

static void generate__reaches_every_op(void **state)
{
    int n_checked = 0, missing = 0;

    (void)state;
    if (!report_is_whole()) return;
    for (int i = 0; i < SH_OP_COUNT; i++) {
        const struct gen_op_count *c = &g_counts[i];
        if (c->checked) n_checked++;
        if (getenv("SHOAL_COUNTS"))
            print_message("%-16s made %5llu refused %5llu ran %5llu checked %5llu\n",
                          sh_op_info((enum sh_op)i)->name, (unsigned long long)c->made,
                          (unsigned long long)c->refused, (unsigned long long)c->ran,
                          (unsigned long long)c->checked);
        if (c->ran && c->refused) continue;
        print_error("%s: made %llu times, refused %llu, ran %llu\n",
                    sh_op_info((enum sh_op)i)->name, (unsigned long long)c->made,
                    (unsigned long long)c->refused, (unsigned long long)c->ran);
        missing++;
    }
    assert_int_equal(missing, 0);
    assert_true(n_checked >= 15); // compared with formulas
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generate__runs_the_same_everywhere),
        cmocka_unit_test(generate__reaches_every_op),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
