/* tests/interop/stock_ops.c - every op of a family, in all combinations, here and over RPC.
 *
 *   stock_ops HOST:PORT [FAMILY]
 *
 * Prints a line per family with the largest error (sum (a-b)^2 / sum b^2, b from llama.cpp's own
 * CPU), and one for each case that is wrong; exit code 1 if there is any.  Cases run in child
 * processes, because the client ends when the server closes the connection: the case at which a
 * child ends is wrong, and another child goes on behind it.
 */
#include "stock_ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml-rpc.h>

#define BATCH 200    /* cases per child */
#define WRONG_MAX 20 /* cases of a family, then no more are tried */

/* What a child found out, in memory that it shares with its parent. */
struct shared {
    volatile int n_done;
    struct found {
        double error;
        bool skipped; /* llama.cpp's CPU has no such case */
    } found[BATCH];
};

static void fail(const char *what, const char *value)
{
    fprintf(stderr, "stock_ops: %s: %s\n", what, value);
    exit(3);
}

/* ---- building -------------------------------------------------------------------------------*/

int choose(struct build *b, int n)
{
    if (b->at == MAX_CHOICES || n < 1) fail("choices", "too many or none");
    if (b->at == b->n_choices) b->digit[b->n_choices++] = 0;
    b->size[b->at] = n;
    return b->digit[b->at++];
}

enum ggml_type choose_type(struct build *b, const enum ggml_type *types)
{
    int n = 0;

    while (types[n] != GGML_TYPE_COUNT)
        n++;
    return types[choose(b, n)];
}

// The next combination; false after the last.
static bool advance(struct build *b)
{
    while (b->n_choices > 0) {
        const int last = b->n_choices - 1;
        if (++b->digit[last] < b->size[last]) return true;
        b->n_choices--;
    }
    return false;
}

static struct ggml_tensor *indexed_leaf(struct build *b, enum ggml_type type, enum values values,
                                        int64_t lo, int64_t hi, const int64_t ne[4])
{
    const int i = b->n_leaves++;

    if (i == MAX_LEAVES) fail("leaves", "too many");
    b->leaf[i].t = ggml_new_tensor_4d(b->ctx, type, ne[0], ne[1], ne[2], ne[3]);
    b->leaf[i].values = values;
    b->leaf[i].lo = lo;
    b->leaf[i].hi = hi;
    return b->leaf[i].t;
}

struct ggml_tensor *leaf(struct build *b, enum ggml_type type, enum values values, int64_t n0,
                         int64_t n1, int64_t n2, int64_t n3)
{
    return indexed_leaf(b, type, values, -100, 100, (int64_t[]){n0, n1, n2, n3});
}

struct ggml_tensor *indices(struct build *b, enum ggml_type type, enum values values, int64_t lo,
                            int64_t hi, int64_t n0, int64_t n1, int64_t n2)
{
    return indexed_leaf(b, type, values, lo, hi, (int64_t[]){n0, n1, n2, 1});
}

struct ggml_tensor *source(struct build *b, enum ggml_type type, enum values values,
                           unsigned layouts, int64_t n0, int64_t n1, int64_t n2, int64_t n3)
{
    const int64_t block = ggml_blck_size(type);
    unsigned way = 0, bits[5];
    int n = 0;

    for (unsigned bit = DENSE; bit <= WIDER; bit *= 2) {
        if (layouts & bit && !(bit == COLUMNS && block > 1)) bits[n++] = bit;
    }
    way = bits[choose(b, n)];
    if (way == GAPS) {
        struct ggml_tensor *t = leaf(b, type, values, n0 + 2 * block, n1 + 1, n2, n3);
        return ggml_view_4d(b->ctx, t, n0, n1, n2, n3, t->nb[1], t->nb[2], t->nb[3],
                            ggml_type_size(type) + t->nb[1]);
    }
    if (way == WIDER) {
        struct ggml_tensor *t = leaf(b, type, values, n0 + 2 * block, n1, n2, n3);
        return ggml_view_4d(b->ctx, t, n0, n1, n2, n3, t->nb[1], t->nb[2], t->nb[3],
                            ggml_type_size(type));
    }
    if (way == TURNED)
        return ggml_permute(b->ctx, leaf(b, type, values, n0, n2, n1, n3), 0, 2, 1, 3);
    if (way == COLUMNS) return ggml_transpose(b->ctx, leaf(b, type, values, n1, n0, n2, n3));
    return leaf(b, type, values, n0, n1, n2, n3);
}

static struct ggml_tensor *build_case(struct build *b, const struct family *f)
{
    const struct ggml_init_params params = {
        .mem_size = 128 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true};

    b->ctx = ggml_init(params);
    if (!b->ctx) fail("ggml_init", "no memory");
    b->at = b->n_leaves = 0;
    b->bound = 1e-7;
    b->unordered = false;
    return f->build(b);
}

