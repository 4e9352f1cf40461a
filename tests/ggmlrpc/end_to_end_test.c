/* Remote device, wire, server and CPU device together, over TCP: what a graph gives through them
 * must be, bit for bit, what the CPU device gives at once.  Random graphs of the ops that lowered
 * models use; several clients at once; steps sent ahead; servers that end under way.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/device.h"
#include "ggmlrpc/device.h"
#include "peer.h"

#define WIDTH 64
#define HEADS 4
#define CELLS 32
#define SOON_NS (60 * SH_SECOND)

/* ---- a server in this process ---------------------------------------------------------------*/

struct host {
    struct sh_device *cpu;
    struct sh_ggmlrpc_server *server;
    pthread_t thread;
};

static void *run_server(void *arg)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_ggmlrpc_server_run(arg, &err)) fail_msg("%s", err.message);
    return NULL;
}

static void host_open(struct host *h, int n_threads)
{
    const struct sh_cpu_options cpu = {.n_threads = n_threads, .memory_max = (size_t)288 << 20};
    struct sh_ggmlrpc_server_options opt = {
        .listen = "127.0.0.1:0", .memory_max = (size_t)256 << 20, .drain_ns = 50 * SH_MS};
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_cpu_device_open(&h->cpu, &cpu, &err)) fail_msg("%s", err.message);
    opt.device = h->cpu;
    if (sh_ggmlrpc_server_create(&h->server, &opt, &err)) fail_msg("%s", err.message);
    assert_int_equal(pthread_create(&h->thread, NULL, run_server, h->server), 0);
}

static void host_close(struct host *h)
{
    sh_ggmlrpc_server_stop(h->server);
    assert_int_equal(pthread_join(h->thread, NULL), 0);
    sh_ggmlrpc_server_destroy(h->server);
    sh_device_close(h->cpu);
}

static struct sh_device *client_of(const struct host *h)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device *d;

    if (sh_ggmlrpc_device_open(&d, sh_ggmlrpc_server_address(h->server), NULL, &err)) {
        fail_msg("%s", err.message);
    }
    return d;
}

/* ---- random graphs --------------------------------------------------------------------------*/

struct rng {
    uint64_t s;
};
static uint32_t next(struct rng *r)
{
    r->s = r->s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(r->s >> 33);
}
static float next_float(struct rng *r)
{
    return (float)(next(r) % 20001) / 10000.0f - 1.0f;
}

#define WEIGHTS_BYTES ((size_t)256 << 10)
#define CACHE_BYTES ((size_t)WIDTH * CELLS * 2)

/* Buffer 0 holds weights, buffer 1 a cache of f16 [WIDTH, CELLS]. */
struct network {
    struct sh_graph g;
    int64_t rows;
    int32_t x, rows_in, pos, mask; /* inputs */
    int32_t cache;
    int32_t y;
    size_t weights_used;
    uint8_t weights[WEIGHTS_BYTES];
};

/* Weights of any type; halves that are scales stay small and finite. */
static int32_t add_weight(struct network *n, struct rng *r, enum sh_dtype type)
{
    const int64_t ne[4] = {WIDTH, WIDTH, 1, 1};
    const int32_t t = sh_leaf_plain(&n->g, type, ne, SH_EXTENT_NONE, 0);
    uint8_t *at = n->weights + n->weights_used;
    size_t bytes;

    assert_true(sh_tensor_bytes(sh_graph_tensor(&n->g, t), &bytes));
    assert_true(n->weights_used + bytes <= WEIGHTS_BYTES);
    sh_graph_place(&n->g, t, 0, n->weights_used);
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)next(r);
    if (type == SH_DTYPE_F32) {
        for (size_t i = 0; i < bytes; i += 4) {
            const float v = next_float(r);
            memcpy(at + i, &v, 4);
        }
    } else if (type == SH_DTYPE_F16) {
        for (size_t i = 1; i < bytes; i += 2)
            at[i] = (uint8_t)(at[i] & 0xb3);
    } else {
        const size_t block = sh_dtype_info(type)->block_bytes;
        for (size_t i = 0; i < bytes; i += block)
            at[i + 1] = 0x24;
        for (size_t i = 0; i < bytes && type == SH_DTYPE_Q4_1; i += block)
            at[i + 3] = 0x24;
    }
    n->weights_used = (n->weights_used + bytes + 63) / 64 * 64;
    return t;
}

