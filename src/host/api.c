/* host/api.c - the installed interface: a host, an engine, and the loop of generate.h. */
#include <shoal/shoal.h>

#include <stdatomic.h>

#include "base/mem.h"
#include "host/generate.h"
#include "host/host.h"
#include "host/known.h"
#include "text/tokenize.h"

struct shoal {
    struct sh_host *host;
    struct sh_engine *engine;
    atomic_bool cancelled; /* asked for, and not yet reported by a generation */
};

static enum shoal_status check_options(const struct shoal_options *o, struct shoal_error *err)
{
    if (!o->model_path) return sh_fail(err, SHOAL_ERR_ARG, "model_path is NULL");
    if (o->n_threads < 0 || o->n_ctx < 0 || o->n_workers < 0 || o->n_servers < 0 || o->n_layers < 0)
        return sh_fail(err, SHOAL_ERR_ARG, "a count in the options is negative");
    if (o->n_workers > SH_HOST_DEVICES_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "%d workers are given, at most %d are possible",
                       o->n_workers, SH_HOST_DEVICES_MAX);
    }
    return SHOAL_OK;
}

/* Workers with the keys that this user keeps of them. */
struct machines {
    struct sh_known known[SH_HOST_DEVICES_MAX];
    struct sh_host_worker worker[SH_HOST_DEVICES_MAX];
};

static enum shoal_status find_keys(struct machines *m, const struct shoal_options *o,
                                   struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < o->n_workers && !st; i++) {
        struct sh_known *k = &m->known[i];
        st = sh_known_find(k, NULL, o->workers[i], NULL, err);
        m->worker[i].address = k->address;
        m->worker[i].key = k->has_key ? &k->key : NULL;
    }
    return st;
}

static enum shoal_status open_host(struct shoal *s, const struct shoal_options *o,
                                   struct shoal_error *err)
{
    struct machines *m = sh_calloc(1, sizeof *m);
    enum shoal_status st;

    if (!m) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a session");
    const struct sh_host_options host = {.model_path = o->model_path,
                                         .n_workers = o->n_workers,
                                         .workers = m->worker,
                                         .n_servers = o->n_servers,
                                         .servers = o->servers,
                                         .with_local = o->with_local,
                                         .n_layers_given = o->n_layers,
                                         .layers = o->layers,
                                         .n_threads = o->n_threads,
                                         .n_ctx = o->n_ctx,
                                         .cache_f32 = o->cache_f32,
                                         .progress = o->progress,
                                         .self = o->user};
    st = find_keys(m, o, err);
    if (!st) st = sh_host_open(&s->host, &host, err);
    for (int i = 0; i < o->n_workers; i++)
        sh_known_wipe(&m->known[i]);
    sh_free(m);
    return st;
}

enum shoal_status shoal_open(struct shoal **out, const struct shoal_options *o,
                             struct shoal_error *err)
{
    enum shoal_status st = check_options(o, err);
    struct shoal *s;

    *out = NULL;
    if (st) return st;
    s = sh_calloc(1, sizeof *s);
    if (!s) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a session");
    atomic_init(&s->cancelled, false);
    st = open_host(s, o, err);
    if (!st)
        st = sh_engine_create(&s->engine, sh_host_pipeline(s->host), sh_host_n_ctx(s->host), err);
    if (st) {
        shoal_close(s);
        return st;
    }
    *out = s;
    return SHOAL_OK;
}

void shoal_close(struct shoal *s)
{
    if (!s) return;
    sh_engine_destroy(s->engine);
    sh_host_close(s->host);
    sh_free(s);
}

void shoal_cancel(struct shoal *s)
{
    atomic_store(&s->cancelled, true);
    sh_engine_cancel(s->engine);
}

struct receiver {
    shoal_text_fn *text;
    void *user;
};

static enum shoal_status receive(void *self, int32_t id, struct sh_str text,
                                 struct shoal_error *err)
{
    const struct receiver *r = self;

    (void)id;
    if (!r->text || text.len == 0 || r->text(r->user, text.ptr, text.len)) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_CANCELLED, "ended by the receiver");
}

enum shoal_status shoal_generate(struct shoal *s, const char *prompt,
                                 const struct shoal_params *params, shoal_text_fn *text, void *user,
                                 struct shoal_error *err)
{
    static const struct shoal_params defaults = SHOAL_PARAMS_INIT;
    const struct shoal_params *p = params ? params : &defaults;
    const struct sh_sampler_params sampler = {.temp = p->temp,
                                              .top_k = p->top_k,
                                              .top_p = p->top_p,
                                              .min_p = p->min_p,
                                              .repeat_penalty = p->repeat_penalty,
                                              .repeat_last_n = p->repeat_last_n};
    struct receiver receiver = {.text = text, .user = user};
    struct sh_generate g = {.engine = s->engine,
                            .vocab = sh_host_vocab(s->host),
                            .n_ctx = sh_host_n_ctx(s->host),
                            .n_predict = p->n_predict,
                            .token = receive,
                            .self = &receiver};
    struct sh_ids ids = SH_IDS_INIT;
    struct sh_generated done;
    enum shoal_status st;

    st = sh_tokenize(g.vocab, sh_str_from(prompt), true, true, &ids, err);
    if (!st && ids.len == 0) st = sh_fail(err, SHOAL_ERR_ARG, "the prompt is empty");
    if (!st) st = sh_engine_clear(s->engine, err);
    if (!st && atomic_load(&s->cancelled)) sh_engine_cancel(s->engine); // clear() forgot it
    if (st) goto done;
    sh_engine_set_sampler(s->engine, &sampler, p->seed);
    g.prompt = ids.ptr;
    g.n_prompt = (int64_t)ids.len;
    st = sh_generate(&g, &done, err);
    if (st == SHOAL_ERR_CANCELLED) atomic_store(&s->cancelled, false);

done:
    sh_ids_release(&ids);
    return st;
}