static void print_case(const struct ggml_tensor *t)
{
    printf("%s %s[%d,%d,%d,%d] of", ggml_op_desc(t), ggml_type_name(t->type), (int)t->ne[0],
           (int)t->ne[1], (int)t->ne[2], (int)t->ne[3]);
    for (int i = 0; i < GGML_MAX_SRC; i++) {
        const struct ggml_tensor *s = t->src[i];
        if (!s || s == t) continue;
        printf(" %s[%d,%d,%d,%d]%s", ggml_type_name(s->type), (int)s->ne[0], (int)s->ne[1],
               (int)s->ne[2], (int)s->ne[3],
               ggml_is_contiguous(s)   ? ""
               : ggml_is_transposed(s) ? "t"
                                       : "v");
    }
    printf(" words");
    for (int i = 0; i < 16; i++)
        printf(" %x", (unsigned)t->op_params[i]);
}

/* ---- values ---------------------------------------------------------------------------------*/

static float random_float(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*seed >> 33) / (float)(1 << 30) - 1.0f;
}

static void fill_floats(const struct ggml_tensor *t, enum values v, uint64_t seed, float *x)
{
    const int64_t n = ggml_nelements(t);

    for (int64_t i = 0; i < n; i++) {
        const float r = random_float(&seed);
        switch (v) {
        case POSITIVE:
            x[i] = 1.025f + 0.975f * r;
            break;
        case WIDE:
            x[i] = 30 * r;
            break;
        case MASK:
            x[i] = i % t->ne[0] == 0 ? 0 : r < -0.2f ? -INFINITY : r < 0.5f ? 0 : -r;
            break;
        default:
            x[i] = r;
            break;
        }
    }
}

static int64_t index_at(const struct build *b, int l, int64_t i, uint64_t *seed)
{
    const struct ggml_tensor *t = b->leaf[l].t;
    const int64_t span = b->leaf[l].hi - b->leaf[l].lo;

    if (b->leaf[l].values == DISTINCT) { // steps of 1, from anywhere
        const int64_t column = i / t->ne[0];
        return b->leaf[l].lo + (i % t->ne[0] * (span % 3 ? 3 : 1) + column * 5) % span;
    }
    return b->leaf[l].lo + (int64_t)((random_float(seed) + 1) / 2 * (float)span) % span;
}

static void fill(const struct build *b, int l)
{
    const struct ggml_tensor *t = b->leaf[l].t;
    const int64_t n = ggml_nelements(t);
    const size_t bytes = ggml_nbytes(t);
    uint64_t seed = (uint64_t)l * 977 + 12345;
    uint8_t *data = calloc(1, bytes + 64);
    float *x = calloc((size_t)n + 1, sizeof *x);

    if (!data || !x) fail("values", "no memory");
    if (t->type == GGML_TYPE_I32 || t->type == GGML_TYPE_I64 || t->type == GGML_TYPE_I16) {
        for (int64_t i = 0; i < n; i++) {
            const int64_t v = index_at(b, l, i, &seed);
            if (t->type == GGML_TYPE_I32) ((int32_t *)(void *)data)[i] = (int32_t)v;
            if (t->type == GGML_TYPE_I16) ((int16_t *)(void *)data)[i] = (int16_t)v;
            if (t->type == GGML_TYPE_I64) ((int64_t *)(void *)data)[i] = v;
        }
    } else {
        fill_floats(t, b->leaf[l].values, seed, x);
        if (t->type == GGML_TYPE_F32) {
            memcpy(data, x, bytes);
        } else {
            float *importance = calloc((size_t)t->ne[0], sizeof *importance);
            for (int64_t i = 0; importance && i < t->ne[0]; i++)
                importance[i] = 1;
            ggml_quantize_chunk(t->type, x, data, 0, n / t->ne[0], t->ne[0], importance);
            free(importance);
        }
    }
    ggml_backend_tensor_set(b->leaf[l].t, data, 0, bytes);
    free(data);
    free(x);
}

/* ---- running --------------------------------------------------------------------------------*/

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* The bytes of a result (the whole tensor that it lies in) as floats; *n of them. */
static float *read_result(const struct build *b, const struct ggml_tensor *t, int64_t *n)
{
    const struct ggml_tensor *root = t->view_src ? t->view_src : t;
    const size_t bytes = ggml_nbytes(root);
    uint8_t *data = malloc(bytes + 64);
    float *x;

    *n = ggml_nelements(root);
    x = calloc((size_t)*n + 1, sizeof *x);
    if (!data || !x) fail("result", "no memory");
    ggml_backend_tensor_get(root, data, 0, bytes);
    switch (root->type) {
    case GGML_TYPE_F32:
        memcpy(x, data, bytes);
        break;
    case GGML_TYPE_I32:
        for (int64_t i = 0; i < *n; i++)
            x[i] = (float)((int32_t *)(void *)data)[i];
        break;
    case GGML_TYPE_I16:
        for (int64_t i = 0; i < *n; i++)
            x[i] = (float)((int16_t *)(void *)data)[i];
        break;
    default:
        ggml_get_type_traits(root->type)->to_float(data, x, *n);
        break;
    }
    if (b->unordered) {
        for (int64_t i = 0; i < *n; i += root->ne[0])
            qsort(x + i, (size_t)root->ne[0], sizeof *x, by_value);
    }
    free(data);
    return x;
}

