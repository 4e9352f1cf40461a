/* model/model_test.c - opening files with something missing or misshapen, graphs of parts and
 * shards, and the bytes they need.
 */
#include "model/model.h"

#include "model/tiny_test.h"

enum { LAYERS = 3, EXPERTS = 8, USED = 2, FF_EXPERT = 128, CONV = 4, STATE = 16, GROUPS = 3 };
enum { INNER = 192, SSM_HEADS = 6, XBC = INNER + 2 * GROUPS * STATE };

static const struct sh_build_limits LIMITS = {.rows_max = 16,
                                              .wanted_max = 4,
                                              .n_seqs = 2,
                                              .n_positions = 200,
                                              .pages = {9, 5},
                                              .cache_type = SH_DTYPE_F16,
                                              .n_ctx = 200};

/* A llama with experts, stacked or (old files) one tensor per expert. */
static void make_experts(struct tiny *t, int n_layers, bool stacked)
{
    static const char *const ROLE[] = {"ffn_gate", "ffn_up", "ffn_down"};

    tiny_llama(t, n_layers);
    tiny_int(t, "llama.expert_count", EXPERTS);
    tiny_int(t, "llama.expert_used_count", USED);
    tiny_int(t, "llama.feed_forward_length", FF_EXPERT);
    for (int il = 0; il < n_layers; il++) {
        tiny_in_layer(t, il, "ffn_gate_inp.weight", TINY_WIDTH, EXPERTS, 0);
        for (int r = 0; r < 3; r++) {
            const int64_t a = r == 2 ? FF_EXPERT : TINY_WIDTH, b = r == 2 ? TINY_WIDTH : FF_EXPERT;
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", il, ROLE[r]);
            tiny_no_tensor(t, name);
            snprintf(name, sizeof name, "%s_exps.weight", ROLE[r]);
            if (stacked) tiny_in_layer(t, il, name, a, b, EXPERTS);
            for (int e = 0; e < EXPERTS && !stacked; e++) {
                snprintf(name, sizeof name, "%s.%d.weight", ROLE[r], e);
                tiny_in_layer(t, il, name, a, b, 0);
            }
        }
    }
}

/* A mamba2 model. */
static void make_mamba(struct tiny *t, int n_layers)
{
    *t = (struct tiny){.n_keys = 0};
    tiny_keys(t, "mamba2", n_layers);
    tiny_int(t, "mamba2.ssm.conv_kernel", CONV);
    tiny_int(t, "mamba2.ssm.inner_size", INNER);
    tiny_int(t, "mamba2.ssm.state_size", STATE);
    tiny_int(t, "mamba2.ssm.time_step_rank", SSM_HEADS);
    tiny_int(t, "mamba2.ssm.group_count", GROUPS);
    tiny_ends(t);
    for (int il = 0; il < n_layers; il++) {
        tiny_in_layer(t, il, "attn_norm.weight", TINY_WIDTH, 0, 0);
        tiny_in_layer(t, il, "ssm_in.weight", TINY_WIDTH, INNER + XBC + SSM_HEADS, 0);
        tiny_in_layer(t, il, "ssm_conv1d.weight", CONV, XBC, 0);
        tiny_in_layer(t, il, "ssm_conv1d.bias", XBC, 0, 0);
        tiny_in_layer(t, il, "ssm_dt.bias", SSM_HEADS, 0, 0);
        tiny_in_layer(t, il, "ssm_a", 1, SSM_HEADS, 0);
        tiny_in_layer(t, il, "ssm_d", 1, SSM_HEADS, 0);
        tiny_in_layer(t, il, "ssm_norm.weight", INNER / GROUPS, GROUPS, 0);
        tiny_in_layer(t, il, "ssm_out.weight", INNER, TINY_WIDTH, 0);
    }
}

static struct sh_model *opened(struct tiny *t)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_model *m;

    tiny_open(t);
    if (sh_model_open(&m, t->file, &err)) fail_msg("%s", err.message);
    return m;
}

static void closed(struct tiny *t, struct sh_model *m)
{
    sh_model_close(m);
    tiny_close(t);
}

