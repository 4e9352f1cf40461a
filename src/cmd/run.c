/* cmd/run.c - `shoal run`: open a model over machines, continue a prompt, tell how it went. */
#include "cmd/run_priv.h"

#include <math.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/machines.h"
#include "cmd/progress.h"
#include "gguf/file.h"

static void on_loading(void *self, uint64_t done, uint64_t total)
{
    sh_progress_step(self, done, total);
}

static void on_worker(void *self, int i, int n, const struct sh_host_progress *w)
{
    (void)n;
    sh_progress_row(self, i, w->address, w->load.bytes_found + w->load.bytes_sent, w->weight_bytes);
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

static int64_t rows_per_step(const struct sh_run_options *o)
{
    if (!o->n_batch || !o->n_ubatch) return o->n_batch + o->n_ubatch;
    return o->n_batch < o->n_ubatch ? o->n_batch : o->n_ubatch;
}

static enum shoal_status open_host(struct sh_run *r, struct shoal_error *err)
{
    const struct sh_run_options *o = &r->o;
    const struct sh_machines_named named = {
        .workers = &o->workers, .servers = &o->servers, .layers = &o->layers, .key = o->key};
    struct sh_machines *m = NULL;
    struct sh_progress progress;
    struct sh_host_options h = {
        .model_path = o->model,
        .insecure = o->insecure,
        .relay = o->relay,
        .format = (enum sh_rpc_format)o->wire,
        .with_local = o->with_local,
        .n_threads = o->n_threads > 0 ? (int)o->n_threads : 0,
        .cache_f32 = o->cache_k == 1,
        .rows_max = rows_per_step(o),
        .cache = (enum sh_ggmlrpc_cache)o->rpc_cache,
        .step_timeout_ms = o->step_timeout_s > 0 ? (int64_t)ceil(o->step_timeout_s * 1000) : 0,
        .progress = on_loading,
        .worker_progress = on_worker,
        .stop = on_stop,
        .self = &progress};
    enum shoal_status st = sh_machines_find(&m, &named, &h, err);

    if (!st) st = sh_run_choose_ctx(r, &h.n_ctx, err);
    if (st) goto done;
    sh_progress_init(&progress, "loading", true);
    st = sh_host_open(&r->host, &h, err);
    sh_progress_end(&progress);
    if (!st) sh_machines_keep_keys(m);

done:
    sh_machines_destroy(m);
    return st;
}

static enum shoal_status open_model(struct sh_run *r, struct shoal_error *err)
{
    const int64_t began = sh_now_ns(&sh_clock_system);
    enum shoal_status st;

    sh_interrupt_set_grace(INTERRUPT_GRACE_S);
    st = open_host(r, err);
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
