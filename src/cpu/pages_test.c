/* Large pages for a cache: which windows are joined and when, and that contents stay. */
#include "cpu/pages_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/mem.h"

#define WINDOW ((size_t)2 << 20)
#define PAGE ((size_t)4096)
#define BYTES (5 * WINDOW) // holds at least four whole windows

struct memory {
    uint8_t *p;
    struct sh_cpu_pages pages;
};

static void set_up(struct memory *m)
{
    m->p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(m->p != MAP_FAILED);
    assert_int_equal(sh_cpu_pages_init(&m->pages, m->p, BYTES, NULL), SHOAL_OK);
    assert_in_range(m->pages.n_windows, 4, 5);
    assert_int_equal(m->pages.n_left, m->pages.n_windows);
}

static void tear_down(struct memory *m)
{
    sh_cpu_pages_release(&m->pages);
    assert_int_equal(m->pages.n_windows, 0);
    (void)munmap(m->p, BYTES);
}

/* Write to the first n small pages of a window. */
static void use(struct memory *m, size_t window, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memset(m->pages.windows + window * WINDOW + i * PAGE, (int)(window * 16 + i % 7 + 1), 100);
}

static void check_contents(const struct memory *m, size_t window, size_t n)
{
    const uint8_t *p = m->pages.windows + window * WINDOW;

    for (size_t i = 0; i < WINDOW; i++) {
        const size_t page = i / PAGE;
        const uint8_t want =
            page < n && i % PAGE < 100 ? (uint8_t)(window * 16 + page % 7 + 1) : (uint8_t)0;
        if (p[i] != want) fail_msg("byte %zu is %d, want %d", i, p[i], want);
    }
}

static void join_for_long(struct memory *m)
{
    for (int i = 0; i < 10; i++)
        sh_cpu_pages_join(&m->pages, 100 * SH_SECOND);
}

static void pages__joined_from_a_quarter_on(void **state)
{
    struct memory m;

    (void)state;
    if (!sh_cpu_pages_usable()) return; // nothing to watch: no cache asks for it
    set_up(&m);
    join_for_long(&m);
    assert_int_equal(m.pages.n_left, m.pages.n_windows); // nothing is in use
    use(&m, 0, 127);
    use(&m, 2, 128);
    use(&m, 3, 512);
    join_for_long(&m);
    assert_int_equal(m.pages.n_left, m.pages.n_windows - 2);
    assert_false(m.pages.joined[0] || m.pages.joined[1]);
    assert_true(m.pages.joined[2] && m.pages.joined[3]);
    check_contents(&m, 0, 127);
    check_contents(&m, 2, 128);
    check_contents(&m, 3, 512);
    use(&m, 0, 200); // it grows, and gets its turn again
    join_for_long(&m);
    assert_true(m.pages.joined[0]);
    check_contents(&m, 0, 200);
    tear_down(&m);
}

/* A window that costs more than it may is paid for by the calls after it. */
static void pages__time_is_bounded(void **state)
{
    struct memory m;

    (void)state;
    if (!sh_cpu_pages_usable()) return;
    set_up(&m);
    for (size_t i = 0; i < 4; i++)
        use(&m, i, 512);
    sh_cpu_pages_join(&m.pages, 0);
    assert_int_equal(m.pages.n_left, m.pages.n_windows); // no time, no window
    sh_cpu_pages_join(&m.pages, 1);
    assert_int_equal(m.pages.n_left, m.pages.n_windows - 1); // one, whatever it takes
    assert_true(m.pages.credit_ns < 0);
    sh_cpu_pages_join(&m.pages, 1);
    assert_int_equal(m.pages.n_left, m.pages.n_windows - 1); // still owes for it
    join_for_long(&m);
    assert_int_equal(m.pages.n_left, m.pages.n_windows - 4);
    tear_down(&m);
}

/* Much time joins neighbours together, but none beyond the last or across one that is not used. */
static void pages__neighbours_are_joined_together(void **state)
{
    struct memory m;

    (void)state;
    if (!sh_cpu_pages_usable()) return;
    set_up(&m);
    use(&m, 0, 300);
    use(&m, 1, 200);
    use(&m, 3, 512);
    sh_cpu_pages_join(&m.pages, 100 * SH_SECOND);
    assert_int_equal(m.pages.n_left, m.pages.n_windows - 3);
    assert_true(m.pages.joined[0] && m.pages.joined[1] && m.pages.joined[3]);
    check_contents(&m, 0, 300);
    check_contents(&m, 1, 200);
    check_contents(&m, 2, 0);
    check_contents(&m, 3, 512);
    tear_down(&m);
}

static void pages__little_memory_has_no_windows(void **state)
{
    uint8_t *p = sh_calloc(1, WINDOW);
    struct sh_cpu_pages pages;

    (void)state;
    assert_non_null(p);
    assert_int_equal(sh_cpu_pages_init(&pages, p + 64, WINDOW - 64, NULL), SHOAL_OK);
    assert_int_equal(pages.n_windows, 0);
    sh_cpu_pages_join(&pages, SH_SECOND);
    sh_cpu_pages_release(&pages);
    sh_free(p);
}

static void pages__no_memory_leaves_nothing(void **state)
{
    struct sh_cpu_pages pages;
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *p = sh_calloc(2, WINDOW);

    (void)state;
    assert_non_null(p);
    sh_mem_fail_after(0);
    assert_int_equal(sh_cpu_pages_init(&pages, p, 2 * WINDOW, &err), SHOAL_ERR_NOMEM);
    sh_mem_fail_after(-1);
    assert_int_equal(pages.n_windows, 0);
    sh_cpu_pages_release(&pages);
    sh_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages__joined_from_a_quarter_on),
        cmocka_unit_test(pages__time_is_bounded),
        cmocka_unit_test(pages__neighbours_are_joined_together),
        cmocka_unit_test(pages__little_memory_has_no_windows),
        cmocka_unit_test(pages__no_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
