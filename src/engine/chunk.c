/* engine/chunk.c - see engine/chunk.h. */
#include "engine/chunk.h"

#include <math.h>

#define FADE 0.98 /* what a step's weight falls to with each newer one */
#define GUESS_AB                                                                                   \
    16.            /* a / b of a stage nobody has measured: a step costs as much as so many rows */
#define GUESS 0.02 /* weight of the guess against a step's 1 */
#define CLIP 2.    /* a step beyond so many times what was expected counts as that */
#define CLIP_AFTER 4 /* steps */
#define SPREAD 0.2   /* sizes seen must differ by so much of their mean, or another one is tried */
#define SLACK 1.005  /* larger chunks are preferred where they cost no more than this */
#define LONGEST 2e9  /* nanoseconds of a chunk at a stage, where there are several */

void sh_chunk_init(struct sh_chunk_model *m, int n_stages)
{
    *m = (struct sh_chunk_model){.n_stages = n_stages < 1 ? 1 : n_stages};
    if (m->n_stages > SH_STATION_TIMINGS_MAX) m->n_stages = SH_STATION_TIMINGS_MAX;
    for (int i = 0; i < m->n_stages; i++)
        m->stage[i].cost = (struct sh_chunk_cost){.a = GUESS_AB, .b = 1};
}

/* ---- fitting -------------------------------------------------------------------------------- */

static double cost_of(const struct sh_chunk_cost *c, double rows, double before)
{
    return c->a + c->b * rows + c->d * rows * (before + rows / 2);
}

// Solve the normal equations over the unknowns in `use` (bits); the others are 0.  False: singular
// or negative.
static bool solve(const struct sh_chunk_fit *f, unsigned use, double x[3])
{
    double m[3][4];
    int at[3], n = 0;

    for (int i = 0; i < 3; i++) {
        x[i] = 0;
        if (use & 1u << i) at[n++] = i;
    }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++)
            m[i][k] = f->square[at[i]][at[k]];
        m[i][n] = f->right[at[i]];
    }
    for (int i = 0; i < n; i++) { // the matrix is positive: no pivots are searched
        if (!(m[i][i] > 1e-12 * f->square[at[i]][at[i]])) return false;
        for (int r = i + 1; r < n; r++) {
            const double k = m[r][i] / m[i][i];
            for (int c = i; c <= n; c++)
                m[r][c] -= k * m[i][c];
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        double v = m[i][n];
        for (int k = i + 1; k < n; k++)
            v -= m[i][k] * x[at[k]];
        x[at[i]] = v / m[i][i];
        if (!(x[at[i]] >= 0)) return false;
    }
    return true;
}

// How much of the squared error a solution takes away.
static double gain(const struct sh_chunk_fit *f, const double x[3])
{
    double g = 0;

    for (int i = 0; i < 3; i++) {
        g += 2 * x[i] * f->right[i];
        for (int k = 0; k < 3; k++)
            g -= x[i] * f->square[i][k] * x[k];
    }
    return g;
}

// Least squares with no negative cost: the best of all sets of unknowns that are not 0.
static void fit(struct sh_chunk_fit *f)
{
    double best = 0, x[3];

    for (unsigned use = 1; use < 8; use++) {
        if (!solve(f, use, x)) continue;
        const double g = gain(f, x);
        if (g <= best) continue;
        best = g;
        f->cost = (struct sh_chunk_cost){x[0], x[1], x[2]};
    }
}

// Add the equation x[0] a + x[1] b + x[2] d = y.
static void add(struct sh_chunk_fit *f, const double x[3], double y)
{
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++)
            f->square[i][k] += x[i] * x[k];
        f->right[i] += x[i] * y;
    }
}

static void observe(struct sh_chunk_fit *f, double rows, double before, double ns, double guess_ab)
{
    const double expected = cost_of(&f->cost, rows, before);
    const struct sh_chunk_fit old = *f;

    if (f->n >= CLIP_AFTER && expected > 0) {
        if (ns > CLIP * expected) ns = CLIP * expected;
        if (ns < expected / CLIP) ns = expected / CLIP;
    }
    if (ns < 1000) ns = 1000; // the clock's step
    const double seen[3] = {1 / ns, rows / ns, rows * (before + rows / 2) / ns};
    for (int i = 0; i < 3; i++) {
        f->right[i] = FADE * old.right[i];
        for (int k = 0; k < 3; k++)
            f->square[i][k] = FADE * old.square[i][k];
    }
    add(f, seen, 1);
    f->scale = f->n ? FADE * old.scale + (1 - FADE) * ns / rows : ns / rows;
    f->n++;

    // What the steps say nothing of: a is a few rows' worth, positions cost little.
    struct sh_chunk_fit with = *f;
    const double ab[3] = {GUESS / (GUESS_AB * f->scale), -guess_ab * GUESS / (GUESS_AB * f->scale),
                          0};
    const double d[3] = {0, 0, GUESS * 1000 / f->scale};
    add(&with, ab, 0);
    add(&with, d, 0);
    fit(&with);
    f->cost = with.cost;
}

void sh_chunk_observe(struct sh_chunk_model *m, const struct sh_station_timing *timings, int n,
                      int64_t rows, int64_t before, int64_t submitted_ns)
{
    const double submitted = (double)submitted_ns;
    double end = submitted;

    for (int i = 0; i < n; i++) {
        const struct sh_station_timing *t = &timings[i];
        const double arrived = submitted + (double)t->wait_us * 1e3;
        const double compute = (double)t->compute_us * 1e3;
        if (t->stage >= (uint32_t)m->n_stages) continue;
        if (rows >= SH_CHUNK_STEP) {
            // Rows of the step before may have been on the same way until then.
            const double began = fmax(end, m->arrived[t->stage]);
            observe(&m->stage[t->stage], (double)rows, (double)before, compute, GUESS_AB);
            if (i > 0 && t->stage > 0)
                observe(&m->way[t->stage], (double)rows, 0, fmax(arrived - began, 0), 0);
        }
        m->arrived[t->stage] = arrived;
        end = arrived + (double)t->queue_us * 1e3 + compute;
    }
}

