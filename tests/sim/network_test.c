/* tests/sim/network_test.c - hosts and workers on a network that fails in every way a seed can
 * think of (sim/world.h says what is held against them).
 * test-options: timeout=300
 *
 * SHOAL_SIM_SEED=N runs that seed alone and prints its trace; SHOAL_SIM_SEEDS=A-B runs those.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "sim/world.h"
#include "support/models.h"

enum { SEEDS = 150, TWICE_EVERY = 10, SECONDS_MAX = 100 };

static struct world_model g_model;
static const char *g_program;
static char g_folder[] = "/tmp/shoal_sim_XXXXXX";
static char g_path[64];
static char g_repeat[512];

/* Of the sanitizers' runtime, where there is one. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void say_repeat(void)
{
    static const char text[] = "\nFAILED; again, with its trace: ";

    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, g_repeat, strlen(g_repeat));
    (void)!write(2, "\n", 1);
}

/* A crash, an assertion, or a seed that spins in real time, where no virtual clock can catch it. */
static void on_signal(int sig)
{
    say_repeat();
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

static void watch_for_ends(void)
{
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(say_repeat);
    } else {
        (void)signal(SIGSEGV, on_signal);
        (void)signal(SIGFPE, on_signal);
    }
    (void)signal(SIGABRT, on_signal);
    (void)signal(SIGALRM, on_signal);
}

static int make_model(void **state)
{
    struct tm_model m;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(g_folder));
    (void)snprintf(g_path, sizeof g_path, "%s/model.gguf", g_folder);
    fd = open(g_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    tm_make(&m, TM_LLAMA, SH_DTYPE_Q4_0, 5);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, m.bytes.ptr, m.bytes.len), m.bytes.len);
    close(fd);
    tm_release(&m);
    watch_for_ends();
    world_prepare(&g_model, g_folder, g_path);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    return unlink(g_path) | rmdir(g_folder);
}

static void run_seed(uint64_t seed, bool verbose, struct world_result *r)
{
    const struct world_options o = {.seed = seed, .verbose = verbose, .repeat = g_repeat};

    (void)snprintf(g_repeat, sizeof g_repeat, "SHOAL_SIM_SEED=%llu %s", (unsigned long long)seed,
                   g_program);
    (void)alarm(SECONDS_MAX);
    world_run(&g_model, &o, r);
    (void)alarm(0);
}

static void network__every_seed_ends_well_or_with_one_clear_failure(void **state)
{
    const char *one = getenv("SHOAL_SIM_SEED"), *some = getenv("SHOAL_SIM_SEEDS");
    unsigned long long first = 1, last = SEEDS;
    int n_hosts = 0, n_good = 0, n_struck[FATE_KIND_COUNT] = {0};
    int64_t longest = 0;

    (void)state;
    if (one && sscanf(one, "%llu", &first) == 1) last = first;
    if (some) assert_int_equal(sscanf(some, "%llu-%llu", &first, &last), 2);
    for (unsigned long long seed = first; seed <= last; seed++) {
        struct world_result r, again;
        run_seed(seed, one != NULL, &r);
        n_hosts += r.n_hosts;
        n_good += r.n_good;
        if (r.longest_ns > longest) longest = r.longest_ns;
        for (int k = 0; k < FATE_KIND_COUNT; k++)
            n_struck[k] += r.n_struck[k];
        if (seed % TWICE_EVERY != 0 || one) continue;
        run_seed(seed, false, &again);
        if (again.hash != r.hash) fail_msg("seed %llu tells two stories", seed);
    }
    print_message("%d of %d hosts got their tokens; the longest took %.1f s; faults:", n_good,
                  n_hosts, (double)longest / 1e9);
    for (int k = 0; k < FATE_KIND_COUNT; k++)
        print_message(" %s %d", fate_name((enum fate_kind)k), n_struck[k]);
    print_message("\n");
    if (last - first < 50) return;
    assert_in_range(n_good, n_hosts / 4, n_hosts - n_hosts / 8); // faults hurt, and not always
    for (int k = 0; k < FATE_KIND_COUNT && last - first > 500; k++)
        assert_int_not_equal(n_struck[k], 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(network__every_seed_ends_well_or_with_one_clear_failure),
    };

    (void)argc;
    g_program = argv[0];
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