static int32_t product(struct network *n, struct rng *r, int32_t x)
{
    static const enum sh_dtype types[] = {SH_DTYPE_F32, SH_DTYPE_F16, SH_DTYPE_Q8_0, SH_DTYPE_Q4_0,
                                          SH_DTYPE_Q4_1};

    return sh_op_mul_mat(&n->g, add_weight(n, r, types[next(r) % 5]), x, next(r) % 2 ? 32 : 0);
}

static int32_t rope(struct network *n, int32_t x)
{
    const struct sh_rope_attr a = {.mode = SH_ROPE_NEOX,
                                   .n_dims = WIDTH / HEADS,
                                   .freq_base = 10000,
                                   .freq_scale = 1,
                                   .attn_factor = 1,
                                   .beta_fast = 32,
                                   .beta_slow = 1};
    const int64_t heads[3] = {WIDTH / HEADS, HEADS, n->rows}, flat[2] = {WIDTH, n->rows};

    x = sh_op_reshape(&n->g, x, 3, heads);
    return sh_op_reshape(&n->g, sh_op_rope(&n->g, x, n->pos, -1, &a), 2, flat);
}

/* Write rows into the cache, then attend to all of it. */
static int32_t attention(struct network *n, int32_t x)
{
    const int64_t heads[3] = {WIDTH / HEADS, HEADS, n->rows}, flat[2] = {WIDTH, n->rows};
    const int64_t kv[3] = {WIDTH / HEADS, CELLS, HEADS};
    const size_t nb[3] = {2, WIDTH * 2, WIDTH / HEADS * 2};
    const int32_t cache = sh_op_set_rows(&n->g, x, n->rows_in, n->cache);
    const int32_t k = sh_op_view(&n->g, cache, 3, kv, nb, 0);
    const int32_t q = sh_op_permute(&n->g, sh_op_reshape(&n->g, x, 3, heads), 0, 2, 1, 3);
    const int32_t y = sh_op_flash_attn(&n->g, q, k, k, n->mask, -1, 0.25f, 0, 0);

    return sh_op_reshape(&n->g, y, 2, flat);
}

static int32_t random_op(struct network *n, struct rng *r, int32_t a, int32_t b)
{
    switch (next(r) % 10) {
    case 0:
        return sh_op_binary(&n->g, SH_OP_ADD, a, b);
    case 1:
        return sh_op_binary(&n->g, SH_OP_MUL, a, b);
    case 2:
        return sh_op_norm(&n->g, SH_OP_RMS_NORM, a, 1e-5f);
    case 3:
        return sh_op_scale(&n->g, a, 0.5f, 0.25f);
    case 4:
        return sh_op_unary(&n->g, next(r) % 2 ? SH_UNARY_SILU : SH_UNARY_GELU, a);
    case 5:
        return sh_op_glu(&n->g, SH_GLU_SWIGLU, a, b);
    case 6:
        return rope(n, a);
    case 7:
        return sh_op_get_rows(&n->g, sh_op_set_rows(&n->g, a, n->rows_in, n->cache), n->rows_in);
    default:
        return product(n, r, a);
    }
}

static void network_init(struct network *n, uint64_t seed, int64_t rows)
{
    const struct sh_extents max = {.t = rows, .o = rows, .r = 1};
    const int64_t x[4] = {WIDTH, rows, 1, 1}, one[4] = {rows, 1, 1, 1},
                  mask[4] = {CELLS, rows, 1, 1};
    const int64_t cache[4] = {WIDTH, CELLS, 1, 1};
    struct rng r = {.s = seed};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t made[40];
    int k = 0;

    memset(n, 0, sizeof *n);
    n->rows = rows;
    sh_graph_init(&n->g, &max);
    n->x = made[k++] = sh_leaf_plain(&n->g, SH_DTYPE_F32, x, SH_EXTENT_NONE, 0);
    n->rows_in = sh_leaf_plain(&n->g, SH_DTYPE_I32, one, SH_EXTENT_NONE, 0);
    n->pos = sh_leaf_plain(&n->g, SH_DTYPE_I32, one, SH_EXTENT_NONE, 0);
    n->mask = sh_leaf_plain(&n->g, SH_DTYPE_F16, mask, SH_EXTENT_NONE, 0);
    n->cache = sh_leaf_plain(&n->g, SH_DTYPE_F16, cache, SH_EXTENT_NONE, 0);
    sh_graph_place(&n->g, n->cache, 1, 0);
    while (k < 20) {
        const int32_t a = made[next(&r) % (unsigned)k], b = made[k - 1];
        made[k] = random_op(n, &r, a, b);
        k++;
    }
    made[k] = sh_op_norm(&n->g, SH_OP_RMS_NORM, attention(n, made[k - 1]), 1e-5f);
    n->y = sh_op_binary(&n->g, SH_OP_ADD, product(n, &r, made[k]), made[k - 1]);
    sh_graph_set_output(&n->g, n->y);
    if (sh_graph_status(&n->g, &err)) fail_msg("seed %d: %s", (int)seed, err.message);
}

