/* model/model.c - opening a model, and the frame around the layers that an architecture builds. */
#include "model/model.h"

#include <stdio.h>

#include "base/mem.h"
#include "model/model_priv.h"

static const struct sh_arch *const ARCHS[] = {
#define X(name) &sh_arch_##name,
    SH_ARCHS(X)
#undef X
};
enum { N_ARCHS = sizeof ARCHS / sizeof ARCHS[0] };

const char *const *sh_model_architectures(void)
{
    static const char *const names[] = {
#define X(name) #name,
        SH_ARCHS(X)
#undef X
            NULL};
    return names;
}

static const struct sh_arch *find_arch(struct sh_str name)
{
    for (int i = 0; i < N_ARCHS; i++)
        if (sh_str_is(name, ARCHS[i]->name)) return ARCHS[i];
    return NULL;
}

static enum shoal_status unknown_arch(struct sh_str name, struct shoal_error *err)
{
    char known[160] = "";
    size_t at = 0;

    for (int i = 0; i < N_ARCHS && at < sizeof known; i++) {
        at +=
            (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", ARCHS[i]->name);
    }
    return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                   "model: architecture \"%.*s\" is not supported (supported: %s)",
                   (int)(name.len < 64 ? name.len : 64), name.ptr, known);
}

// Every tensor that a graph of the whole model names is there and has its shape: build one.
static enum shoal_status check_tensors(const struct sh_model *m, struct shoal_error *err)
{
    const struct sh_part all = {
        .layer_end = m->hp.n_layers, .embed = true, .head = true, .n_shards = 1};
    struct sh_build_limits limits = {.rows_max = 1,
                                     .wanted_max = 1,
                                     .n_seqs = 1,
                                     .n_positions = SH_PAGE,
                                     .cache_type = SH_DTYPE_F16,
                                     .n_ctx = SH_PAGE};
    struct sh_graph g;
    enum shoal_status st;

    for (int i = 0; i < m->arch->n_groups; i++)
        limits.pages[i] = 1;
    st = sh_model_build(m, &all, &limits, &g, err);
    sh_graph_release(&g);
    return st;
}

enum shoal_status sh_model_open(struct sh_model **out, const struct sh_gguf *g,
                                struct shoal_error *err)
{
    const struct sh_gguf_tensor *embd;
    struct sh_model *m = NULL;
    struct sh_str arch;
    enum shoal_status st;

    *out = NULL;
    st = sh_gguf_get_str(g, "general.architecture", SH_STR_EMPTY, &arch, err);
    if (st) return st;
    if (!find_arch(arch)) return unknown_arch(arch, err);

    m = sh_calloc(1, sizeof *m);
    if (!m) return sh_fail(err, SHOAL_ERR_NOMEM, "model: no memory to open a model");
    m->file = g;
    m->arch = find_arch(arch);
    st = sh_hparams_read(&m->hp, g, arch, &m->arena, err);
    if (st) goto done;
    embd = sh_gguf_find_tensor(g, SH_STR_LIT("token_embd.weight"));
    if (!embd || embd->ne[0] != m->hp.width) {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "model: token_embd.weight is %s, expected rows of %lld",
                     embd ? "misshapen" : "missing", (long long)m->hp.width);
        goto done;
    }
    m->n_vocab = embd->ne[1];
    if (m->arch->check) st = m->arch->check(m, err);
    if (!st) st = check_tensors(m, err);
    if (st) goto done;
    *out = m;
    m = NULL;

done:
    sh_model_close(m);
    return st;
}

void sh_model_close(struct sh_model *m)
{
    if (!m) return;
    sh_arena_release(&m->arena);
    sh_free(m);
}

const struct sh_gguf *sh_model_file(const struct sh_model *m)
{
    return m->file;
}

void sh_model_info(const struct sh_model *m, struct sh_model_info *out)
{
    *out = (struct sh_model_info){.n_layers = m->hp.n_layers,
                                  .width = m->hp.width,
                                  .n_vocab = m->n_vocab,
                                  .n_ctx_train = m->hp.n_ctx_train,
                                  .n_expert = m->hp.n_expert,
                                  .n_expert_used = m->hp.n_expert_used,
                                  .can_shift = m->arch->can_shift,
                                  .n_groups = m->arch->n_groups};
    snprintf(out->arch, sizeof out->arch, "%s", m->arch->name);
    for (int i = 0; i < m->arch->n_groups; i++)
        out->groups[i].kind = m->arch->group_kinds[i];
}

