/* tests/interop/stock_client.c - llama.cpp's library as a client, for the tests of interoperation.
 *
 *   stock_client text|logits|memory|shift -m MODEL --ids 1,2,3 [options]
 *
 *   text     reads the ids and continues them greedily by -n tokens: one line "id margin" each,
 *            where margin is the distance of the best logit from the second
 *   logits   the logits after each id, to --out (f32, one row per id)
 *   memory   copies of a sequence, removals and a batch of three sequences; logits to --out
 *   shift    drops ids from the middle of a sequence and moves the rest; logits to --out
 *
 *   --rpc A,B   on these servers (default: here); --split N,M: layers in this proportion
 *   --tensor    each layer split over the servers instead of whole layers
 *   --fa 0|1    flash attention (default 1); --k, --v TYPE: type of the cache (default f16)
 *   -t N        threads here (default 2); -c N: context (default 512); --chunk N: ids per step
 *
 * It is built by the tests against the headers of the fetched llama.cpp, not by make.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ggml-backend.h>
#include <ggml-rpc.h>
#include <llama.h>

#define MAX_IDS 4096
#define MAX_SERVERS 8
#define N_SEQUENCES 3

struct options {
    const char *mode, *model, *rpc, *split, *out, *ids;
    int flash, n_threads, n_ctx, chunk, n;
    bool tensor;
    enum ggml_type k, v;
};

struct client {
    struct llama_model *model;
    struct llama_context *ctx;
    struct llama_batch batch;
    FILE *out;
    llama_token ids[MAX_IDS];
    int n_ids, n_vocab;
};

static void fail(const char *what, const char *value)
{
    fprintf(stderr, "stock_client: %s: %s\n", what, value);
    exit(3);
}

static int number(const char *text)
{
    char *end;
    const long v = strtol(text, &end, 10);

    if (*end || v < 0 || v > 1000000) fail("not a number", text);
    return (int)v;
}

static enum ggml_type type_named(const char *name)
{
    for (int t = 0; t < GGML_TYPE_COUNT; t++) {
        const char *s = ggml_type_name((enum ggml_type)t);
        if (s && strcmp(s, name) == 0) return (enum ggml_type)t;
    }
    fail("no such type", name);
    return GGML_TYPE_COUNT;
}

static void parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.flash = 1,
                          .n_threads = 2,
                          .n_ctx = 512,
                          .chunk = 512,
                          .k = GGML_TYPE_F16,
                          .v = GGML_TYPE_F16};
    if (argc < 2) fail("no mode", "");
    o->mode = argv[1];
    for (int i = 2; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--tensor") == 0) {
            o->tensor = true;
            continue;
        }
        if (++i == argc) fail("no value", name);
        if (strcmp(name, "-m") == 0)
            o->model = argv[i];
        else if (strcmp(name, "--rpc") == 0)
            o->rpc = argv[i];
        else if (strcmp(name, "--split") == 0)
            o->split = argv[i];
        else if (strcmp(name, "--ids") == 0)
            o->ids = argv[i];
        else if (strcmp(name, "--out") == 0)
            o->out = argv[i];
        else if (strcmp(name, "--fa") == 0)
            o->flash = number(argv[i]);
        else if (strcmp(name, "--k") == 0)
            o->k = type_named(argv[i]);
        else if (strcmp(name, "--v") == 0)
            o->v = type_named(argv[i]);
        else if (strcmp(name, "-t") == 0)
            o->n_threads = number(argv[i]);
        else if (strcmp(name, "-c") == 0)
            o->n_ctx = number(argv[i]);
        else if (strcmp(name, "--chunk") == 0)
            o->chunk = number(argv[i]);
        else if (strcmp(name, "-n") == 0)
            o->n = number(argv[i]);
        else
            fail("no such option", name);
    }
    if (!o->model || !o->ids) fail("needed", "-m and --ids");
}

// The next part of a list with commas; false at its end.
static bool next(const char **at, char *part, size_t size)
{
    const size_t n = strcspn(*at, ",");

    if (!n || n >= size) return false;
    memcpy(part, *at, n);
    part[n] = 0;
    *at += n + ((*at)[n] == ',');
    return true;
}

static void open_model(struct client *c, const struct options *o)
{
    struct llama_model_params p = llama_model_default_params();
    ggml_backend_dev_t devices[MAX_SERVERS + 1] = {NULL};
    float split[128] = {0};
    const char *at = o->rpc ? o->rpc : "";
    char part[256];
    size_t n = 0;

    while (n < MAX_SERVERS && next(&at, part, sizeof part)) {
        ggml_backend_reg_t reg = ggml_backend_rpc_add_server(part);
        if (!reg || ggml_backend_reg_dev_count(reg) != 1) fail("no server at", part);
        devices[n++] = ggml_backend_reg_dev_get(reg, 0);
    }
    at = o->split ? o->split : "";
    for (size_t i = 0; i < 128 && next(&at, part, sizeof part); i++)
        split[i] = (float)number(part);
    p.devices = devices;
    p.n_gpu_layers = n ? 999 : 0;
    if (o->split) p.tensor_split = split;
    p.split_mode = o->tensor ? LLAMA_SPLIT_MODE_TENSOR : LLAMA_SPLIT_MODE_LAYER;
    c->model = llama_model_load_from_file(o->model, p);
    if (!c->model) fail("cannot load", o->model);
    c->n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(c->model));
}

static void open_context(struct client *c, const struct options *o)
{
    struct llama_context_params p = llama_context_default_params();

    p.n_ctx = (uint32_t)o->n_ctx;
    p.n_batch = p.n_ubatch = 512;
    p.n_seq_max = N_SEQUENCES;
    p.kv_unified = true;
    p.n_threads = p.n_threads_batch = o->n_threads;
    p.flash_attn_type = o->flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p.type_k = o->k;
    p.type_v = o->v;
    c->ctx = llama_init_from_model(c->model, p);
    if (!c->ctx) fail("no context for", o->model);
    c->batch = llama_batch_init(512, 0, N_SEQUENCES);
}

static void add(struct client *c, llama_token id, int position, int sequence, bool wanted)
{
    struct llama_batch *b = &c->batch;
    const int i = b->n_tokens++;

    b->token[i] = id;
    b->pos[i] = position;
    b->n_seq_id[i] = 1;
    b->seq_id[i][0] = sequence;
    b->logits[i] = wanted;
}

static void decode(struct client *c)
{
    if (llama_decode(c->ctx, c->batch)) fail("llama_decode", "failed");
}

// Runs the batch and writes the logits of its rows.
static void decode_and_write(struct client *c)
{
    decode(c);
    for (int i = 0; i < c->batch.n_tokens; i++) {
        const float *row;
        if (!c->batch.logits[i]) continue;
        row = llama_get_logits_ith(c->ctx, i);
        if (fwrite(row, sizeof *row, (size_t)c->n_vocab, c->out) != (size_t)c->n_vocab)
            fail("--out", "cannot be written");
    }
    c->batch.n_tokens = 0;
}

// Ids first to last into sequence 0, `chunk` per step.
static void feed(struct client *c, int first, int last, int chunk, bool wanted)
{
    for (int i = first; i < last;) {
        const int end = i + chunk < last ? i + chunk : last;
        for (; i < end; i++)
            add(c, c->ids[i], i, 0, wanted || i == last - 1);
        if (c->out)
            decode_and_write(c);
        else
            decode(c);
        if (i < last) c->batch.n_tokens = 0;
    }
}

static llama_token best(struct client *c, float *margin)
{
    const float *logits = llama_get_logits_ith(c->ctx, -1);
    int top = 0;

    *margin = 1e30f;
    for (int i = 1; i < c->n_vocab; i++) {
        if (logits[i] > logits[top]) top = i;
    }
    for (int i = 0; i < c->n_vocab; i++) {
        if (i != top && logits[top] - logits[i] < *margin) *margin = logits[top] - logits[i];
    }
    return top;
}

static void run_text(struct client *c, const struct options *o)
{
    feed(c, 0, c->n_ids, o->chunk, false);
    for (int i = 0; i < o->n; i++) {
        float margin;
        const llama_token id = best(c, &margin);
        printf("%d %.4f\n", id, (double)margin);
        fflush(stdout);
        c->batch.n_tokens = 0;
        add(c, id, c->n_ids + i, 0, true);
        if (i + 1 < o->n) decode(c);
    }
}

/* Two copies of the sequence go on differently in one batch; the end of one is removed and written
 * anew; another is removed whole and its place used again. */
