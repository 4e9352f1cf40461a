/* tests/host/weights_test.c - which weights cross the network: all once, none that a worker has, in
 * whatever files; and the bits are right in each case.
 */
#include "cluster.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "gguf/write.h"

enum { LAYERS_N = 8, FRAMES_MAX = 128 << 10 };

static const int64_t LAYERS[2] = {3, 5};

static struct sh_host_options options(const struct cluster *c)
{
    struct sh_host_options o = cluster_options(c, 2);

    o.n_layers_given = 2;
    o.layers = LAYERS;
    return o;
}

/* A host whose workers were sent all of their weights, or found all. */
static struct sh_host *open_host(const struct cluster *c, bool sent)
{
    const struct sh_host_options o = options(c);
    struct sh_host *h = cluster_host(&o);

    assert_int_equal(sh_host_n_devices(h), 2);
    for (int i = 0; i < 2; i++) {
        struct sh_host_network n;
        struct sh_host_device d;
        sh_host_device(h, i, &d);
        sh_host_network(h, i, &n);
        assert_true(d.weight_bytes > 4 * FRAMES_MAX);
        assert_int_equal(d.bytes_sent, sent ? d.weight_bytes : 0);
        assert_int_equal(d.bytes_found, sent ? 0 : d.weight_bytes);
        assert_in_range(n.bytes_sent, d.bytes_sent, d.bytes_sent + FRAMES_MAX);
    }
    return h;
}

/* ---- a folder of the workers' own -----------------------------------------------------------*/

struct store {
    char folder[64];
};

static void store_open(struct store *s)
{
    snprintf(s->folder, sizeof s->folder, "%s/shoal-store-XXXXXX",
             getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 40 ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(s->folder));
}

/* The cluster's model under another name, in so many files. */
static void store_copy(const struct store *s, const struct cluster *c, const char *name,
                       int n_shards)
{
    struct sh_gguf_writer *w = sh_gguf_writer_create();
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g;
    char path[160];

    assert_non_null(w);
    if (sh_gguf_open(&g, c->model, &err)) fail_msg("%s", err.message);
    sh_gguf_put_str(w, "general.architecture", SH_STR_LIT("llama"));
    // In another order, and with other metadata: only tensors count.
    for (size_t i = sh_gguf_n_tensors(g); i-- > 0;) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        sh_gguf_put_tensor(w, t->name, t->dtype, t->n_dims, t->ne, t->data);
    }
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    if (sh_gguf_write(w, path, n_shards, &err)) fail_msg("%s", err.message);
    sh_gguf_writer_destroy(w);
    sh_gguf_close(g);
}

static void store_close(const struct store *s, const char *const *names, int n)
{
    char path[160];

    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", s->folder, names[i]);
        assert_int_equal(remove(path), 0);
    }
    assert_int_equal(rmdir(s->folder), 0);
}

/* ---- tests ----------------------------------------------------------------------------------*/

static void weights__cross_once(void **state)
{
    struct cluster c;
    struct sh_host_options o;
    struct sh_host *first, *second;

    (void)state;
    cluster_open(&c, 2, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_F32, LAYERS_N);
    o = options(&c);
    first = open_host(&c, true);
    second = open_host(&c, false); // while the first has them there
    sh_host_close(first);
    cluster_check(&c, &o, 16, "weights that another host brought");
    sh_host_close(second);
    cluster_await_idle(&c);
    sh_host_close(open_host(&c, true)); // nobody had kept them
    cluster_close(&c);
}

static void weights__in_files_of_other_names(void **state)
{
    static const char *const NAMES[] = {"something-00001-of-00003.gguf",
                                        "something-00002-of-00003.gguf",
                                        "something-00003-of-00003.gguf"};
    struct sh_worker_options opt = {.listen = NULL};
    struct cluster c;
    struct sh_host_options o;
    struct store s;

    (void)state;
    store_open(&s);
    opt.models = s.folder;
    cluster_open(&c, 2, &opt);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_F32, LAYERS_N);
    // It comes late: who asks first has it found, and hashed.
    store_copy(&s, &c, "something.gguf", 3);
    o = options(&c);
    sh_host_close(open_host(&c, false));
    cluster_check(&c, &o, 16, "weights of the workers' files");
    cluster_close(&c);
    store_close(&s, NAMES, 3);
}

