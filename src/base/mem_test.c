/* The heap: alignment, accounting, overflow, the failure hook, the check in front of a block. */
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static const size_t sizes[] = {0, 1, 63, 64, 65, 4095, 4096, 262143, 262144, 1000003};
#define N_SIZES (sizeof sizes / sizeof sizes[0])

static void mem__blocks_are_aligned_and_zeroed(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        uint8_t *a = sh_malloc(sizes[i]);
        uint8_t *b;

        // Leave dirt where the next block of this size will probably be.
        assert_non_null(a);
        memset(a, 0x5a, sizes[i]);
        sh_free(a);
        b = sh_calloc(sizes[i], 1);
        a = sh_malloc(sizes[i]);
        assert_non_null(a);
        assert_non_null(b);
        assert_ptr_not_equal(a, b);
        assert_int_equal((uintptr_t)a % SH_MEM_ALIGN, 0);
        assert_int_equal((uintptr_t)b % SH_MEM_ALIGN, 0);
        memset(a, 0xa5, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            if (b[k]) assert_int_equal(b[k], 0);
        sh_free(a);
        sh_free(b);
    }
    sh_free(NULL);
}

static void mem__live_and_peak_follow_blocks(void **state)
{
    const size_t before = sh_mem_live_bytes();
    void *p, *q;

    (void)state;
    p = sh_malloc(1000);
    q = sh_calloc(3, 1000000);
    assert_int_equal(sh_mem_live_bytes() - before, 3001000);
    assert_true(sh_mem_peak_bytes() >= before + 3001000);
    sh_free(q);
    p = sh_realloc_array(p, 10, 20);
    assert_non_null(p);
    assert_int_equal(sh_mem_live_bytes() - before, 200);
    sh_free(p);
    assert_int_equal(sh_mem_live_bytes(), before);
    assert_true(sh_mem_peak_bytes() >= before + 3001000);
}

static void mem__overflow_is_null(void **state)
{
    const size_t before = sh_mem_live_bytes();

    (void)state;
    assert_null(sh_malloc(SIZE_MAX));
    assert_null(sh_malloc(SIZE_MAX - SH_MEM_ALIGN));
    assert_null(sh_malloc((size_t)PTRDIFF_MAX));
    assert_null(sh_calloc(SIZE_MAX / 2 + 1, 2));
    assert_null(sh_calloc(SIZE_MAX, 1));
    assert_null(sh_realloc_array(NULL, SIZE_MAX / 4, 8));
    assert_int_equal(sh_mem_live_bytes(), before);
}

static void mem__realloc_keeps_contents(void **state)
{
    char *p = sh_realloc_array(NULL, 5, 1);
    char *q;

    (void)state;
    assert_non_null(p);
    memcpy(p, "abcd", 5);
    assert_null(sh_realloc_array(p, SIZE_MAX, 2));
    assert_string_equal(p, "abcd");
    q = sh_realloc_array(p, 100000, 4);
    assert_non_null(q);
    assert_string_equal(q, "abcd");
    p = sh_realloc_array(q, 2, 1);
    assert_non_null(p);
    assert_memory_equal(p, "ab", 2);
    sh_free(p);
}

static void mem__strdup_copies(void **state)
{
    char *p = sh_strdup("shoal");
    char *q = sh_strdup("");

    (void)state;
    assert_string_equal(p, "shoal");
    assert_string_equal(q, "");
    sh_free(p);
    sh_free(q);
}

static void mem__hook_fails_the_nth_once(void **state)
{
    void *p[4];

    (void)state;
    sh_mem_fail_after(2);
    p[0] = sh_malloc(1);
    p[1] = sh_calloc(1, 1 << 20);
    assert_true(sh_mem_fail_pending());
    p[2] = sh_realloc_array(NULL, 1, 1);
    assert_false(sh_mem_fail_pending());
    p[3] = sh_malloc(1);
    assert_non_null(p[0]);
    assert_non_null(p[1]);
    assert_null(p[2]);
    assert_non_null(p[3]);
    sh_mem_fail_after(0);
    assert_null(sh_calloc(1, 1 << 20));
    sh_mem_fail_after(0);
    assert_true(sh_mem_fail_pending());
    sh_mem_fail_after(-1);
    assert_false(sh_mem_fail_pending());
    p[2] = sh_malloc(1);
    assert_non_null(p[2]);
    for (int i = 0; i < 4; i++)
        sh_free(p[i]);
}

