/* Recurrent ops: against plain recurrences, and that the cut of a run changes no bit. */
#include "cpu/rig_test.h"

#define STATES 5

/* Runs: rows [first, first + rows), state read, state written. */
static int32_t runs_leaf(struct rig *r, const double *runs, int64_t n)
{
    const int32_t t = rig_leaf(r, SH_DTYPE_I32, 4, n, 1, 1);

    rig_fill(r, t, runs, 1);
    return t;
}

static const double three_runs[3][4] = {{0, 5, 2, 0}, {5, 0, 3, 1}, {5, 6, -1, 4}};

static void state__conv(void **state)
{
    const int64_t channels = 100, width = 4, rows = 11, history = width - 1;
    struct rig r;
    const double *x, *w, *old;
    double *want = rig_zeros(channels * rows);
    int32_t src[4];

    (void)state;
    rig_init(&r, 0, 0, 0);
    src[0] = rig_random_leaf(&r, SH_DTYPE_F32, channels, rows, 1, 1, &x);
    src[1] = rig_random_leaf(&r, SH_DTYPE_F32, width, channels, 1, 1, &w);
    src[2] = rig_random_leaf(&r, SH_DTYPE_F32, history, channels, STATES, 1, &old);
    src[3] = runs_leaf(&r, &three_runs[0][0], 3);
    for (int run = 0; run < 3; run++) {
        const int64_t first = (int64_t)three_runs[run][0], n = (int64_t)three_runs[run][1];
        const int64_t read = (int64_t)three_runs[run][2];
        for (int64_t i = 0; i < n * channels; i++) {
            const int64_t t = i / channels, ch = i % channels;
            for (int64_t j = 0; j < width; j++) {
                const int64_t at = t - history + j;
                double v = 0;
                if (at >= 0) {
                    v = x[(first + at) * channels + ch];
                } else if (read >= 0) {
                    v = old[(read * channels + ch) * history + history + at];
                }
                want[(first + t) * channels + ch] += v * w[ch * width + j];
            }
        }
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_STATE_CONV, 4, src, NULL), want, 1e-6, 1e-6);
    sh_free(want);
    rig_release(&r);
}

static void scan_sources(struct rig *r, int64_t dh, int64_t nh, int64_t ds, int64_t groups,
                         int64_t rows, int32_t src[9], const double *v[8])
{
    double *a = rig_zeros(nh);

    src[0] = rig_random_leaf(r, SH_DTYPE_F32, dh, nh, rows, 1, &v[0]);
    src[1] = rig_random_leaf(r, SH_DTYPE_F32, nh, rows, 1, 1, &v[1]);
    for (int64_t i = 0; i < nh; i++)
        a[i] = -1.5 - rig_random(r);
    src[2] = rig_leaf(r, SH_DTYPE_F32, nh, 1, 1, 1);
    v[2] = rig_fill(r, src[2], a, 1);
    src[3] = rig_random_leaf(r, SH_DTYPE_F32, ds, groups, rows, 1, &v[3]);
    src[4] = rig_random_leaf(r, SH_DTYPE_F32, ds, groups, rows, 1, &v[4]);
    src[5] = rig_random_leaf(r, SH_DTYPE_F32, nh, 1, 1, 1, &v[5]);
    src[6] = rig_random_leaf(r, SH_DTYPE_F32, nh, 1, 1, 1, &v[6]);
    src[7] = rig_leaf(r, SH_DTYPE_F32, ds, dh, nh, STATES);
    v[7] = rig_fill(r, src[7], NULL, 1);
    sh_free(a);
}

static void state__scan(void **state)
{
    const int64_t dh = 8, nh = 6, ds = 16, groups = 2, rows = 11;
    struct rig r;
    const double *v[8];
    double *want = rig_zeros(dh * nh * rows), *h = rig_zeros(ds * dh);
    int32_t src[9];

    (void)state;
    rig_init(&r, 0, 0, 0);
    scan_sources(&r, dh, nh, ds, groups, rows, src, v);
    src[8] = runs_leaf(&r, &three_runs[0][0], 3);
    for (int64_t i = 0; i < 3 * nh; i++) {
        const int64_t head = i % nh, first = (int64_t)three_runs[i / nh][0];
        const int64_t n = (int64_t)three_runs[i / nh][1], read = (int64_t)three_runs[i / nh][2];
        for (int64_t e = 0; e < ds * dh; e++)
            h[e] = read < 0 ? 0 : v[7][(read * nh + head) * ds * dh + e];
        for (int64_t t = first; t < first + n; t++) {
            const double dt = log1p(exp(v[1][t * nh + head] + v[6][head]));
            const double *b = v[3] + (t * groups + head / (nh / groups)) * ds;
            const double *c = v[4] + (t * groups + head / (nh / groups)) * ds;
            for (int64_t d = 0; d < dh; d++) {
                const double x = v[0][(t * nh + head) * dh + d];
                double *y = &want[(t * nh + head) * dh + d];
                *y = v[5][head] * x;
                for (int64_t s = 0; s < ds; s++) {
                    h[d * ds + s] = h[d * ds + s] * exp(dt * v[2][head]) + x * dt * b[s];
                    *y += h[d * ds + s] * c[s];
                }
            }
        }
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_STATE_SCAN, 9, src, NULL), want, 1e-5, 1e-5);
    sh_free(want);
    sh_free(h);
    rig_release(&r);
}

