/* cmd/run.c - `shoal run`: open a model over machines, continue a prompt, tell how it went. */
#include "cmd/run_priv.h"

#include <math.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/progress.h"
#include "gguf/file.h"
#include "host/known.h"

static void on_loading(void *self, uint64_t done, uint64_t total)
{
    sh_progress_step(self, done, total);
}

static bool on_stop(void *self)
{
    (void)self;
    return sh_interrupted();
}

static void cancel_engine(void *arg)
{
    sh_engine_cancel(arg);
}

enum { INTERRUPT_GRACE_S = 3 }; /* a frozen worker is not waited for longer after Ctrl-C */

struct machines { /* the lists of the command line as the host takes them */
    struct sh_known known[SH_ARG_WORDS_MAX];
    struct sh_host_worker worker[SH_ARG_WORDS_MAX];
    char text[SH_ARG_WORDS_MAX][300];
    const char *server[SH_ARG_WORDS_MAX];
    int64_t layers[SH_HOST_DEVICES_MAX + 1];
    int n_layers;
};

static enum shoal_status copy_word(char *out, size_t size, struct sh_str word, const char *option,
                                   struct shoal_error *err)
{
    if (word.len >= size)
        return sh_fail(err, SHOAL_ERR_ARG, "%s: an address of %zu letters is too long", option,
                       word.len);
    memcpy(out, word.ptr, word.len);
    out[word.len] = '\0';
    return SHOAL_OK;
}

static enum shoal_status list_workers(const struct sh_run_options *o, struct machines *m,
                                      struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    char text[300];

    for (int i = 0; i < o->workers.n && !st; i++) {
        struct sh_known *k = &m->known[i];
        st = copy_word(text, sizeof text, o->workers.word[i], "--workers", err);
        if (!st) st = sh_known_find(k, NULL, text, o->key, err);
        m->worker[i].address = k->address;
        m->worker[i].key = k->has_key ? &k->key : NULL;
    }
    return st;
}

// Every worker has accepted its key: the next run finds it.
static void keep_keys(const struct sh_run_options *o, struct machines *m)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    bool replaced;

    for (int i = 0; i < o->workers.n; i++) {
        if (sh_known_keep(&m->known[i], NULL, &replaced, &err))
            sh_say("the key of %s is not kept: %s", m->known[i].address, err.message);
    }
}

static enum shoal_status list_machines(const struct sh_run_options *o, struct machines *m,
                                       struct shoal_error *err)
{
    enum shoal_status st;
    int64_t v;

    if (o->workers.n + o->servers.n >= SH_HOST_DEVICES_MAX)
        return sh_fail(err, SHOAL_ERR_LIMIT, "%d machines are more than %d",
                       o->workers.n + o->servers.n, SH_HOST_DEVICES_MAX - 1);
    st = list_workers(o, m, err);
    if (st) return st;
    for (int i = 0; i < o->servers.n; i++) {
        st = copy_word(m->text[i], sizeof m->text[i], o->servers.word[i], "--rpc", err);
        if (st) return st;
        m->server[i] = m->text[i];
    }
    for (int i = 0; i < o->layers.n; i++) {
        for (const char *at = o->layers.text[i]; sh_arg_number_next(&at, &v);) {
            if (m->n_layers <= SH_HOST_DEVICES_MAX) m->layers[m->n_layers++] = v;
        }
    }
    return SHOAL_OK;
}

static int64_t rows_per_step(const struct sh_run_options *o)
{
    if (!o->n_batch || !o->n_ubatch) return o->n_batch + o->n_ubatch;
    return o->n_batch < o->n_ubatch ? o->n_batch : o->n_ubatch;
}

static enum shoal_status open_host(struct sh_run *r, struct machines *m, struct shoal_error *err)
{
    const struct sh_run_options *o = &r->o;
    struct sh_progress progress;
    struct sh_host_options h = {
        .model_path = o->model,
        .n_workers = o->workers.n,
        .workers = m->worker,
        .insecure = o->insecure,
        .relay = o->relay,
        .format = (enum sh_rpc_format)o->wire,
        .n_servers = o->servers.n,
        .servers = m->server,
        .with_local = o->with_local,
        .n_layers_given = m->n_layers,
        .layers = m->layers,
        .n_threads = o->n_threads > 0 ? (int)o->n_threads : 0,
        .cache_f32 = o->cache_k == 1,
        .rows_max = rows_per_step(o),
        .cache = (enum sh_ggmlrpc_cache)o->rpc_cache,
        .step_timeout_ms = o->step_timeout_s > 0 ? (int64_t)ceil(o->step_timeout_s * 1000) : 0,
        .progress = on_loading,
        .stop = on_stop,
        .self = &progress};
    enum shoal_status st = sh_run_choose_ctx(r, &h.n_ctx, err);

