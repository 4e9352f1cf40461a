/* Control groups: the kernel's texts, and trees of them in a folder. */
#include "base/cgroup_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define LIT(s) SH_STR_LIT(s)

static void check_path(struct sh_str text, const char *controller, const char *want)
{
    struct sh_str path = SH_STR_EMPTY;
    char got[256];

    assert_true(sh_cgroup_path(text, controller, &path));
    assert_true(path.len < sizeof got);
    memcpy(got, path.ptr, path.len);
    got[path.len] = '\0';
    assert_string_equal(got, want);
}

static void cgroup__finds_the_path_of_a_controller(void **state)
{
    const struct sh_str v1 = LIT("12:cpuset:/c\n5:cpu,cpuacct:/docker/ab:cd\n3:memory:/m\n"
                                 "1:name=systemd:/s\n");
    struct sh_str path;

    (void)state;
    check_path(LIT("0::/user.slice/a.scope\n"), "", "/user.slice/a.scope");
    check_path(LIT("0::/"), "", "/");
    check_path(v1, "cpu", "/docker/ab:cd");
    check_path(v1, "cpuacct", "/docker/ab:cd");
    check_path(v1, "memory", "/m");
    assert_false(sh_cgroup_path(v1, "", &path));
    assert_false(sh_cgroup_path(v1, "cpus", &path));
    assert_false(sh_cgroup_path(SH_STR_EMPTY, "", &path));
    assert_false(sh_cgroup_path(LIT("nonsense\n0:\n::\n0::relative\n"), "", &path));
}

static void cgroup__numbers(void **state)
{
    uint64_t v = 0;

    (void)state;
    assert_true(sh_cgroup_number(LIT(" \t42\n"), &v));
    assert_int_equal(v, 42);
    assert_true(sh_cgroup_number(LIT("18446744073709551615"), &v));
    assert_int_equal(v, UINT64_MAX);
    assert_false(sh_cgroup_number(LIT("18446744073709551616"), &v));
    assert_false(sh_cgroup_number(LIT("99999999999999999999"), &v));
    assert_false(sh_cgroup_number(LIT("max\n"), &v));
    assert_false(sh_cgroup_number(LIT("-1\n"), &v));
    assert_false(sh_cgroup_number(LIT(" "), &v));
    assert_false(sh_cgroup_number(SH_STR_EMPTY, &v));
}

static void cgroup__cpu_quota_rounds_up(void **state)
{
    int n = 0;

    (void)state;
    assert_true(sh_cgroup_cpu_max(LIT("200000 100000\n"), &n));
    assert_int_equal(n, 2);
    assert_true(sh_cgroup_cpu_max(LIT("150000 100000\n"), &n));
    assert_int_equal(n, 2);
    assert_true(sh_cgroup_cpu_max(LIT("1000 100000\n"), &n));
    assert_int_equal(n, 1);
    assert_true(sh_cgroup_cpu_max(LIT("0 100000\n"), &n));
    assert_int_equal(n, 1);
    assert_false(sh_cgroup_cpu_max(LIT("max 100000\n"), &n));
    assert_false(sh_cgroup_cpu_max(LIT("200000\n"), &n));
    assert_false(sh_cgroup_cpu_max(LIT("200000 0\n"), &n));
    assert_false(sh_cgroup_cpu_max(LIT("99999999999999 1\n"), &n));
    assert_false(sh_cgroup_cpu_max(SH_STR_EMPTY, &n));
    assert_false(sh_cgroup_cpus(LIT("-1\n"), LIT("100000\n"), &n));
    assert_true(sh_cgroup_cpus(LIT("50000\n"), LIT("100000\n"), &n));
    assert_int_equal(n, 1);
}

static void cgroup__fields_of_longer_texts(void **state)
{
    const struct sh_str text = LIT("MemTotal:       16384 kB\nMemAvailable:    1000 kB\n"
                                   "inactive_file 77\ninactive_file_x 78\nbroken\n");
    uint64_t v = 0;

    (void)state;
    assert_true(sh_cgroup_field(text, "MemAvailable", &v));
    assert_int_equal(v, 1000);
    assert_true(sh_cgroup_field(text, "MemTotal", &v));
    assert_int_equal(v, 16384);
    assert_true(sh_cgroup_field(text, "inactive_file", &v));
    assert_int_equal(v, 77);
    assert_false(sh_cgroup_field(text, "Mem", &v));
    assert_false(sh_cgroup_field(text, "broken", &v));
    assert_false(sh_cgroup_field(text, "absent", &v));
}