static bool part_ok(const struct sh_model *m, const struct sh_part *p)
{
    return p->layer_begin >= 0 && p->layer_begin <= p->layer_end &&
           p->layer_end <= m->hp.n_layers && (!p->embed || p->layer_begin == 0) &&
           (!p->head || p->layer_end == m->hp.n_layers) && p->n_shards >= 1 &&
           p->n_shards <= SH_SHARDS_MAX && p->rank >= 0 && p->rank < p->n_shards;
}

static struct sh_build begin(const struct sh_model *m, const struct sh_part *part,
                             const struct sh_build_limits *limits, struct sh_graph *g)
{
    const struct sh_extents max = {limits->rows_max, limits->wanted_max, limits->n_seqs};

    sh_graph_init(g, &max);
    if (!part_ok(m, part)) {
        sh_graph_fail(g, SHOAL_ERR_ARG,
                      "model: a part of layers %lld to %lld, shard %d of %d, is not possible "
                      "(%lld layers)",
                      (long long)part->layer_begin, (long long)part->layer_end, part->rank,
                      part->n_shards, (long long)m->hp.n_layers);
    }
    return (struct sh_build){
        .m = m, .hp = &m->hp, .part = part, .limits = limits, .g = g, .layer = -1};
}

enum shoal_status sh_model_build(const struct sh_model *m, const struct sh_part *part,
                                 const struct sh_build_limits *limits, struct sh_graph *g,
                                 struct shoal_error *err)
{
    struct sh_build b = begin(m, part, limits, g);
    int32_t x;

    x = part->embed ? sh_build_embed(&b, m->hp.embedding_scale)
                    : sh_leaf_input(g, SH_INPUT_HIDDEN, m->hp.width);
    for (int64_t il = part->layer_begin; il < part->layer_end && !g->status; il++) {
        b.layer = il;
        b.last = part->head && il + 1 == m->hp.n_layers;
        x = m->arch->layer(&b, x);
        sh_graph_name(g, x, "l_out-%lld", (long long)il);
    }
    b.layer = -1;
    if (part->head) {
        b.last = part->layer_begin == part->layer_end;
        x = sh_build_head(&b, sh_build_wanted(&b, x), m->hp.logit_scale);
    }
    sh_graph_set_output(g, x);
    return sh_graph_status(g, err);
}

enum shoal_status sh_model_build_rotate(const struct sh_model *m, const struct sh_part *part,
                                        const struct sh_build_limits *limits, struct sh_graph *g,
                                        struct shoal_error *err)
{
    struct sh_build_limits lim = *limits;
    struct sh_build b;

    // R counts pages here: a shift may move a whole sequence.
    lim.n_seqs = (limits->n_positions + SH_PAGE - 1) / SH_PAGE;
    b = begin(m, part, &lim, g);
    for (int64_t il = part->layer_begin; il < part->layer_end && !g->status; il++) {
        b.layer = il;
        if (m->arch->rotates(m, il)) sh_build_rotate(&b, 0);
    }
    return sh_graph_status(g, err);
}

enum shoal_status sh_model_part_bytes(const struct sh_model *m, const struct sh_part *part,
                                      const struct sh_build_limits *limits, size_t *weights,
                                      size_t *cache, struct shoal_error *err)
{
    struct sh_graph g;
    enum shoal_status st;

    *weights = *cache = 0;
    st = sh_model_build(m, part, limits, &g, err);
    for (int32_t i = 0; i < g.n_tensors && !st; i++) {
        const struct sh_tensor *t = &g.tensors[i];
        size_t bytes;
        if (t->leaf < 0 || !sh_tensor_bytes(t, &bytes)) continue;
        switch (g.leaves[t->leaf].kind) {
        case SH_LEAF_WEIGHT:
            *weights += bytes;
            break;
        case SH_LEAF_CACHE_K:
        case SH_LEAF_CACHE_V:
        case SH_LEAF_STATE:
        case SH_LEAF_TABLE:
            *cache += bytes;
            break;
        default:
            break;
        }
    }
    sh_graph_release(&g);
    return st;
}
