/* Files: reading whole, mapping, and mappings whose file shrinks. */
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/guard_priv.h"
#include "base/mem.h"
#include "base/thread.h"

struct fixture {
    char dir[64];
    char path[96];
    size_t page;
};

static int setup(void **state)
{
    static struct fixture f;

    (void)snprintf(f.dir, sizeof f.dir, "/tmp/shoal_file_XXXXXX");
    if (!mkdtemp(f.dir)) return -1;
    (void)snprintf(f.path, sizeof f.path, "%s/file", f.dir);
    f.page = (size_t)sysconf(_SC_PAGESIZE);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    (void)unlink(f->path);
    return rmdir(f->dir);
}

/* A file of `bytes` bytes, all `fill`; returns a descriptor open for writing. */
static int make_file(const char *path, size_t bytes, int fill)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    char block[1024];

    assert_true(fd >= 0);
    memset(block, fill, sizeof block);
    while (bytes > 0) {
        const size_t n = bytes < sizeof block ? bytes : sizeof block;
        assert_int_equal(write(fd, block, n), n);
        bytes -= n;
    }
    return fd;
}

static void file__maps_whole_files(void **state)
{
    struct fixture *f = *state;
    struct sh_map m = SH_MAP_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_int_equal(close(make_file(f->path, 10000, 'q')), 0);
    assert_int_equal(sh_map_file(&m, f->path, &err), SHOAL_OK);
    assert_int_equal(m.size, 10000);
    assert_int_equal(m.ptr[0], 'q');
    assert_int_equal(m.ptr[9999], 'q');
    assert_false(sh_map_faulted(&m));
    sh_map_release(&m);
    assert_null(m.ptr);
    sh_map_release(&m);
    sh_map_release(NULL);
}

static void file__empty_file_maps_as_nothing(void **state)
{
    struct fixture *f = *state;
    struct sh_map m = SH_MAP_INIT;

    assert_int_equal(close(make_file(f->path, 0, 0)), 0);
    assert_int_equal(sh_map_file(&m, f->path, NULL), SHOAL_OK);
    assert_int_equal(m.size, 0);
    assert_false(sh_map_faulted(&m));
    sh_map_release(&m);
}

static void file__a_file_is_told_from_its_successor(void **state)
{
    struct fixture *f = *state;
    struct sh_map m = SH_MAP_INIT;
    struct sh_file_id now;
    char other[160];

    assert_int_equal(close(make_file(f->path, 10, 'a')), 0);
    assert_int_equal(sh_map_file(&m, f->path, NULL), SHOAL_OK);
    assert_int_equal(sh_file_identify(&now, f->path, NULL), SHOAL_OK);
    assert_int_equal(now.size, 10);
    assert_true(sh_file_id_equal(&m.id, &now));
    (void)snprintf(other, sizeof other, "%s/other", f->dir);
    assert_int_equal(close(make_file(other, 10, 'b')), 0);
    assert_int_equal(rename(other, f->path), 0);
    assert_int_equal(sh_file_identify(&now, f->path, NULL), SHOAL_OK);
    assert_false(sh_file_id_equal(&m.id, &now));
    assert_int_equal(sh_file_identify(&now, f->dir, NULL), SHOAL_ERR_IO);
    assert_int_equal(sh_file_identify(&now, other, NULL), SHOAL_ERR_IO);
    sh_map_release(&m);
}

static void file__refuses_what_is_not_a_regular_file(void **state)
{
    struct fixture *f = *state;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_map m = SH_MAP_INIT;
    char *text = NULL;
    size_t len = 0;
    char want[160];

    assert_int_equal(sh_map_file(&m, f->path, &err), SHOAL_ERR_IO);
    (void)snprintf(want, sizeof want, "cannot open %s: No such file or directory", f->path);
    assert_string_equal(err.message, want);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_int_equal(sh_map_file(&m, f->dir, &err), SHOAL_ERR_IO);
    (void)snprintf(want, sizeof want, "%s is not a regular file", f->dir);
    assert_string_equal(err.message, want);
    assert_int_equal(mkfifo(f->path, 0600), 0); // must not wait for a writer
    assert_int_equal(sh_map_file(&m, f->path, &err), SHOAL_ERR_IO);
    assert_int_equal(sh_read_file(&text, &len, f->path, 100, &err), SHOAL_ERR_IO);
    assert_null(text);
    assert_null(m.ptr);
}

