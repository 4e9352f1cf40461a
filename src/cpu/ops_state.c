/* cpu/ops_state.c - recurrent layers: STATE_CONV and STATE_SCAN.
 *
 * A step's rows come in runs, one per sequence; STATES [4,R] says of each run: first row, rows,
 * state read (-1 = zeros), state written.  Channels (or heads) are independent and shared among
 * threads; a thread takes the runs in order, so even a run that reads what an earlier one of the
 * step wrote gives the same everywhere.  Rows of no run give zeros.
 */
#include <string.h>

#include "cpu/ops_priv.h"

struct run {
    int64_t first, rows, read, write;
};

static struct run run_at(const struct sh_cpu_tensor *states, int64_t r)
{
    return (struct run){sh_cpu_i32(states, 0, r, 0), sh_cpu_i32(states, 1, r, 0),
                        sh_cpu_i32(states, 2, r, 0), sh_cpu_i32(states, 3, r, 0)};
}

static enum shoal_status check_runs(const struct sh_cpu_tensor *states, int64_t n_rows,
                                    int64_t n_states, struct shoal_error *err)
{
    for (int64_t r = 0; r < states->ne[1]; r++) {
        const struct run run = run_at(states, r);
        if (run.first < 0 || run.rows < 0 || run.first + run.rows > n_rows || run.read < -1 ||
            run.read >= n_states || run.write < 0 || run.write >= n_states) {
            return sh_fail(
                err, SHOAL_ERR_FORMAT,
                "run %lld has rows %lld to %lld of %lld and states %lld and %lld of %lld",
                (long long)r, (long long)run.first, (long long)(run.first + run.rows),
                (long long)n_rows, (long long)run.read, (long long)run.write, (long long)n_states);
        }
    }
    return SHOAL_OK;
}

/* Runs follow each other and hold all rows, as a stage lays them out; else some row may have none,
 * and nothing is left from before in the result. */
static void clear_rows_without_run(const struct sh_cpu_tensor *states, struct sh_cpu_tensor *dst,
                                   int64_t n_rows)
{
    int64_t covered = 0;

    for (int64_t r = 0; r < states->ne[1]; r++) {
        const struct run run = run_at(states, r);
        if (run.first == covered) covered += run.rows;
    }
    if (covered == n_rows) return;
    memset(dst->data, 0, (size_t)(dst->ne[0] * sh_cpu_rows(dst)) * sizeof(float));
}

/* ---- STATE_CONV: x [C,T], w [width,C], state [width-1,C,states], STATES -----------------------*/

#define CONV_CHANNELS 64 // per chunk

static void conv_channels(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *x = &c->src[0], *w = &c->src[1], *state = &c->src[2];
    const size_t y_stride = c->dst.nb[1] / sizeof(float), x_stride = x->nb[1] / sizeof(float);
    const int64_t history = state->ne[0];

    (void)thread;
    for (int64_t r = 0; r < c->src[3].ne[1]; r++) {
        const struct run run = run_at(&c->src[3], r);
        float *written = sh_cpu_f32(sh_cpu_at(state, 0, run.write, 0)) + begin * history;
        const float *read =
            run.read < 0 ? NULL : sh_cpu_f32(sh_cpu_at(state, 0, run.read, 0)) + begin * history;
        c->k->conv_run(end - begin, w->ne[0], run.rows,
                       sh_cpu_f32(sh_cpu_at(&c->dst, run.first, 0, 0)) + begin, y_stride,
                       sh_cpu_f32(sh_cpu_at(x, run.first, 0, 0)) + begin, x_stride,
                       sh_cpu_f32(w->data) + begin * w->ne[0], read, written);
    }
}

static enum shoal_status check_conv(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                    struct shoal_error *err)
{
    (void)need;
    if (n->src[1]->ne[1] > 1 && n->src[1]->nb[1] != (size_t)n->src[1]->ne[0] * sizeof(float)) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "taps with gaps");
    }
    return SHOAL_OK;
}

static enum shoal_status run_conv(struct sh_cpu_call *c, struct shoal_error *err)
{
    enum shoal_status st = check_runs(&c->src[3], c->dst.ne[1], c->src[2].ne[2], err);

    if (st) return st;
    clear_rows_without_run(&c->src[3], &c->dst, c->dst.ne[1]);
    sh_pool_for(c->pool, c->dst.ne[0], CONV_CHANNELS, conv_channels, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_STATE_CONV = {.check = check_conv, .run = run_conv};

/* ---- STATE_SCAN: x, dt, A, B, C, D, dt_bias, state, STATES -----------------------------------*/

static void scan_heads(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *x = &c->src[0], *dt = &c->src[1], *b = &c->src[3];
    const struct sh_cpu_tensor *cc = &c->src[4], *state = &c->src[7];
    const int64_t per_group = x->ne[1] / b->ne[1];

    (void)thread;
    for (int64_t head = begin; head < end; head++) {
        const int64_t group = head / per_group;
        for (int64_t r = 0; r < c->src[8].ne[1]; r++) {
            const struct run run = run_at(&c->src[8], r);
            float *written = sh_cpu_f32(sh_cpu_at(state, 0, head, run.write));
            const float *read =
                run.read < 0 ? NULL : sh_cpu_f32(sh_cpu_at(state, 0, head, run.read));
            c->k->ssm_run(
                x->ne[0], b->ne[0], run.rows, sh_cpu_f32(sh_cpu_at(&c->dst, head, run.first, 0)),
                c->dst.nb[2] / sizeof(float), sh_cpu_f32(sh_cpu_at(x, head, run.first, 0)),
                x->nb[2] / sizeof(float), sh_cpu_f32(sh_cpu_at(dt, run.first, 0, 0)) + head,
                dt->nb[1] / sizeof(float), sh_cpu_f32(c->src[6].data)[head],
                sh_cpu_f32(c->src[2].data)[head], sh_cpu_f32(c->src[5].data)[head],
                sh_cpu_f32(sh_cpu_at(b, group, run.first, 0)),
                sh_cpu_f32(sh_cpu_at(cc, group, run.first, 0)), b->nb[2] / sizeof(float), read,
                written);
        }
    }
}

static enum shoal_status check_scan(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                    struct shoal_error *err)
{
    (void)need;
    if (n->src[3]->nb[2] != n->src[4]->nb[2])
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "B and C with different strides");
    return SHOAL_OK;
}

static enum shoal_status run_scan(struct sh_cpu_call *c, struct shoal_error *err)
{
    enum shoal_status st = check_runs(&c->src[8], c->dst.ne[2], c->src[7].ne[3], err);

    if (st) return st;
    clear_rows_without_run(&c->src[8], &c->dst, c->dst.ne[2]);
    sh_pool_for(c->pool, c->dst.ne[1], 1, scan_heads, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_STATE_SCAN = {.check = check_scan, .run = run_scan};