static void expect_refused(struct tiny *t, enum shoal_status status, const char *message)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_model *m;

    tiny_open(t);
    assert_int_equal(sh_model_open(&m, t->file, &err), status);
    assert_null(m);
    assert_string_equal(err.message, message);
    tiny_close(t);
}

static struct sh_part part_of(int64_t begin, int64_t end)
{
    return (struct sh_part){.layer_begin = begin,
                            .layer_end = end,
                            .embed = begin == 0,
                            .head = end == LAYERS,
                            .n_shards = 1};
}

/* ---- opening -------------------------------------------------------------------------------- */

static void model__info(void **state)
{
    struct sh_model_info info;
    struct sh_model *m;
    struct tiny t;

    (void)state;
    make_experts(&t, LAYERS, true);
    m = opened(&t);
    sh_model_info(m, &info);
    assert_string_equal(info.arch, "llama");
    assert_int_equal(info.n_layers, LAYERS);
    assert_int_equal(info.width, TINY_WIDTH);
    assert_int_equal(info.n_vocab, TINY_VOCAB);
    assert_int_equal(info.n_ctx_train, 1024);
    assert_int_equal(info.n_expert, EXPERTS);
    assert_int_equal(info.n_expert_used, USED);
    assert_true(info.can_shift);
    assert_int_equal(info.n_groups, 1);
    assert_int_equal(info.groups[0].kind, SH_MODEL_GROUP_FULL);
    assert_ptr_equal(sh_model_file(m), t.file);
    closed(&t, m);
    make_mamba(&t, LAYERS);
    m = opened(&t);
    sh_model_info(m, &info);
    assert_false(info.can_shift);
    assert_int_equal(info.groups[0].kind, SH_MODEL_GROUP_STATE);
    closed(&t, m);
}

static void model__unknown_architectures(void **state)
{
    const char *const *names = sh_model_architectures();
    char known[160] = "", message[256];
    struct tiny t;

    (void)state;
    for (int i = 0; names[i]; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                 names[i]);
    assert_non_null(strstr(known, "llama"));
    tiny_llama(&t, 1);
    tiny_text(&t, "general.architecture", "gpt99");
    snprintf(message, sizeof message,
             "model: architecture \"gpt99\" is not supported (supported: %s)", known);
    expect_refused(&t, SHOAL_ERR_UNSUPPORTED, message);
    tiny_no_key(&t, "general.architecture");
    snprintf(message, sizeof message, "model: architecture \"\" is not supported (supported: %s)",
             known);
    expect_refused(&t, SHOAL_ERR_UNSUPPORTED, message);
}

static void model__what_an_architecture_needs(void **state)
{
    struct tiny t;

    (void)state;
    tiny_llama(&t, 1);
    tiny_no_key(&t, "llama.attention.layer_norm_rms_epsilon");
    expect_refused(&t, SHOAL_ERR_FORMAT,
                   "model: llama.attention.layer_norm_rms_epsilon is missing or 0");
    tiny_llama(&t, 1);
    tiny_int(&t, "llama.rope.dimension_count", 16);
    expect_refused(&t, SHOAL_ERR_UNSUPPORTED,
                   "model: llama rotates 16 of 32 channels per head, expected all");
    tiny_llama(&t, 1);
    tiny_ints(&t, "llama.attention.head_count_kv", 1, (const int64_t[]){0});
    expect_refused(&t, SHOAL_ERR_FORMAT,
                   "model: block 0 has no attention (heads 6, key-value heads 0, "
                   "attn_output.weight present)");
    make_mamba(&t, 1);
    tiny_int(&t, "mamba2.ssm.group_count", 4);
    expect_refused(
        &t, SHOAL_ERR_FORMAT,
        "model: block 0 is no state-space layer (inner 192, state 16, heads 6, groups 4, "
        "ssm_out.weight present)");
}