static void file__reads_whole_files_within_the_limit(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000};
    struct fixture *f = *state;
    struct shoal_error err = SHOAL_ERROR_INIT;
    char *text = NULL;
    size_t len = 0;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(close(make_file(f->path, sizes[i], 'r')), 0);
        assert_int_equal(sh_read_file(&text, &len, f->path, sizes[i], &err), SHOAL_OK);
        assert_int_equal(len, sizes[i]);
        assert_int_equal(strlen(text), len);
        sh_free(text);
        if (sizes[i] == 0) continue;
        assert_int_equal(sh_read_file(&text, &len, f->path, sizes[i] - 1, &err), SHOAL_ERR_LIMIT);
        assert_null(text);
        assert_int_equal(len, 0);
    }
}

/* Kernel files say size 0 and have contents. */
static void file__reads_files_of_unknown_size(void **state)
{
    char *text = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(sh_read_file(&text, &len, "/proc/self/status", 1 << 20, NULL), SHOAL_OK);
    assert_true(len > 100);
    assert_non_null(strstr(text, "Pid:"));
    sh_free(text);
    assert_int_equal(sh_read_file(&text, &len, "/proc/self/status", 10, NULL), SHOAL_ERR_LIMIT);
    assert_null(text);
}

static void file__every_failed_allocation_is_reported(void **state)
{
    struct fixture *f = *state;
    const size_t before = sh_mem_live_bytes();
    enum shoal_status st = SHOAL_ERR_NOMEM;
    char *text = NULL;
    size_t len = 0;

    assert_int_equal(close(make_file(f->path, 100000, 'r')), 0);
    for (int n = 0; st; n++) {
        sh_mem_fail_after(n);
        st = sh_read_file(&text, &len, f->path, 200000, NULL);
        sh_mem_fail_after(-1);
        if (st) {
            assert_int_equal(st, SHOAL_ERR_NOMEM);
            assert_int_equal(sh_mem_live_bytes(), before);
        }
        assert_true(n < 100);
    }
    sh_free(text);
}

static void file__a_shrunk_file_reads_as_zeros_and_is_marked(void **state)
{
    struct fixture *f = *state;
    struct sh_map m = SH_MAP_INIT, other = SH_MAP_INIT;
    const int fd = make_file(f->path, 8 * f->page + 100, 'q');

    assert_int_equal(sh_map_file(&m, f->path, NULL), SHOAL_OK);
    assert_int_equal(sh_map_file(&other, "/proc/self/exe", NULL), SHOAL_OK);
    assert_int_equal(ftruncate(fd, (off_t)(2 * f->page)), 0);
    assert_int_equal(m.ptr[2 * f->page - 1], 'q');
    assert_false(sh_map_faulted(&m));
    errno = 4711;
    assert_int_equal(m.ptr[8 * f->page + 99], 0);
    assert_int_equal(errno, 4711);
    assert_true(sh_map_faulted(&m));
    for (size_t i = 2 * f->page; i < m.size; i++)
        if (m.ptr[i]) assert_int_equal(m.ptr[i], 0);
    assert_int_equal(m.ptr[0], 'q'); // what is there stays
    assert_false(sh_map_faulted(&other));
    sh_map_release(&m);
    sh_map_release(&other);
    // A new mapping in the same slot starts clean.
    assert_int_equal(sh_map_file(&m, f->path, NULL), SHOAL_OK);
    assert_false(sh_map_faulted(&m));
    sh_map_release(&m);
    assert_int_equal(close(fd), 0);
}

static void *sum_bytes(void *arg)
{
    const struct sh_map *m = arg;
    size_t sum = 0;

    for (size_t i = 0; i < m->size; i += 64)
        sum += m->ptr[i];
    return (void *)(uintptr_t)sum;
}