/* NULL: the backend has no such op. */
static float *run_case(struct build *b, const struct family *f, ggml_backend_t backend, int64_t *n)
{
    struct ggml_tensor *t = build_case(b, f);
    struct ggml_cgraph *g = ggml_new_graph(b->ctx);
    ggml_backend_buffer_t buffer;
    float *result = NULL;

    if (ggml_backend_supports_op(backend, t)) {
        ggml_build_forward_expand(g, t);
        buffer = ggml_backend_alloc_ctx_tensors(b->ctx, backend);
        if (!buffer) fail("buffer", "none");
        ggml_backend_buffer_clear(buffer, 0);
        for (int i = 0; i < b->n_leaves; i++)
            fill(b, i);
        if (ggml_backend_graph_compute(backend, g) != GGML_STATUS_SUCCESS) fail("graph", "failed");
        result = read_result(b, t, n);
        ggml_backend_buffer_free(buffer);
    }
    ggml_free(b->ctx);
    return result;
}

static double error_of(const float *a, const float *b, int64_t n)
{
    double num = 0, den = 0;

    for (int64_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        if (a[i] == b[i] || (isnan(a[i]) && isnan(b[i]))) {
            if (isfinite(b[i])) den += (double)b[i] * (double)b[i];
            continue;
        }
        num += d * d;
        den += (double)b[i] * (double)b[i];
    }
    return num == 0 ? 0 : num / den;
}

static void compare(struct build *b, const struct family *f, ggml_backend_t cpu, ggml_backend_t rpc,
                    struct found *found)
{
    int64_t n_want, n_have;
    float *want = run_case(b, f, cpu, &n_want), *have = NULL;

    found->skipped = !want;
    if (want) have = run_case(b, f, rpc, &n_have);
    found->error = have && n_have == n_want ? error_of(have, want, n_want) : INFINITY;
    free(want);
    free(have);
}

/* ---- all cases ------------------------------------------------------------------------------*/

// The child: cases from where b is, until there are no more or enough.
static void run_batch(struct build *b, const struct family *f, const char *endpoint,
                      struct shared *s)
{
    ggml_backend_t cpu = ggml_backend_cpu_init(), rpc = ggml_backend_rpc_init(endpoint, 0);

    if (!cpu || !rpc) fail("no server at", endpoint);
    ggml_backend_cpu_set_n_threads(cpu, 1);
    do {
        compare(b, f, cpu, rpc, &s->found[s->n_done]);
        s->n_done++;
    } while (s->n_done < BATCH && advance(b));
    ggml_backend_free(rpc);
    ggml_backend_free(cpu);
}

struct tally {
    int n, n_skipped, n_wrong;
    double worst;
};

static void judge(struct tally *t, const struct family *f, const struct build *b,
                  const struct ggml_tensor *node, const struct found *found, bool finished)
{
    t->n++;
    if (finished && found->skipped) {
        t->n_skipped++;
    } else if (!finished || !(found->error <= b->bound)) {
        t->n_wrong++;
        printf("WRONG %s %d: ", f->name, t->n - 1);
        if (finished)
            printf("NMSE %.3g, at most %.0e: ", found->error, b->bound);
        else
            printf("the connection ended: ");
        print_case(node);
        printf("\n");
    } else if (found->error > t->worst) {
        t->worst = found->error;
    }
}

static int run_family(const struct family *f, const char *endpoint, struct shared *s)
{
    struct build b = {0};
    struct tally t = {0};
    bool more = true;

    while (more && t.n_wrong < WRONG_MAX) {
        int status;
        pid_t pid;
        fflush(stdout);
        s->n_done = 0;
        pid = fork();
        if (pid == 0) {
            run_batch(&b, f, endpoint, s);
            _exit(0);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid) fail("fork", "failed");
        const int n_seen = s->n_done + (status != 0 && s->n_done < BATCH);
        for (int i = 0; i < n_seen && more; i++) {
            const struct ggml_tensor *node = build_case(&b, f);
            judge(&t, f, &b, node, &s->found[i], i < s->n_done);
            ggml_free(b.ctx);
            more = advance(&b);
        }
    }
    printf("%-15s %4d cases, %d not in llama.cpp's CPU, %d wrong, NMSE at most %.2e\n", f->name,
           t.n, t.n_skipped, t.n_wrong, t.worst);
    if (t.n_skipped == t.n) fail(f->name, "no case is in llama.cpp's CPU");
    return t.n_wrong;
}

int main(int argc, char **argv)
{
    struct shared *s =
        mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int n_wrong = 0, n_run = 0;

    if (argc < 2 || s == MAP_FAILED) fail("usage", "HOST:PORT [FAMILY]");
    for (int i = 0; i < n_families; i++) {
        if (argc > 2 && strcmp(argv[2], families[i].name) != 0) continue;
        n_wrong += run_family(&families[i], argv[1], s);
        n_run++;
    }
    if (!n_run) fail("no such family", argv[2]);
    return n_wrong != 0;
}