// Each tensor of a file left out in turn, then given another shape: its name is in the message.
static void check_tensors(void (*make)(struct tiny *t))
{
    struct tiny t;

    make(&t);
    for (int i = 0; i < t.n_tensors; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_model *m;
        char name[64];
        make(&t);
        snprintf(name, sizeof name, "%s", t.tensor[i].name);
        tiny_no_tensor(&t, name);
        tiny_open(&t);
        const enum shoal_status st = sh_model_open(&m, t.file, &err);
        // The head may be the embedding; a bias and the norm of a state may be left out.
        const bool may = strcmp(name, "output.weight") == 0 || strstr(name, "conv1d.bias") ||
                         strstr(name, "ssm_norm");
        char *const dot = strstr(name, ".weight");
        if (dot) *dot = '\0';
        const char *const role = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') + 1 : name;
        if (may && st) fail_msg("without %s: %s", name, err.message);
        if (!may && st != SHOAL_ERR_FORMAT) fail_msg("without %s: status %d", name, (int)st);
        if (!may && (!strstr(err.message, role) || !strstr(err.message, "missing")))
            fail_msg("without %s: \"%s\"", name, err.message);
        sh_model_close(m);
        tiny_close(&t);
    }
    for (int i = 0; i < t.n_tensors; i++) {
        for (int dim = 0; dim < 3; dim++) {
            struct shoal_error err = SHOAL_ERROR_INIT;
            struct sh_model *m;
            make(&t);
            if (strcmp(t.tensor[i].name, "token_embd.weight") == 0 && dim == 1) continue;
            t.tensor[i].ne[dim]++;
            if (t.tensor[i].n_dims <= dim) t.tensor[i].n_dims = dim + 1;
            tiny_open(&t);
            assert_int_equal(sh_model_open(&m, t.file, &err), SHOAL_ERR_FORMAT);
            if (!strstr(err.message, t.tensor[i].name))
                fail_msg("misshapen %s: \"%s\"", t.tensor[i].name, err.message);
            tiny_close(&t);
        }
    }
}

static void make_one_llama(struct tiny *t)
{
    tiny_llama(t, 1);
}

static void make_one_experts(struct tiny *t)
{
    make_experts(t, 1, true);
}

static void make_one_mamba(struct tiny *t)
{
    make_mamba(t, 1);
}

static void model__missing_and_misshapen_tensors(void **state)
{
    struct tiny t;

    (void)state;
    check_tensors(make_one_llama);
    check_tensors(make_one_experts);
    check_tensors(make_one_mamba);
    tiny_llama(&t, 2);
    tiny_no_tensor(&t, "blk.1.ffn_up.weight");
    expect_refused(&t, SHOAL_ERR_FORMAT, "model: tensor blk.1.ffn_up.weight is missing");
    tiny_llama(&t, 2);
    tiny_in_layer(&t, 1, "ffn_up.weight", TINY_WIDTH, TINY_FF + 1, 0);
    expect_refused(&t, SHOAL_ERR_FORMAT,
                   "model: tensor blk.1.ffn_up.weight is 64 x 193 x 1, expected 64 x 192 x 1");
}

// One tensor per expert: all of a kind, or a sentence.
static void model__one_tensor_per_expert(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_part part = part_of(0, LAYERS);
    struct sh_model *m;
    struct sh_graph g;
    struct tiny t;
    int stacks = 0;

    (void)state;
    make_experts(&t, LAYERS, false);
    m = opened(&t);
    if (sh_model_build(m, &part, &LIMITS, &g, &err)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < g.n_tensors; i++) {
        if (g.tensors[i].leaf < 0 || g.leaves[g.tensors[i].leaf].stack == 0) continue;
        assert_int_equal(g.leaves[g.tensors[i].leaf].stack, EXPERTS);
        assert_int_equal(g.tensors[i].ne[2], EXPERTS);
        assert_non_null(strchr(g.tensors[i].name, '#'));
        stacks++;
    }
    assert_int_equal(stacks, 3 * LAYERS);
    sh_graph_release(&g);
    closed(&t, m);
#define UNLIKE "model: tensor blk.0.ffn_up.7.weight is missing or unlike its neighbours"
    make_experts(&t, 1, false);
    tiny_in_layer(&t, 0, "ffn_up.7.weight", TINY_WIDTH, FF_EXPERT - 1, 0);
    expect_refused(&t, SHOAL_ERR_FORMAT, UNLIKE);
    make_experts(&t, 1, false);
    tiny_in_layer(&t, 0, "ffn_up.7.weight", TINY_WIDTH, FF_EXPERT, 2);
    expect_refused(&t, SHOAL_ERR_FORMAT, UNLIKE);
    make_experts(&t, 1, false);
    t.tensor[tiny_find(&t, "blk.0.ffn_up.7.weight")].dtype = SH_DTYPE_F16;
    expect_refused(&t, SHOAL_ERR_FORMAT, UNLIKE);
    make_experts(&t, 1, false);
    tiny_no_tensor(&t, "blk.0.ffn_up.7.weight");
    expect_refused(&t, SHOAL_ERR_FORMAT, UNLIKE);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static const struct sh_tensor *output_of(const struct sh_graph *g)
{
    for (int32_t i = 0; i < g->n_tensors; i++)
        if (g->tensors[i].flags & SH_TENSOR_OUTPUT) return &g->tensors[i];
    fail_msg("no output");
    return NULL;
}

static int count_leaves(const struct sh_graph *g, enum sh_leaf_kind kind)
{
    int n = 0;

    for (int32_t i = 0; i < g->n_tensors; i++)
        n += g->tensors[i].leaf >= 0 && g->leaves[g->tensors[i].leaf].kind == kind;
    return n;
}

static bool has_input(const struct sh_graph *g, enum sh_input which)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_leaf *l = g->tensors[i].leaf < 0 ? NULL : &g->leaves[g->tensors[i].leaf];
        if (l && l->kind == SH_LEAF_INPUT && l->input == which) return true;
    }
    return false;
}