/* Our threads block signals; a fault must reach the guard all the same. */
static void file__faults_in_several_threads(void **state)
{
    struct fixture *f = *state;
    struct sh_map m = SH_MAP_INIT;
    struct sh_thread t[4];
    const int fd = make_file(f->path, 64 * f->page, 'q');

    assert_int_equal(sh_map_file(&m, f->path, NULL), SHOAL_OK);
    assert_int_equal(ftruncate(fd, 0), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(sh_thread_start(&t[i], "fault", sum_bytes, &m, NULL), SHOAL_OK);
    for (int i = 0; i < 4; i++)
        sh_thread_join(&t[i]);
    assert_true(sh_map_faulted(&m));
    sh_map_release(&m);
    assert_int_equal(close(fd), 0);
}

static void file__the_table_of_mappings_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct sh_map *m = sh_calloc(SH_GUARD_MAPS_MAX + 1, sizeof *m);
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_non_null(m);
    assert_int_equal(close(make_file(f->path, 1, 'q')), 0);
    for (int i = 0; i < SH_GUARD_MAPS_MAX; i++)
        assert_int_equal(sh_map_file(&m[i], f->path, &err), SHOAL_OK);
    assert_int_equal(sh_map_file(&m[SH_GUARD_MAPS_MAX], f->path, &err), SHOAL_ERR_LIMIT);
    assert_null(m[SH_GUARD_MAPS_MAX].ptr);
    sh_map_release(&m[17]);
    assert_int_equal(sh_map_file(&m[17], f->path, &err), SHOAL_OK);
    for (int i = 0; i < SH_GUARD_MAPS_MAX; i++)
        sh_map_release(&m[i]);
    sh_free(m);
}

static volatile sig_atomic_t g_foreign;
static void *g_foreign_page;
static size_t g_foreign_size;

static void foreign_handler(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    g_foreign = g_foreign + 1;
    if (info->si_code > 0) {
        (void)mmap(g_foreign_page, g_foreign_size, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
}

/* In a child: touch a mapping that is not ours behind its file's end.  Exit code 0 if the earlier
 * handler (if any) took both the fault and a sent signal, and our mapping was still guarded. */
static void touch_foreign(const struct fixture *f, bool with_handler)
{
    struct sigaction act = {.sa_sigaction = foreign_handler, .sa_flags = SA_SIGINFO};
    struct sh_map m = SH_MAP_INIT;
    volatile const char *p;
    const int fd = make_file(f->path, 4 * f->page, 'q');

    (void)signal(SIGBUS, SIG_DFL);
    if (with_handler) (void)sigaction(SIGBUS, &act, NULL);
    if (sh_map_file(&m, f->path, NULL)) _exit(10);
    p = mmap(NULL, f->page, PROT_READ, MAP_SHARED, fd, (off_t)(3 * f->page));
    g_foreign_page = (void *)(uintptr_t)p;
    g_foreign_size = f->page;
    if (ftruncate(fd, 0) != 0) _exit(11);
    if (m.ptr[0] != 0 || !sh_map_faulted(&m) || g_foreign != 0) _exit(12);
    if (p[0] != 0 || g_foreign != 1) _exit(13);
    if (raise(SIGBUS) != 0 || g_foreign != 2) _exit(14);
    _exit(0);
}

static int run_child(const struct fixture *f, bool with_handler)
{
    int status = 0;
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) touch_foreign(f, with_handler);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void file__foreign_faults_go_to_the_earlier_handler(void **state)
{
    struct fixture *f = *state;
    int status = run_child(f, true);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    status = run_child(f, false);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(file__##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(foreign_faults_go_to_the_earlier_handler),
        CASE(maps_whole_files),
        CASE(empty_file_maps_as_nothing),
        CASE(a_file_is_told_from_its_successor),
        CASE(refuses_what_is_not_a_regular_file),
        CASE(reads_whole_files_within_the_limit),
        CASE(reads_files_of_unknown_size),
        CASE(every_failed_allocation_is_reported),
        CASE(a_shrunk_file_reads_as_zeros_and_is_marked),
        CASE(faults_in_several_threads),
        CASE(the_table_of_mappings_is_bounded),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