static void run_memory(struct client *c, const struct options *o)
{
    llama_memory_t memory = llama_get_memory(c->ctx);
    const int n = c->n_ids;

    feed(c, 0, n, o->chunk, false);
    llama_memory_seq_cp(memory, 0, 1, -1, -1);
    llama_memory_seq_cp(memory, 0, 2, 0, n / 2);
    for (int step = 0; step < 3; step++) {
        for (int s = 0; s < 2; s++)
            add(c, c->ids[(step + s) % n], n + step, s, true);
        add(c, c->ids[step], n / 2 + step, 2, true);
        decode_and_write(c);
    }
    if (!llama_memory_seq_rm(memory, 1, n - 2, -1)) fail("seq_rm", "of an end");
    llama_memory_seq_rm(memory, 0, -1, -1);
    for (int i = 0; i < 5; i++)
        add(c, c->ids[n - 1 - i], n - 2 + i, 1, true);
    for (int i = 0; i < 5; i++)
        add(c, c->ids[i], i, 0, true);
    decode_and_write(c);
}

// What an endless chat does: after the first ids a piece is dropped, the rest moves towards it.
static void run_shift(struct client *c, const struct options *o)
{
    llama_memory_t memory = llama_get_memory(c->ctx);
    const int n = c->n_ids, keep = n / 4, drop = n / 4;

    feed(c, 0, n, o->chunk, false);
    if (!llama_memory_can_shift(memory)) fail("shift", "not possible");
    if (!llama_memory_seq_rm(memory, 0, keep, keep + drop)) fail("seq_rm", "of the middle");
    llama_memory_seq_add(memory, 0, keep + drop, -1, -drop);
    for (int i = 0; i < 4; i++) {
        add(c, c->ids[i], n - drop + i, 0, true);
        decode_and_write(c);
    }
}

int main(int argc, char **argv)
{
    static struct client c;
    struct options o;
    char part[32];

    parse(&o, argc, argv);
    for (const char *at = o.ids; c.n_ids < MAX_IDS && next(&at, part, sizeof part);)
        c.ids[c.n_ids++] = number(part);
    if (strcmp(o.mode, "text") != 0) {
        c.out = fopen(o.out ? o.out : "", "wb");
        if (!c.out) fail("cannot write", o.out ? o.out : "no --out");
    }
    llama_backend_init();
    open_model(&c, &o);
    open_context(&c, &o);
    if (!c.out)
        run_text(&c, &o);
    else if (strcmp(o.mode, "logits") == 0)
        feed(&c, 0, c.n_ids, o.chunk, true);
    else if (strcmp(o.mode, "memory") == 0)
        run_memory(&c, &o);
    else if (strcmp(o.mode, "shift") == 0)
        run_shift(&c, &o);
    else
        fail("no such mode", o.mode);
    if (c.out && fclose(c.out)) fail("cannot write", o.out);
    llama_batch_free(c.batch);
    llama_free(c.ctx);
    llama_model_free(c.model);
    llama_backend_free();
    return 0;
}