static void model__graphs_of_parts(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_model *m;
    struct tiny t;

    (void)state;
    tiny_llama(&t, LAYERS);
    m = opened(&t);
    for (int64_t a = 0; a <= LAYERS; a++) {
        for (int64_t b = a; b <= LAYERS; b++) {
            const struct sh_part part = part_of(a, b);
            struct sh_graph g;
            if (sh_model_build(m, &part, &LIMITS, &g, &err)) fail_msg("%s", err.message);
            const struct sh_tensor *out = output_of(&g);
            assert_int_equal(out->ne[0], part.head ? TINY_VOCAB : TINY_WIDTH);
            assert_int_equal(out->extent, part.head ? SH_EXTENT_O : SH_EXTENT_T);
            assert_int_equal(count_leaves(&g, SH_LEAF_CACHE_K), b - a);
            assert_int_equal(count_leaves(&g, SH_LEAF_CACHE_V), b - a);
            assert_int_equal(count_leaves(&g, SH_LEAF_TABLE), b > a);
            assert_int_equal(has_input(&g, SH_INPUT_TOKENS), part.embed);
            assert_int_equal(has_input(&g, SH_INPUT_HIDDEN), !part.embed);
            assert_int_equal(has_input(&g, SH_INPUT_OUT), part.head);
            sh_graph_release(&g);
        }
    }
    closed(&t, m);
}

static void model__impossible_parts(void **state)
{
    static const struct sh_part BAD[] = {
        {.layer_begin = -1, .layer_end = 1, .n_shards = 1},
        {.layer_begin = 2, .layer_end = 1, .n_shards = 1},
        {.layer_begin = 0, .layer_end = 4, .n_shards = 1},
        {.layer_begin = 1, .layer_end = 2, .embed = true, .n_shards = 1},
        {.layer_begin = 1, .layer_end = 2, .head = true, .n_shards = 1},
        {.layer_begin = 0, .layer_end = 1, .n_shards = 0},
        {.layer_begin = 0, .layer_end = 1, .n_shards = 9},
        {.layer_begin = 0, .layer_end = 1, .n_shards = 2, .rank = 2},
        {.layer_begin = 0, .layer_end = 1, .n_shards = 2, .rank = -1}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_model *m;
    struct sh_graph g;
    struct tiny t;

    (void)state;
    tiny_llama(&t, LAYERS);
    m = opened(&t);
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        assert_int_equal(sh_model_build(m, &BAD[i], &LIMITS, &g, &err), SHOAL_ERR_ARG);
        sh_graph_release(&g);
    }
    assert_string_equal(err.message, "model: a part of layers 0 to 1, shard -1 of 2, is not "
                                     "possible (3 layers)");
    // Three key-value heads go to three shards at most.
    struct sh_part part = part_of(0, LAYERS);
    part.n_shards = 4;
    for (int s = 0; s < 4; s++)
        part.shares[s] = 1;
    assert_int_equal(sh_model_build(m, &part, &LIMITS, &g, &err), SHOAL_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "model: the attention of block 0 cannot be cut into 4 shards");
    sh_graph_release(&g);
    closed(&t, m);
}