/* ---- choosing ------------------------------------------------------------------------------- */

enum { PLACES_MAX = 2 * SH_STATION_TIMINGS_MAX }; /* ways and stages in turn */

static const struct sh_chunk_cost *cost_at(const struct sh_chunk_model *m, int place)
{
    return place % 2 ? &m->stage[place / 2].cost : &m->way[place / 2].cost;
}

// A chunk goes through: when each place is free again.
static void go_through(const struct sh_chunk_model *m, double *free_at, int64_t rows,
                       int64_t before)
{
    double end = 0;

    for (int i = 0; i < 2 * m->n_stages; i++) {
        end = fmax(end, free_at[i]) + cost_of(cost_at(m, i), (double)rows, (double)before);
        free_at[i] = end;
    }
}

// When each place is free of what is in the pipeline, by the clock of the oldest chunk's start.
static void follow(const struct sh_chunk_model *m, const struct sh_chunk *ahead, int n_ahead,
                   double *free_at)
{
    for (int i = 0; i < 2 * m->n_stages; i++)
        free_at[i] = 0;
    for (int i = 0; i < n_ahead; i++)
        go_through(m, free_at, ahead[i].rows, ahead[i].before);
}

// As sh_chunk_predict(), from where each place is free.
static double predict(const struct sh_chunk_model *m, const double *free_at, int64_t rows,
                      int64_t left, int64_t before)
{
    const int64_t chunks = (left + rows - 1) / rows, last = left - (chunks - 1) * rows;
    const int64_t first = chunks > 1 ? rows : left, others = left - first;
    const int n = 2 * m->n_stages;
    double end[PLACES_MAX], longest = 0, emptied = 0;

    for (int i = 0; i < n; i++)
        end[i] = free_at[i];
    go_through(m, end, first, before);
    for (int i = n - 1; i >= 0; i--) {
        const struct sh_chunk_cost *c = cost_at(m, i);
        // Sums of c and of c (n + c / 2) do not depend on the cuts: one chunk, a for each.
        const double rest = chunks > 1 ? cost_of(c, (double)others, (double)(before + first)) +
                                             (double)(chunks - 2) * c->a
                                       : 0;
        longest = fmax(longest, end[i] + rest + emptied);
        emptied += cost_of(c, (double)last, (double)(before + left - last));
    }
    return longest - free_at[1];
}

double sh_chunk_predict(const struct sh_chunk_model *m, const struct sh_chunk *ahead, int n_ahead,
                        int64_t rows, int64_t left, int64_t before)
{
    double free_at[PLACES_MAX];

    follow(m, ahead, n_ahead, free_at);
    return predict(m, free_at, rows, left, before);
}

static bool too_long(const struct sh_chunk_model *m, int64_t rows, int64_t before)
{
    for (int i = 0; i < m->n_stages; i++) {
        const struct sh_chunk_fit *f = &m->stage[i];
        if (f->n > 0 && cost_of(&f->cost, (double)rows, (double)before) > LONGEST) return true;
    }
    return false;
}

// Do the steps that were seen, and those on their way, tell what a step costs beside its rows?  Not
// if all have one size.
static bool knows_sizes(const struct sh_chunk_model *m, const struct sh_chunk *ahead, int n_ahead,
                        int64_t rows)
{
    const struct sh_chunk_fit *f = &m->stage[0];

    for (int i = 0; i < n_ahead; i++)
        if (ahead[i].rows >= SH_CHUNK_STEP && 4 * ahead[i].rows <= 3 * rows) return true;
    if (f->n == 0) return n_ahead == 0;
    const double mean = f->square[0][1] / f->square[0][0];
    return f->square[1][1] / f->square[0][0] - mean * mean > SPREAD * SPREAD * mean * mean;
}

int64_t sh_chunk_choose(const struct sh_chunk_model *m, const struct sh_chunk *ahead, int n_ahead,
                        int64_t left, int64_t before, int64_t rows_max)
{
    const int64_t most = left < rows_max ? left : rows_max;
    int64_t chosen = most;
    double best, free_at[PLACES_MAX];

    if (m->n_stages < 2 || most <= SH_CHUNK_STEP) return most;
    follow(m, ahead, n_ahead, free_at);
    best = too_long(m, most, before) ? INFINITY : predict(m, free_at, most, left, before);
    // From large to small: a smaller one must be better by more than the error of a measurement.
    for (int64_t rows = (most - 1) / SH_CHUNK_STEP * SH_CHUNK_STEP; rows > 0;
         rows -= SH_CHUNK_STEP) {
        if (rows > SH_CHUNK_STEP && too_long(m, rows, before)) continue;
        const double t = predict(m, free_at, rows, left, before);
        if (t * SLACK >= best) continue;
        best = t;
        chosen = rows;
    }
    // A smaller one now and then, where others follow.
    if (chosen < left && chosen > SH_CHUNK_STEP && !knows_sizes(m, ahead, n_ahead, chosen))
        chosen = (chosen / 2 + SH_CHUNK_STEP - 1) / SH_CHUNK_STEP * SH_CHUNK_STEP;
    return chosen;
}