/* One run, or the same rows as three runs that hand the state on. */
static uint8_t *cut_runs(bool scan, bool cut, size_t *n_bytes)
{
    static const double whole[4] = {0, 11, 2, 4};
    static const double parts[3][4] = {{0, 1, 2, 0}, {1, 7, 0, 1}, {8, 3, 1, 4}};
    struct rig r;
    const double *v[8];
    int32_t src[9];
    uint8_t *bytes;

    rig_init(&r, 0, 0, 0);
    if (scan) {
        scan_sources(&r, 8, 6, 16, 2, 11, src, v);
    } else {
        src[0] = rig_random_leaf(&r, SH_DTYPE_F32, 100, 11, 1, 1, NULL);
        src[1] = rig_random_leaf(&r, SH_DTYPE_F32, 4, 100, 1, 1, NULL);
        src[2] = rig_random_leaf(&r, SH_DTYPE_F32, 3, 100, STATES, 1, NULL);
    }
    src[scan ? 8 : 3] = cut ? runs_leaf(&r, &parts[0][0], 3) : runs_leaf(&r, whole, 1);
    bytes = rig_run_bytes(
        &r, sh_op_node(&r.g, scan ? SH_OP_STATE_SCAN : SH_OP_STATE_CONV, scan ? 9 : 4, src, NULL),
        n_bytes);
    rig_release(&r);
    return bytes;
}

static void state__cuts_change_no_bit(void **state)
{
    (void)state;
    for (int scan = 0; scan < 2; scan++) {
        size_t n, m;
        uint8_t *whole = cut_runs(scan, false, &n), *cut = cut_runs(scan, true, &m);
        assert_int_equal(n, m);
        assert_memory_equal(whole, cut, n);
        sh_free(whole);
        sh_free(cut);
    }
}

static void state__wrong_runs_are_refused(void **state)
{
    static const double wrong[4][4] = {
        {0, 12, 0, 1}, {-1, 2, 0, 1}, {0, 3, STATES, 1}, {0, 3, 0, -1}};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct rig r;
        int32_t src[4], y;
        uint8_t byte;
        rig_init(&r, 0, 0, 0);
        src[0] = rig_random_leaf(&r, SH_DTYPE_F32, 10, 11, 1, 1, NULL);
        src[1] = rig_random_leaf(&r, SH_DTYPE_F32, 4, 10, 1, 1, NULL);
        src[2] = rig_random_leaf(&r, SH_DTYPE_F32, 3, 10, STATES, 1, NULL);
        src[3] = runs_leaf(&r, wrong[i], 1);
        y = sh_op_node(&r.g, SH_OP_STATE_CONV, 4, src, NULL);
        assert_int_equal(sh_graph_status(&r.g, &err), SHOAL_OK);
        sh_graph_set_output(&r.g, y);
        assert_int_equal(rig_run_on(&r, rig_devices.config[0].d, y, &byte, 1, &err),
                         SHOAL_ERR_FORMAT);
        assert_non_null(strstr(err.message, "run 0 has rows"));
        rig_release(&r);
    }
}

/* The result takes over memory in which another result was: rows of no run are zeros all the same.
 */
static void state__rows_without_run_are_zeros(void **state)
{
    static const double one_run[4] = {2, 3, -1, 0};

    (void)state;
    for (int scan = 0; scan < 2; scan++) {
        const int64_t width = scan ? 48 : 100, rows = 11;
        struct rig r;
        const double *v[8];
        double *got;
        int32_t src[9], before, y;
        rig_init(&r, 0, 0, 0);
        if (scan) {
            scan_sources(&r, 8, 6, 16, 2, rows, src, v);
        } else {
            src[0] = rig_random_leaf(&r, SH_DTYPE_F32, width, rows, 1, 1, NULL);
            src[1] = rig_random_leaf(&r, SH_DTYPE_F32, 4, width, 1, 1, NULL);
            src[2] = rig_random_leaf(&r, SH_DTYPE_F32, 3, width, STATES, 1, NULL);
        }
        src[scan ? 8 : 3] = runs_leaf(&r, one_run, 1);
        before = sh_op_scale(&r.g, src[0], 0, 7);
        sh_graph_set_output(&r.g, sh_op_node(&r.g, SH_OP_SUM_ROWS, 1, &before, NULL));
        y = sh_op_node(&r.g, scan ? SH_OP_STATE_SCAN : SH_OP_STATE_CONV, scan ? 9 : 4, src, NULL);
        got = rig_run(&r, y);
        for (int64_t i = 0; i < width * rows; i++) {
            const bool has_run = i / width >= 2 && i / width < 5;
            if (!has_run) assert_true(got[i] == 0);
            if (has_run && i % width == 0) assert_true(got[i] != 0);
        }
        sh_free(got);
        rig_release(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state__conv),
        cmocka_unit_test(state__scan),
        cmocka_unit_test(state__cuts_change_no_bit),
        cmocka_unit_test(state__wrong_runs_are_refused),
        cmocka_unit_test(state__rows_without_run_are_zeros),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