    if (st) return st;
    sh_progress_init(&progress, "loading", true);
    st = sh_host_open(&r->host, &h, err);
    sh_progress_end(&progress);
    return st;
}

static enum shoal_status open_model(struct sh_run *r, struct shoal_error *err)
{
    const int64_t began = sh_now_ns(&sh_clock_system);
    struct machines *m = sh_calloc(1, sizeof *m);
    enum shoal_status st;

    if (!m) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the list of machines");
    sh_interrupt_set_grace(INTERRUPT_GRACE_S);
    st = list_machines(&r->o, m, err);
    if (!st) st = open_host(r, m, err);
    if (!st) keep_keys(&r->o, m);
    for (int i = 0; i < SH_ARG_WORDS_MAX; i++)
        sh_known_wipe(&m->known[i]);
    sh_free(m);
    if (st) return st;
    r->vocab = sh_host_vocab(r->host);
    r->n_ctx = sh_host_n_ctx(r->host);
    st = sh_engine_create(&r->engine, sh_host_pipeline(r->host), r->n_ctx, err);
    if (st) return st;
    sh_interrupt_call(cancel_engine, r->engine);
    r->load_ns = sh_now_ns(&sh_clock_system) - began;
    sh_traffic_take(&r->loaded, r->host);
    return SHOAL_OK;
}

static enum shoal_status work(struct sh_run *r, struct shoal_error *err)
{
    const bool talks = !r->o.json && r->o.timings;
    enum shoal_status st;

    if (r->o.perplexity) {
        if (talks) sh_run_show_plan(r);
        return sh_run_perplexity(r, err);
    }
    st = sh_run_tokenize(r, err);
    if (!st) st = sh_run_choose_sampler(r, err);
    if (st) return st;
    if (talks) sh_run_show_plan(r);
    if (r->o.n_predict != 0 && r->sampler.temp > 0) sh_say("seed %u", r->seed);
    return sh_run_generate(r, err);
}

static void release(struct sh_run *r)
{
    sh_interrupt_call(NULL, NULL);
    sh_logits_file_release(&r->logits);
    sh_engine_destroy(r->engine);
    sh_host_close(r->host);
    sh_buf_release(&r->prompt_text);
    sh_buf_release(&r->text);
    sh_ids_release(&r->prompt);
    sh_ids_release(&r->ids);
    sh_free(r);
}

int sh_cmd_run(int argc, char **argv)
{
    const int64_t began = sh_now_ns(&sh_clock_system);
    struct sh_run *r = sh_calloc(1, sizeof *r);
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;
    int code;

    if (!r) {
        sh_say("no memory");
        return SH_EXIT_FAILED;
    }
    sh_console_begin("run", false, sh_console_wants_json(argc, argv));
    code = sh_run_options_parse(&r->o, argc, argv);
    if (code != SH_PARSED) {
        sh_free(r);
        return code;
    }
    sh_console_log((enum sh_log_level)r->o.log_level);
    st = sh_logits_file_open(&r->logits, r->o.logits_out, &err);
    if (!st) st = sh_run_read_text(r, &err);
    if (!st) st = open_model(r, &err);
    if (!st) st = work(r, &err);
    r->total_ns = sh_now_ns(&sh_clock_system) - began;
    if (!st && sh_interrupted()) st = sh_fail(&err, SHOAL_ERR_CANCELLED, "interrupted");
    if (!st) {
        sh_traffic_take(&r->ended, r->host);
        if (r->o.json) {
            st = sh_run_write_json(r, &err);
        } else if (r->o.timings) {
            sh_run_show_timings(r);
        }
    }
    // Whatever failed first: this is why.
    if (st && r->host && sh_gguf_faulted(sh_host_file(r->host)))
        st = sh_fail(&err, SHOAL_ERR_IO, "%s: the file shrank while it was in use", r->o.model);
    // What has been printed ends in a line of its own before a message follows.
    if (st && r->line_open && sh_stderr_is_terminal()) sh_say_text(SH_STR_LIT("\n"));
    code = st ? sh_say_failure(st, &err) : 0;
    release(r);
    return code;
}
