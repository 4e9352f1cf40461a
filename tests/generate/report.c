/* tests/generate/report.c - see report.h. */
#include "report.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tensor/print.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static struct {
    const char *program;
    uint64_t seed;
    char text[16384]; // what to print when the program dies
    const struct gen *g;
    int failures;
    int64_t until;
} g_report;

static struct sigaction g_before[NSIG];

static void print_dying(void)
{
    const char *const what = g_report.g ? g_report.g->what : "";

    (void)!write(STDERR_FILENO, g_report.text, strlen(g_report.text));
    (void)!write(STDERR_FILENO, what, strlen(what));
    (void)!write(STDERR_FILENO, "\n", 1);
}

static void on_fault(int number)
{
    print_dying();
    (void)sigaction(number, &g_before[number], NULL); // and again, for whoever handled it before
}

void report_install(const char *program)
{
    const struct sigaction action = {.sa_handler = on_fault};
    const int faults[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};

    g_report.program = program;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        (void)sigaction(faults[i], &action, &g_before[faults[i]]);
#if SANITIZED
    __sanitizer_set_death_callback(print_dying);
#endif
}

void report_begin(uint64_t seed, const struct gen *g)
{
    struct sh_buf text = SH_BUF_INIT;

    g_report.seed = seed;
    g_report.g = g;
    if (sh_graph_print(&g->g, &text)) sh_buf_clear(&text);
    (void)snprintf(
        g_report.text, sizeof g_report.text,
        "\nSHOAL_SEED=%" PRIu64 " build/release/test/%s\nT %lld of %lld, O %lld of %lld, R "
        "%lld of %lld%s%s\n%s",
        seed, g_report.program, (long long)g->bound.t, (long long)g->g.max.t, (long long)g->bound.o,
        (long long)g->g.max.o, (long long)g->bound.r, (long long)g->g.max.r,
        g->wild ? ", wild" : "", g->hot ? ", hot" : "", text.ptr ? text.ptr : "");
    sh_buf_release(&text);
}

void report_failure(const struct gen *g, const char *fmt, ...)
{
    char what[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    fprintf(stderr, "%s%s%s%s\n", g_report.text, g->what, g->what[0] ? "\n" : "", what);
    g_report.failures++;
}

int report_failures(void)
{
    return g_report.failures;
}

bool report_is_whole(void)
{
    return !getenv("SHOAL_SEED") && !getenv("SHOAL_SEEDS");
}

bool report_next(uint64_t base, int64_t n_seeds, int64_t *n, uint64_t *seed)
{
    const char *const one = getenv("SHOAL_SEED"), *const many = getenv("SHOAL_SEEDS");
    const char *const seconds = getenv("SHOAL_SECONDS");
    const int64_t i = (*n)++;

    *seed = base + (uint64_t)i;
    if (g_report.failures >= REPORT_FAILURES_MAX) return false;
    if (one) {
        *seed = strtoull(one, NULL, 10);
        return i == 0;
    }
    if (many) n_seeds = strtoll(many, NULL, 10);
    if (!seconds) return i < n_seeds;
    if (i == 0) {
        g_report.until = sh_now_ns(&sh_clock_system) + strtoll(seconds, NULL, 10) * SH_SECOND;
    }
    *seed += (uint64_t)getpid() << 40 ^ (uint64_t)g_report.until;
    return sh_now_ns(&sh_clock_system) < g_report.until;
}