static void *churn(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < 2000; i++) {
        void *p = sh_malloc(i);
        sh_free(p);
    }
    return NULL;
}

static void mem__threads_leave_exact_counts(void **state)
{
    const size_t before = sh_mem_live_bytes();
    pthread_t t[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, churn, NULL), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    assert_int_equal(sh_mem_live_bytes(), before);
}

/* Run `act` in a child; returns the signal that ended it or 0.  A sanitizer ends it by exit code.
 */
static bool child_dies(void (*act)(void))
{
    int status = 0;
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(STDERR_FILENO);
        (void)signal(SIGABRT, SIG_DFL);
        act();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void write_in_front(void)
{
    volatile uint8_t *p = sh_malloc(8);

    for (int i = 1; i <= SH_MEM_ALIGN; i++)
        p[-i] = 0;
    sh_free((void *)(uintptr_t)p);
}

static void release_twice(void)
{
    void *p = sh_malloc(8);

    sh_free(p);
    sh_free(p);
}

static void do_nothing(void)
{
    sh_free(sh_malloc(8));
}

static void mem__damage_is_noticed(void **state)
{
    (void)state;
    assert_false(child_dies(do_nothing));
    assert_true(child_dies(write_in_front));
    assert_true(child_dies(release_twice));
}

static void mem__size_helpers_at_the_edges(void **state)
{
    size_t v = 7;

    (void)state;
    assert_true(sh_add_ok(SIZE_MAX - 1, 1, &v));
    assert_int_equal(v, SIZE_MAX);
    assert_false(sh_add_ok(SIZE_MAX, 1, &v));
    assert_true(sh_mul_ok(SIZE_MAX / 3, 3, &v));
    assert_int_equal(v, SIZE_MAX);
    assert_false(sh_mul_ok(SIZE_MAX / 2 + 1, 2, &v));
    assert_true(sh_round_up_ok(65, 64, &v));
    assert_int_equal(v, 128);
    assert_true(sh_round_up_ok(0, 64, &v));
    assert_int_equal(v, 0);
    assert_false(sh_round_up_ok(SIZE_MAX - 62, 64, &v));
    assert_true(sh_range_ok(4, 0, 4));
    assert_true(sh_range_ok(0, 4, 4));
    assert_false(sh_range_ok(5, 0, 4));
    assert_false(sh_range_ok(1, 4, 4));
    assert_false(sh_range_ok(1, SIZE_MAX, 4));
}

static void mem__fill_soon_changes_nothing(void **state)
{
    static const size_t SIZES[] = {1, 5000, (size_t)4 << 20, ((size_t)9 << 20) + 4097};

    (void)state;
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        uint8_t *p = sh_calloc(1, SIZES[i]);
        assert_non_null(p);
        sh_mem_fill_soon(p, SIZES[i]);
        assert_int_equal(p[0], 0);
        memset(p, 7, SIZES[i]);
        assert_int_equal(p[SIZES[i] - 1], 7);
        sh_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mem__blocks_are_aligned_and_zeroed),
        cmocka_unit_test(mem__live_and_peak_follow_blocks),
        cmocka_unit_test(mem__overflow_is_null),
        cmocka_unit_test(mem__realloc_keeps_contents),
        cmocka_unit_test(mem__strdup_copies),
        cmocka_unit_test(mem__hook_fails_the_nth_once),
        cmocka_unit_test(mem__threads_leave_exact_counts),
        cmocka_unit_test(mem__damage_is_noticed),
        cmocka_unit_test(mem__size_helpers_at_the_edges),
        cmocka_unit_test(mem__fill_soon_changes_nothing),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