static void network_release(struct network *n)
{
    sh_graph_release(&n->g);
}

/* ---- running one on a device ----------------------------------------------------------------*/

struct runner {
    struct sh_device *device;
    struct sh_queue *queue;
    struct sh_buffer *buffers[2];
    struct sh_exec *exec;
    const struct network *n;
};

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

static void runner_open(struct runner *r, struct sh_device *d, const struct network *n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    r->device = d;
    r->n = n;
    must(sh_queue_create(d, &r->queue, &err), &err);
    must(sh_buffer_alloc(d, &r->buffers[0], WEIGHTS_BYTES, SH_BUFFER_WEIGHTS, &err), &err);
    must(sh_buffer_alloc(d, &r->buffers[1], CACHE_BYTES, SH_BUFFER_CACHE, &err), &err);
    must(sh_queue_write(r->queue, r->buffers[0], 0, n->weights, WEIGHTS_BYTES, NULL, &err), &err);
    must(sh_exec_prepare(d, &r->exec, &n->g, r->buffers, 2, 2, &err), &err);
}

static void runner_close(struct runner *r)
{
    sh_queue_destroy(r->queue);
    sh_exec_release(r->exec);
    sh_buffer_free(r->buffers[0]);
    sh_buffer_free(r->buffers[1]);
}

struct step {
    float x[WIDTH * 8];
    int32_t rows[8], pos[8];
    uint16_t mask[CELLS * 8];
    float y[WIDTH * 8];
    sh_ticket ticket;
};

static void step_init(struct step *s, const struct network *n, uint64_t seed)
{
    struct rng r = {.s = seed};

    memset(s, 0, sizeof *s);
    for (int64_t i = 0; i < WIDTH * n->rows; i++)
        s->x[i] = next_float(&r);
    for (int32_t t = 0; t < (int32_t)n->rows; t++) {
        s->rows[t] = (int32_t)(next(&r) % (CELLS / 8)) * 8 + t; // all different
        s->pos[t] = (int32_t)(next(&r) % 100);
        for (int c = 0; c < CELLS; c++)
            s->mask[t * CELLS + c] = next(&r) % 3 == 0 && c > 0 ? 0xfc00 : 0;
    }
}

static void step_start(struct runner *r, struct step *s, int slot)
{
    const struct network *n = r->n;
    const size_t rows = (size_t)n->rows;
    struct shoal_error e = SHOAL_ERROR_INIT;
    struct sh_exec *x = r->exec;
    struct sh_queue *q = r->queue;

    must(sh_queue_write_tensor(q, x, slot, n->x, 0, s->x, WIDTH * 4 * rows, NULL, &e), &e);
    must(sh_queue_write_tensor(q, x, slot, n->rows_in, 0, s->rows, 4 * rows, NULL, &e), &e);
    must(sh_queue_write_tensor(q, x, slot, n->pos, 0, s->pos, 4 * rows, NULL, &e), &e);
    must(sh_queue_write_tensor(q, x, slot, n->mask, 0, s->mask, CELLS * 2 * rows, NULL, &e), &e);
    must(sh_queue_submit(q, x, slot, &n->g.max, NULL, NULL, &e), &e);
    must(sh_queue_read_tensor(q, x, slot, n->y, 0, s->y, WIDTH * 4 * rows, &s->ticket, &e), &e);
}

static void step_finish(struct runner *r, struct step *s)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    must(sh_queue_wait(r->queue, s->ticket, SOON_NS, &err), &err);
}