/* Write `text` to root/name, making the folders on the way. */
static void put(const char *root, const char *name, const char *text)
{
    char path[256];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *s = path + strlen(root) + 1; *s; s++) {
        if (*s != '/') continue;
        *s = '\0';
        (void)mkdir(path, 0700);
        *s = '/';
    }
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fputs(text, f) >= 0, 1);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
    static char root[64];

    (void)snprintf(root, sizeof root, "/tmp/shoal_cgroup_XXXXXX");
    *state = root;
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    const char *root = *state;
    static const char *const made[] = {"a/b/cpu.max",
                                       "a/b/memory.max",
                                       "a/cpu.max",
                                       "a/memory.max",
                                       "a/memory.current",
                                       "a/memory.stat",
                                       "cpu.max",
                                       "memory.max",
                                       "memory.current",
                                       "cpu/d/cpu.cfs_quota_us",
                                       "cpu/d/cpu.cfs_period_us",
                                       "memory/memory.limit_in_bytes",
                                       "memory/memory.usage_in_bytes",
                                       "memory/memory.stat",
                                       "a/b",
                                       "a",
                                       "cpu/d",
                                       "cpu",
                                       "memory"};
    char path[256];

    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", root, made[i]);
        (void)remove(path);
    }
    return rmdir(root);
}

static void cgroup__the_tightest_group_above_counts(void **state)
{
    const char *root = *state;
    struct sh_cgroup_limits l;

    put(root, "a/b/cpu.max", "max 100000\n");
    put(root, "a/b/memory.max", "max\n");
    put(root, "a/cpu.max", "300000 100000\n");
    put(root, "a/memory.max", "1000000\n");
    put(root, "a/memory.current", "900000\n");
    put(root, "a/memory.stat", "anon 1\ninactive_file 300000\n");
    sh_cgroup_limits_read(&l, LIT("0::/a/b\n"), root);
    assert_int_equal(l.cpus, 3);
    assert_int_equal(l.memory_max, 1000000);
    assert_int_equal(l.memory_usable, 400000);
    put(root, "a/b/cpu.max", "100000 100000\n");
    sh_cgroup_limits_read(&l, LIT("0::/a/b\n"), root);
    assert_int_equal(l.cpus, 1);
}

/* The groups of a container may be mounted at the root while the path names the host's folders. */
static void cgroup__a_path_that_is_not_there_ends_at_the_root(void **state)
{
    const char *root = *state;
    struct sh_cgroup_limits l;

    put(root, "cpu.max", "200000 100000\n");
    put(root, "memory.max", "5000\n");
    put(root, "memory.current", "6000\n");
    sh_cgroup_limits_read(&l, LIT("0::/system.slice/docker-0.scope\n"), root);
    assert_int_equal(l.cpus, 2);
    assert_int_equal(l.memory_max, 5000);
    assert_int_equal(l.memory_usable, 0);
}

static void cgroup__version_one(void **state)
{
    const char *root = *state;
    struct sh_cgroup_limits l;

    put(root, "cpu/d/cpu.cfs_quota_us", "250000\n");
    put(root, "cpu/d/cpu.cfs_period_us", "100000\n");
    put(root, "memory/memory.limit_in_bytes", "9000\n");
    put(root, "memory/memory.usage_in_bytes", "8000\n");
    put(root, "memory/memory.stat", "total_inactive_file 9999\n");
    sh_cgroup_limits_read(&l, LIT("4:cpu,cpuacct:/d\n2:memory:/x/y\n"), root);
    assert_int_equal(l.cpus, 3);
    assert_int_equal(l.memory_max, 9000);
    assert_int_equal(l.memory_usable, 9000);
    put(root, "cpu/d/cpu.cfs_quota_us", "-1\n");
    sh_cgroup_limits_read(&l, LIT("4:cpu,cpuacct:/d\n"), root);
    assert_int_equal(l.cpus, INT_MAX);
    assert_int_equal(l.memory_max, UINT64_MAX);
    assert_int_equal(l.memory_usable, UINT64_MAX);
}

static void cgroup__no_groups_no_limits(void **state)
{
    struct sh_cgroup_limits l;

    (void)state;
    sh_cgroup_limits_read(&l, SH_STR_EMPTY, "/nowhere");
    assert_int_equal(l.cpus, INT_MAX);
    assert_int_equal(l.memory_max, UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cgroup__finds_the_path_of_a_controller),
        cmocka_unit_test(cgroup__numbers),
        cmocka_unit_test(cgroup__cpu_quota_rounds_up),
        cmocka_unit_test(cgroup__fields_of_longer_texts),
        cmocka_unit_test_setup_teardown(cgroup__the_tightest_group_above_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(cgroup__a_path_that_is_not_there_ends_at_the_root, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(cgroup__version_one, setup, teardown),
        cmocka_unit_test(cgroup__no_groups_no_limits),
    };
    return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