/* The worker's file is changed after it was hashed: what it was is sent instead. */
static void weights__of_a_file_that_changed(void **state)
{
    static const char *const NAMES[] = {"model.gguf"};
    static const struct timespec TIMES[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    struct sh_worker_options opt = {.listen = NULL};
    struct cluster c;
    struct sh_host_options o;
    struct store s;
    struct sh_host_device d;
    struct sh_host *h;
    uint64_t sent = 0;
    char path[160];
    struct stat sb;
    uint8_t byte;
    int fd;

    (void)state;
    store_open(&s);
    opt.models = s.folder;
    cluster_open(&c, 2, &opt);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_F32, LAYERS_N);
    store_copy(&s, &c, NAMES[0], 1);
    sh_host_close(open_host(&c, false));
    snprintf(path, sizeof path, "%s/%s", s.folder, NAMES[0]);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &sb), 0);
    assert_int_equal(pread(fd, &byte, 1, sb.st_size / 2), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, sb.st_size / 2), 1);
    assert_int_equal(futimens(fd, TIMES), 0); // whatever the grain of the clock
    assert_int_equal(close(fd), 0);
    o = options(&c);
    h = cluster_host(&o);
    for (int i = 0; i < 2; i++) {
        sh_host_device(h, i, &d);
        sent += d.bytes_sent;
    }
    assert_true(sent > 0);
    sh_host_close(h);
    cluster_check(&c, &o, 16, "a worker's file that changed");
    cluster_close(&c);
    store_close(&s, NAMES, 1);
}

/* Weights have a connection of their own, which ends when they are there. */
static void weights__connection_ends(void **state)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, 60 * SH_SECOND);
    struct sh_host_options o;
    struct sh_worker_stats s;
    struct cluster c;
    struct sh_host *h;

    (void)state;
    cluster_open(&c, 1, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_F32, LAYERS_N);
    o = cluster_options(&c, 1);
    h = cluster_host(&o);
    do {
        (void)sched_yield();
        sh_worker_stats(c.w[0].worker, &s);
    } while (s.rpc.n_connections > 1 && sh_now_ns(&sh_clock_system) < end);
    assert_int_equal(s.rpc.n_connections, 1);
    assert_int_equal(s.rpc.n_sessions, 1);
    sh_host_close(h);
    cluster_close(&c);
}

struct opening {
    struct sh_thread thread;
    struct sh_host_options o;
    struct sh_host *h;
    enum shoal_status st;
    struct shoal_error err;
};

static void *open_one(void *arg)
{
    struct opening *p = arg;

    p->st = sh_host_open(&p->h, &p->o, &p->err);
    return NULL;
}

/* Two hosts send the same at the same time. */
static void weights__from_two_hosts_at_once(void **state)
{
    struct opening two[2];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_host_options o;
    struct cluster c;

    (void)state;
    cluster_open(&c, 2, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_F32, LAYERS_N);
    o = options(&c);
    for (int i = 0; i < 2; i++) {
        two[i] = (struct opening){.o = o};
        assert_int_equal(sh_thread_start(&two[i].thread, "host", open_one, &two[i], &err),
                         SHOAL_OK);
    }
    for (int i = 0; i < 2; i++) {
        sh_thread_join(&two[i].thread);
        if (two[i].st) fail_msg("%s", two[i].err.message);
    }
    cluster_check(&c, &o, 16, "weights of two hosts");
    sh_host_close(two[0].h);
    sh_host_close(two[1].h);
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights__cross_once),
        cmocka_unit_test(weights__connection_ends),
        cmocka_unit_test(weights__in_files_of_other_names),
        cmocka_unit_test(weights__of_a_file_that_changed),
        cmocka_unit_test(weights__from_two_hosts_at_once),
    };
    return cmocka_run_group_tests_name("host weights over workers", tests, NULL, NULL);
}