static void expect_same(const struct step *a, const struct step *b, int64_t rows, uint64_t seed)
{
    if (memcmp(a->y, b->y, (size_t)rows * WIDTH * 4) != 0) {
        fail_msg("seed %d: local and remote results differ: %g and %g in front", (int)seed,
                 (double)a->y[0], (double)b->y[0]);
    }
}

/* ---- tests ----------------------------------------------------------------------------------*/

static void end_to_end__random_graphs_give_the_same_bits(void **state)
{
    static struct network n;
    struct sh_device *remote;
    struct host h;

    (void)state;
    host_open(&h, 2);
    remote = client_of(&h);
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct runner near, far;
        network_init(&n, seed, (int64_t)(seed % 5 + 1));
        runner_open(&near, h.cpu, &n);
        runner_open(&far, remote, &n);
        for (uint64_t i = 0; i < 4; i++) {
            static struct step a, b;
            step_init(&a, &n, seed * 100 + i);
            b = a;
            step_start(&near, &a, (int)(i / 2));
            step_start(&far, &b, (int)(i / 2));
            step_finish(&near, &a);
            step_finish(&far, &b);
            expect_same(&a, &b, n.rows, seed);
        }
        runner_close(&far);
        runner_close(&near);
        network_release(&n);
    }
    sh_device_close(remote);
    host_close(&h);
}

/* Many steps under way, nothing waited for in between: order must hold on both ends. */
static void end_to_end__steps_may_be_sent_ahead(void **state)
{
    enum { STEPS = 200 };
    static struct network n;
    struct step *a = sh_calloc(STEPS, sizeof *a), *b = sh_calloc(STEPS, sizeof *b);
    struct sh_device_traffic traffic;
    struct sh_device *remote;
    struct runner near, far;
    struct host h;

    (void)state;
    host_open(&h, 1);
    remote = client_of(&h);
    network_init(&n, 7, 3);
    runner_open(&near, h.cpu, &n);
    runner_open(&far, remote, &n);
    for (int i = 0; i < STEPS; i++) {
        step_init(&a[i], &n, (uint64_t)i);
        b[i] = a[i];
        step_start(&near, &a[i], 0);
        step_start(&far, &b[i], 0);
    }
    step_finish(&near, &a[STEPS - 1]);
    step_finish(&far, &b[STEPS - 1]);
    for (int i = 0; i < STEPS; i++)
        expect_same(&a[i], &b[i], n.rows, (uint64_t)i);
    sh_device_traffic(remote, &traffic);
    assert_int_equal(traffic.graphs_sent, 1);
    runner_close(&far);
    runner_close(&near);
    sh_device_close(remote);
    network_release(&n);
    host_close(&h);
    sh_free(a);
    sh_free(b);
}

struct worker {
    const struct host *h;
    uint64_t seed;
    pthread_t thread;
    struct network n;
    struct step s;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct sh_device *d = client_of(w->h);
    struct runner r;

    runner_open(&r, d, &w->n);
    for (int i = 0; i < 20; i++) {
        step_start(&r, &w->s, i % 2);
        step_finish(&r, &w->s);
    }
    runner_close(&r);
    sh_device_close(d);
    return NULL;
}

