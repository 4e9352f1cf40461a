/* cmd/run_perplexity.c - how well the model predicts a text.
 *
 * The ids of the whole text are cut into chunks of the context's length; each is read from an
 * empty context.  Where the model begins texts with a token of its own, that token stands in for
 * the first of a chunk.  The tokens of the second half are predicted by what precedes them:
 * perplexity = exp(mean of -ln p).  An incomplete chunk at the end is left out.
 */
#include "cmd/run_priv.h"

#include <math.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/interrupt.h"
#include "cmd/progress.h"
#include "text/tokenize.h"

struct measure {
    const int32_t *chunk; /* [n] */
    int64_t n, half;      /* ids of it that passed before the rows asked for */
    double sum, sum_squares;
    int64_t count;
};

// Row `index` of the second half predicts the token after it.
static void on_row(void *self, int64_t index, const float *logits, int32_t n_vocab)
{
    struct measure *m = self;
    const int64_t next = m->half + index + 1;

    if (next >= m->n) return;
    const double p = -sh_log_probability(logits, n_vocab, m->chunk[next]);
    m->sum += p;
    m->sum_squares += p * p;
    m->count++;
}

static enum shoal_status read_chunk(struct sh_run *r, struct measure *m, int32_t *ids,
                                    struct shoal_error *err)
{
    const struct sh_feed first = {.ids = ids, .n = m->half};
    const struct sh_feed second = {
        .ids = ids + m->half, .n = m->n - m->half, .logits = on_row, .self = m};
    enum shoal_status st;

    m->chunk = ids;
    if (sh_vocab_adds_bos(r->vocab)) ids[0] = sh_vocab_role(r->vocab, SH_ROLE_BOS);
    st = sh_engine_clear(r->engine, err);
    if (!st && sh_interrupted()) st = sh_fail(err, SHOAL_ERR_CANCELLED, "interrupted");
    if (!st) st = sh_engine_feed(r->engine, &first, NULL, err);
    if (!st) st = sh_engine_feed(r->engine, &second, NULL, err);
    return st;
}

static enum shoal_status tokenize_file(struct sh_run *r, struct sh_ids *ids,
                                       struct shoal_error *err)
{
    const struct sh_str text = {r->prompt_text.ptr ? r->prompt_text.ptr : "", r->prompt_text.len};
    enum shoal_status st = sh_tokenize(r->vocab, text, true, false, ids, err);

    if (!st && (int64_t)ids->len < r->chunk_tokens)
        st = sh_fail(err, SHOAL_ERR_ARG, "%s: has %zu tokens, a chunk takes %lld (-c N)",
                     r->o.perplexity, ids->len, (long long)r->chunk_tokens);
    return st;
}

static enum shoal_status print_result(const struct sh_run *r, struct shoal_error *err)
{
    struct sh_buf line = SH_BUF_INIT;
    enum shoal_status st = sh_buf_printf(
        &line, "perplexity %.4f +/- %.4f (%lld chunks of %lld tokens)\n", r->perplexity,
        r->perplexity_error, (long long)r->n_chunks, (long long)r->chunk_tokens);

    if (st) return sh_fail(err, st, "no memory for a line");
    st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){line.ptr, line.len}, err);
    sh_buf_release(&line);
    return st;
}

enum shoal_status sh_run_perplexity(struct sh_run *r, struct shoal_error *err)
{
    struct measure m = {.n = r->n_ctx, .half = r->n_ctx / 2};
    const int64_t began = sh_now_ns(&sh_clock_system);
    struct sh_ids ids = SH_IDS_INIT;
    struct sh_progress progress;
    enum shoal_status st;

    r->chunk_tokens = m.n;
    if (m.n < 4)
        return sh_fail(err, SHOAL_ERR_ARG, "a chunk of %lld tokens is too short (-c N)",
                       (long long)m.n);
    st = tokenize_file(r, &ids, err);
    if (st) goto done;
    r->n_chunks = (int64_t)ids.len / m.n;
    if (r->o.chunks >= 0 && r->o.chunks < r->n_chunks) r->n_chunks = r->o.chunks;
    sh_progress_init(&progress, "perplexity", false);
    for (int64_t i = 0; i < r->n_chunks && !st; i++) {
        st = read_chunk(r, &m, ids.ptr + i * m.n, err);
        sh_progress_step(&progress, (uint64_t)i + 1, (uint64_t)r->n_chunks);
    }
    sh_progress_end(&progress);
    if (!st && m.count < 2) st = sh_fail(err, SHOAL_ERR_ARG, "no chunk to measure");
    if (st) goto done;

    const double mean = m.sum / (double)m.count;
    const double spread = m.sum_squares / (double)m.count - mean * mean;
    r->perplexity = exp(mean);
    r->perplexity_error = spread > 0 ? sqrt(spread / (double)(m.count - 1)) * r->perplexity : 0;
    r->has_perplexity = true;
    r->done.prompt_ns = sh_now_ns(&sh_clock_system) - began;
    if (!isfinite(r->perplexity)) {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "%s: the perplexity is not a number", r->o.perplexity);
        goto done;
    }
    if (!r->o.json) st = print_result(r, err);

done:
    sh_ids_release(&ids);
    sh_traffic_take(&r->prompted, r->host);
    return st;
}