static void bytes_of(const struct sh_model *m, const struct sh_part *p, size_t *weights,
                     size_t *cache)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_model_part_bytes(m, p, &LIMITS, weights, cache, &err)) fail_msg("%s", err.message);
}

// What the parts hold is what the whole holds; the tables are everybody's own.
static void model__bytes_add_up(void **state)
{
    const size_t tables = 2 * 4 * sizeof(int32_t); // sequences, pages of 200 positions
    size_t all_w, all_c, sum_w = 0, sum_c = 0, file = 0;
    struct sh_part part = part_of(0, LAYERS);
    struct sh_model *m;
    struct tiny t;

    (void)state;
    tiny_llama(&t, LAYERS);
    m = opened(&t);
    for (size_t i = 0; i < sh_gguf_n_tensors(t.file); i++)
        file += sh_gguf_tensor(t.file, i)->data_bytes;
    bytes_of(m, &part, &all_w, &all_c);
    assert_int_equal(all_w, file);
    assert_int_equal(all_c, LAYERS * 2 * TINY_KV * TINY_HEAD * 2 * 64 * 9 + tables);
    for (int64_t il = 0; il < LAYERS; il++) {
        size_t w, c;
        part = part_of(il, il + 1);
        bytes_of(m, &part, &w, &c);
        sum_w += w;
        sum_c += c - tables;
    }
    assert_int_equal(sum_w, all_w);
    assert_int_equal(sum_c, all_c - tables);
    closed(&t, m);
    tiny_no_tensor(&t, "output.weight"); // the embedding serves twice and is held once
    part = part_of(0, LAYERS);
    m = opened(&t);
    bytes_of(m, &part, &sum_w, &sum_c);
    assert_int_equal(sum_w, file - TINY_WIDTH * TINY_VOCAB * sizeof(float));
    closed(&t, m);
}

// Matrices are dealt out, norms and the ends are everybody's, each head's keys are held once.
static void check_shards(struct tiny *t, int n_shards, const double *shares)
{
    struct sh_model *m = opened(t);
    struct sh_part part = part_of(1, 2);
    size_t all_w, all_c, sum_w = 0, sum_c = 0, norms = 0;
    const size_t tables = 2 * 4 * sizeof(int32_t);

    bytes_of(m, &part, &all_w, &all_c);
    for (size_t i = 0; i < sh_gguf_n_tensors(t->file); i++) {
        const struct sh_gguf_tensor *x = sh_gguf_tensor(t->file, i);
        if (x->name.len < 6 || strncmp(x->name.ptr, "blk.1.", 6) != 0) continue;
        if (x->n_dims == 1 || strncmp(x->name.ptr + 6, "ffn_gate_inp", 12) == 0)
            norms += x->data_bytes;
    }
    part.n_shards = n_shards;
    memcpy(part.shares, shares, (size_t)n_shards * sizeof *shares);
    for (part.rank = 0; part.rank < n_shards; part.rank++) {
        size_t w, c;
        bytes_of(m, &part, &w, &c);
        sum_w += w - norms;
        sum_c += c - tables;
    }
    assert_int_equal(sum_w, all_w - norms);
    assert_int_equal(sum_c, all_c - tables);
    closed(t, m);
}

static void model__shards_deal_out_the_matrices(void **state)
{
    struct tiny t;

    (void)state;
    tiny_llama(&t, LAYERS);
    check_shards(&t, 2, (double[]){2, 1});
    check_shards(&t, 3, (double[]){1, 1, 1});
    make_experts(&t, LAYERS, true); // by width
    check_shards(&t, 2, (double[]){2, 1});
    make_experts(&t, LAYERS, false);
    check_shards(&t, 3, (double[]){1, 3, 1});
}