static void end_to_end__clients_do_not_disturb_each_other(void **state)
{
    enum { N = 4 };
    struct worker *w = sh_calloc(N, sizeof *w);
    struct host h;

    (void)state;
    host_open(&h, 2);
    for (uint64_t i = 0; i < N; i++) {
        w[i].h = &h;
        w[i].seed = 50 + i;
        network_init(&w[i].n, w[i].seed, 2);
        step_init(&w[i].s, &w[i].n, i);
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    for (int i = 0; i < N; i++) {
        struct runner near;
        struct step a;
        assert_int_equal(pthread_join(w[i].thread, NULL), 0);
        a = w[i].s;
        memset(a.y, 0, sizeof a.y);
        runner_open(&near, h.cpu, &w[i].n);
        for (int k = 0; k < 20; k++) { // as often: the cache changes with each step
            step_start(&near, &a, k % 2);
            step_finish(&near, &a);
        }
        expect_same(&a, &w[i].s, 2, w[i].seed);
        runner_close(&near);
        network_release(&w[i].n);
    }
    host_close(&h);
    sh_free(w);
}

static void end_to_end__large_data_arrives_whole(void **state)
{
    const size_t bytes = ((size_t)24 << 20) + 4321;
    uint8_t *in = sh_malloc(bytes), *out = sh_calloc(bytes, 1);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device *d;
    struct sh_queue *q;
    struct sh_buffer *b;
    struct host h;
    sh_ticket t;

    (void)state;
    for (size_t i = 0; i < bytes; i++)
        in[i] = (uint8_t)(i ^ i >> 9 ^ i >> 17);
    host_open(&h, 1);
    d = client_of(&h);
    must(sh_queue_create(d, &q, &err), &err);
    must(sh_buffer_alloc(d, &b, bytes, SH_BUFFER_CACHE, &err), &err);
    must(sh_queue_read(q, b, 0, out, bytes, &t, &err), &err);
    must(sh_queue_wait(q, t, SOON_NS, &err), &err);
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(out[i], 0);
    must(sh_queue_write(q, b, 0, in, bytes, NULL, &err), &err);
    must(sh_queue_fill(q, b, 1000, 0xee, 500, NULL, &err), &err);
    must(sh_queue_copy(q, b, 5000, b, 900, 700, NULL, &err), &err);
    must(sh_queue_read(q, b, 0, out, bytes, &t, &err), &err);
    must(sh_queue_wait(q, t, SOON_NS, &err), &err);
    memset(in + 1000, 0xee, 500);
    memcpy(in + 5000, in + 900, 700);
    assert_memory_equal(in, out, bytes);
    sh_queue_destroy(q);
    sh_buffer_free(b);
    sh_device_close(d);
    host_close(&h);
    sh_free(in);
    sh_free(out);
}

/* The server ends while steps are under way: a status with its address, and a clean way out. */
static void end_to_end__a_server_that_ends_is_a_status(void **state)
{
    static struct network n;
    static struct step s;
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;
    char address[SH_ADDRESS_TEXT_MAX];
    struct sh_device *d;
    struct runner r;
    struct host h;

    (void)state;
    host_open(&h, 1);
    (void)snprintf(address, sizeof address, "%s", sh_ggmlrpc_server_address(h.server));
    d = client_of(&h);
    network_init(&n, 3, 2);
    runner_open(&r, d, &n);
    step_init(&s, &n, 1);
    step_start(&r, &s, 0);
    step_finish(&r, &s);
    host_close(&h);
    while (!st) {
        sh_ticket t;
        st = sh_queue_submit(r.queue, r.exec, 0, &n.g.max, NULL, &t, &err);
        if (!st) st = sh_queue_wait(r.queue, t, SOON_NS, &err);
    }
    assert_int_equal(st, SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, address));
    assert_string_equal(err.peer, address);
    runner_close(&r);
    sh_device_close(d);
    network_release(&n);
}

static void end_to_end__too_little_memory_is_a_sentence(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device_info info;
    struct sh_device *d;
    struct sh_buffer *b;
    struct host h;

    (void)state;
    host_open(&h, 1);
    d = client_of(&h);
    must(sh_device_info(d, &info, &err), &err);
    assert_int_equal(info.memory_total, (size_t)256 << 20);
    assert_int_equal(sh_buffer_alloc(d, &b, (size_t)300 << 20, SH_BUFFER_WEIGHTS, &err),
                     SHOAL_ERR_NOMEM);
    assert_non_null(strstr(err.message, "314572800 bytes"));
    assert_non_null(strstr(err.message, "of 268435456 are free"));
    assert_int_equal(sh_buffer_alloc(d, &b, (size_t)100 << 20, SH_BUFFER_WEIGHTS, &err), SHOAL_OK);
    sh_buffer_free(b);
    sh_device_close(d);
    host_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(end_to_end__random_graphs_give_the_same_bits),
        cmocka_unit_test(end_to_end__steps_may_be_sent_ahead),
        cmocka_unit_test(end_to_end__clients_do_not_disturb_each_other),
        cmocka_unit_test(end_to_end__large_data_arrives_whole),
        cmocka_unit_test(end_to_end__a_server_that_ends_is_a_status),
        cmocka_unit_test(end_to_end__too_little_memory_is_a_sentence),
    };

    return cmocka_run_group_tests_name("end_to_end", tests, NULL, NULL);
}