static void model__rotation_turns_every_layer_of_the_part(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_part part = part_of(1, LAYERS);
    struct sh_model *m;
    struct sh_graph g;
    struct tiny t;

    (void)state;
    tiny_llama(&t, LAYERS);
    tiny_tensor(&t, "rope_freqs.weight", SH_DTYPE_F32, TINY_HEAD / 2, 0, 0);
    m = opened(&t);
    if (sh_model_build_rotate(m, &part, &LIMITS, &g, &err)) fail_msg("%s", err.message);
    assert_int_equal(g.n_nodes, LAYERS - 1);
    assert_int_equal(g.max.r, 4); // pages of a sequence
    assert_int_equal(count_leaves(&g, SH_LEAF_CACHE_K), LAYERS - 1);
    assert_int_equal(count_leaves(&g, SH_LEAF_WEIGHT), 1);
    for (int32_t i = 0; i < g.n_nodes; i++) {
        const struct sh_tensor *n = &g.tensors[g.nodes[i]];
        assert_int_equal(n->op, SH_OP_CACHE_ROTATE);
        assert_int_equal(n->params[1], TINY_HEAD);
        assert_int_equal(n->params[3], TINY_KV);
        if (sh_param_f32(n, 8) != 1.0f)
            fail_msg("keys are scaled by %g", (double)sh_param_f32(n, 8));
        assert_true(n->src[2] >= 0);
    }
    sh_graph_release(&g);
    closed(&t, m);
    make_mamba(&t, LAYERS);
    m = opened(&t);
    if (sh_model_build_rotate(m, &part, &LIMITS, &g, &err)) fail_msg("%s", err.message);
    assert_int_equal(g.n_nodes, 0);
    sh_graph_release(&g);
    closed(&t, m);
}

static void model__frequency_factors_by_context(void **state)
{
    static const struct {
        int64_t n_ctx;
        const char *name;
    } CASE[] = {{256, "rope_factors_short.weight"}, {257, "rope_factors_long.weight"}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_part part = part_of(0, LAYERS);
    struct sh_build_limits limits = LIMITS;
    struct sh_model *m;
    struct tiny t;

    (void)state;
    tiny_llama(&t, LAYERS);
    tiny_int(&t, "llama.rope.scaling.original_context_length", 256);
    tiny_tensor(&t, "rope_factors_long.weight", SH_DTYPE_F32, TINY_HEAD / 2, 0, 0);
    tiny_tensor(&t, "rope_factors_short.weight", SH_DTYPE_F32, TINY_HEAD / 2, 0, 0);
    m = opened(&t);
    for (int i = 0; i < 2; i++) {
        struct sh_graph g;
        bool found = false;
        limits.n_ctx = CASE[i].n_ctx;
        if (sh_model_build(m, &part, &limits, &g, &err)) fail_msg("%s", err.message);
        for (int32_t k = 0; k < g.n_tensors; k++) {
            if (strncmp(g.tensors[k].name, "rope_", 5) != 0) continue;
            assert_string_equal(g.tensors[k].name, CASE[i].name);
            found = true;
        }
        assert_true(found);
        sh_graph_release(&g);
    }
    closed(&t, m);
}

static void model__no_memory_is_a_status(void **state)
{
    struct sh_model *m;
    struct tiny t;
    bool done = false;
    int failures = 0;

    (void)state;
    tiny_llama(&t, 2);
    tiny_open(&t);
    const size_t live = sh_mem_live_bytes();
    for (int n = 0; !done; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        sh_mem_fail_after(n);
        const enum shoal_status st = sh_model_open(&m, t.file, &err);
        done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
        if (st) assert_null(m);
        failures += st != SHOAL_OK;
        sh_model_close(m);
        assert_int_equal(sh_mem_live_bytes(), live);
    }
    assert_true(failures > 1);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model__info),
        cmocka_unit_test(model__unknown_architectures),
        cmocka_unit_test(model__what_an_architecture_needs),
        cmocka_unit_test(model__missing_and_misshapen_tensors),
        cmocka_unit_test(model__one_tensor_per_expert),
        cmocka_unit_test(model__graphs_of_parts),
        cmocka_unit_test(model__impossible_parts),
        cmocka_unit_test(model__bytes_add_up),
        cmocka_unit_test(model__shards_deal_out_the_matrices),
        cmocka_unit_test(model__rotation_turns_every_layer_of_the_part),
        cmocka_unit_test(model__frequency_factors_by_context),
        cmocka_unit_test(model__no_memory_is_a_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
