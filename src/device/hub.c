/* device/hub.c - the collective of shards that are threads of one process.
 *
 * A sum is a round, found by (session, step, sum).  Each shard copies its vectors into the round,
 * and when all are there each reads the others' where they lie:
 *
 *     ABSENT --start--> COPYING --> HERE --finish, or the step failed--> GONE
 *
 * The vectors of a shard that is GONE stay until nobody is left in the round: others may still
 * read them.  Then the round goes to the spare list with its memory, so a steady user stops
 * allocating.  Failed steps are remembered in a ring: a shard that comes late is told at once.
 *
 * Threads: any; `lock` guards rounds, states and the ring, not the vectors: those of a shard
 * belong to it while COPYING and are constant from then on.
 */
#include "device/collective.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"

#define PARTS_MAX 3
#define FAILURES_MAX 64

enum shard_state { SHARD_ABSENT, SHARD_COPYING, SHARD_HERE, SHARD_GONE };

struct contribution {
    enum shard_state state;
    int n_parts;
    struct sh_sum_part parts[PARTS_MAX]; // data points into `memory`
    float *memory;
    size_t capacity; // floats
};

struct round {
    struct round *next;
    uint64_t session, step;
    int sum;
    struct contribution shards[SH_SHARDS_MAX];
};

struct failure {
    uint64_t session, step;
    enum shoal_status code; // SHOAL_OK: free
    char message[256];
};

struct sh_hub {
    struct sh_mutex lock; // guards everything below, as the file comment says
    struct sh_cond changed;
    int n_shards;
    struct round *active, *spare;
    struct failure failures[FAILURES_MAX];
    size_t n_failures; // ever; the ring's next place is this modulo its size
    struct sh_collective records[SH_SHARDS_MAX];
};

static struct sh_hub *hub_of(const struct sh_collective *c)
{
    return c->self;
}

/* ---- under the lock -------------------------------------------------------------------------*/

static const struct failure *find_failure(const struct sh_hub *h, const struct sh_collective *c)
{
    for (size_t i = 0; i < FAILURES_MAX; i++) {
        const struct failure *f = &h->failures[i];
        if (f->code && f->session == c->session && f->step == c->step) return f;
    }
    return NULL;
}

static struct round *find_round(const struct sh_hub *h, const struct sh_collective *c, int sum)
{
    for (struct round *r = h->active; r; r = r->next) {
        if (r->session == c->session && r->step == c->step && r->sum == sum) return r;
    }
    return NULL;
}

/* A round for this sum, new if need be; NULL when out of memory. */
static struct round *get_round(struct sh_hub *h, const struct sh_collective *c, int sum)
{
    struct round *r = find_round(h, c, sum);

    if (r) return r;
    r = h->spare;
    if (r) {
        h->spare = r->next;
    } else {
        r = sh_calloc(1, sizeof *r);
        if (!r) return NULL;
    }
    r->session = c->session;
    r->step = c->step;
    r->sum = sum;
    r->next = h->active;
    h->active = r;
    return r;
}

static bool round_over(const struct sh_hub *h, const struct round *r)
{
    for (int s = 0; s < h->n_shards; s++) {
        const enum shard_state state = r->shards[s].state;
        if (state == SHARD_COPYING || state == SHARD_HERE) return false;
    }
    return true;
}

static void recycle_if_over(struct sh_hub *h, struct round *over)
{
    if (!round_over(h, over)) return;
    for (struct round **at = &h->active; *at; at = &(*at)->next) {
        if (*at != over) continue;
        *at = over->next;
        over->next = h->spare;
        h->spare = over;
        for (int s = 0; s < h->n_shards; s++)
            over->shards[s].state = SHARD_ABSENT;
        return;
    }
}

/* The shard of `c` has nothing to do with the rounds of its step any more. */
static void leave_step(struct sh_hub *h, const struct sh_collective *c)
{
    struct round *next;

    for (struct round *r = h->active; r; r = next) {
        next = r->next;
        if (r->session != c->session || r->step != c->step) continue;
        if (r->shards[c->rank].state == SHARD_HERE) r->shards[c->rank].state = SHARD_GONE;
        recycle_if_over(h, r);
    }
}

static enum shoal_status report_failure(const struct failure *f, struct shoal_error *err)
{
    return sh_fail(err, f->code, "%s", f->message);
}

static bool has_vectors(const struct contribution *c)
{
    return c->state == SHARD_HERE || c->state == SHARD_GONE;
}

static bool all_here(const struct sh_hub *h, const struct round *r)
{
    for (int s = 0; s < h->n_shards; s++) {
        if (!has_vectors(&r->shards[s])) return false;
    }
    return true;
}

/* Do the shards that are here mean the same sum? */
static enum shoal_status check_alike(const struct sh_hub *h, const struct round *r, int rank,
                                     struct shoal_error *err)
{
    const struct contribution *mine = &r->shards[rank];

    for (int s = 0; s < h->n_shards; s++) {
        const struct contribution *other = &r->shards[s];
        bool alike = other->n_parts == mine->n_parts;
        if (s == rank || !has_vectors(other)) continue;
        for (int p = 0; alike && p < mine->n_parts; p++) {
            alike = other->parts[p].n_elem == mine->parts[p].n_elem &&
                    other->parts[p].n_rows == mine->parts[p].n_rows;
        }
        if (!alike) {
            return sh_fail(err, SHOAL_ERR_FORMAT, "sum %d has other sizes on shards %d and %d",
                           r->sum, rank, s);
        }
    }
    return SHOAL_OK;
}

/* ---- the collective -------------------------------------------------------------------------*/

/* Copy the parts into this shard's place of the round; the shard is COPYING, no lock is held. */
static enum shoal_status copy_parts(struct contribution *mine, int n_parts,
                                    const struct sh_sum_part *parts, struct shoal_error *err)
{
    size_t total = 0, at = 0;

    for (int p = 0; p < n_parts; p++)
        total += (size_t)(parts[p].n_elem * parts[p].n_vec * parts[p].n_rows);
    if (total > mine->capacity) {
        float *memory = sh_realloc_array(mine->memory, total, sizeof *memory);
        if (!memory)
            return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %zu values of a sum", total);
        mine->memory = memory;
        mine->capacity = total;
    }
    mine->n_parts = n_parts;
    for (int p = 0; p < n_parts; p++) {
        const size_t n = (size_t)(parts[p].n_elem * parts[p].n_vec * parts[p].n_rows);
        mine->parts[p] = parts[p];
        mine->parts[p].data = mine->memory ? mine->memory + at : NULL;
        if (n) memcpy(mine->memory + at, parts[p].data, n * sizeof(float));
        at += n;
    }
    return SHOAL_OK;
}

static enum shoal_status hub_start(struct sh_collective *c, int sum, int n_parts,
                                   const struct sh_sum_part *parts, struct shoal_error *err)
{
    struct sh_hub *h = hub_of(c);
    const struct failure *f;
    struct round *r = NULL;
    enum shoal_status st = SHOAL_OK;

    if (n_parts < 1 || n_parts > PARTS_MAX)
        return sh_fail(err, SHOAL_ERR_ARG, "a sum has 1 to %d operands, not %d", PARTS_MAX,
                       n_parts);
    sh_mutex_lock(&h->lock);
    f = find_failure(h, c);
    if (f) {
        st = report_failure(f, err);
    } else {
        r = get_round(h, c, sum);
        if (!r) {
            st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for sum %d", sum);
        } else if (r->shards[c->rank].state != SHARD_ABSENT) {
            st = sh_fail(err, SHOAL_ERR_STATE, "shard %d began sum %d twice", c->rank, sum);
        } else {
            r->shards[c->rank].state = SHARD_COPYING;
        }
    }
    sh_mutex_unlock(&h->lock);
    if (st) return st;

    st = copy_parts(&r->shards[c->rank], n_parts, parts, err);
    sh_mutex_lock(&h->lock);
    if (!st) st = check_alike(h, r, c->rank, err);
    r->shards[c->rank].state = st ? SHARD_ABSENT : SHARD_HERE;
    recycle_if_over(h, r);
    sh_cond_broadcast(&h->changed);
    sh_mutex_unlock(&h->lock);
    return st;
}

static enum shoal_status hub_poll(struct sh_collective *c, int sum, bool *done,
                                  struct shoal_error *err)
{
    struct sh_hub *h = hub_of(c);
    const struct failure *f;
    const struct round *r;
    enum shoal_status st = SHOAL_OK;

    *done = false;
    sh_mutex_lock(&h->lock);
    r = find_round(h, c, sum);
    f = find_failure(h, c);
    if (f) {
        st = report_failure(f, err);
        leave_step(h, c);
    } else if (!r || r->shards[c->rank].state != SHARD_HERE) {
        st = sh_fail(err, SHOAL_ERR_STATE, "shard %d polls sum %d before it began", c->rank, sum);
    } else {
        *done = all_here(h, r);
    }
    sh_mutex_unlock(&h->lock);
    return st;
}

static const float *hub_peer(struct sh_collective *c, int sum, int part, int rank)
{
    struct sh_hub *h = hub_of(c);
    const struct round *r;
    const float *data = NULL;

    sh_mutex_lock(&h->lock);
    r = find_round(h, c, sum);
    if (r && rank >= 0 && rank < h->n_shards && has_vectors(&r->shards[rank]) && part >= 0 &&
        part < r->shards[rank].n_parts) {
        data = r->shards[rank].parts[part].data;
    }
    sh_mutex_unlock(&h->lock);
    return data;
}

static void hub_finish(struct sh_collective *c, int sum)
{
    struct sh_hub *h = hub_of(c);
    struct round *r;

    sh_mutex_lock(&h->lock);
    r = find_round(h, c, sum);
    if (r && r->shards[c->rank].state == SHARD_HERE) {
        r->shards[c->rank].state = SHARD_GONE;
        recycle_if_over(h, r);
    }
    sh_mutex_unlock(&h->lock);
}

/* Would a poll of some sum of this step say anything but "not yet"? */
static bool has_news(const struct sh_hub *h, const struct sh_collective *c)
{
    if (find_failure(h, c)) return true;
    for (const struct round *r = h->active; r; r = r->next) {
        if (r->session != c->session || r->step != c->step) continue;
        if (r->shards[c->rank].state == SHARD_HERE && all_here(h, r)) return true;
    }
    return false;
}

static void hub_sleep(struct sh_collective *c, int64_t timeout_ns)
{
    struct sh_hub *h = hub_of(c);

    sh_mutex_lock(&h->lock);
    if (!has_news(h, c)) (void)sh_cond_wait(&h->changed, &h->lock, timeout_ns);
    sh_mutex_unlock(&h->lock);
}

static void hub_abandon(struct sh_collective *c, enum shoal_status code, const char *message)
{
    struct sh_hub *h = hub_of(c);

    sh_mutex_lock(&h->lock);
    if (!find_failure(h, c)) {
        struct failure *f = &h->failures[h->n_failures++ % FAILURES_MAX];
        *f = (struct failure){.session = c->session, .step = c->step, .code = code};
        (void)snprintf(f->message, sizeof f->message, "shard %d: %s", c->rank, message);
    }
    leave_step(h, c);
    sh_cond_broadcast(&h->changed);
    sh_mutex_unlock(&h->lock);
}

static const struct sh_collective_ops hub_ops = {.start = hub_start,
                                                 .poll = hub_poll,
                                                 .peer = hub_peer,
                                                 .finish = hub_finish,
                                                 .sleep = hub_sleep,
                                                 .abandon = hub_abandon};

enum shoal_status sh_hub_create(struct sh_hub **out, int n_shards, struct shoal_error *err)
{
    struct sh_hub *h;

    *out = NULL;
    if (n_shards < 1 || n_shards > SH_SHARDS_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "a stage of %d shards is not possible (1 to %d)",
                       n_shards, SH_SHARDS_MAX);
    }
    h = sh_calloc(1, sizeof *h);
    if (!h) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the hub of %d shards", n_shards);
    sh_mutex_init(&h->lock);
    sh_cond_init(&h->changed);
    h->n_shards = n_shards;
    for (int s = 0; s < n_shards; s++) {
        h->records[s] =
            (struct sh_collective){.ops = &hub_ops, .self = h, .n_shards = n_shards, .rank = s};
    }
    *out = h;
    return SHOAL_OK;
}

static void free_rounds(struct round *r)
{
    while (r) {
        struct round *next = r->next;
        for (int s = 0; s < SH_SHARDS_MAX; s++)
            sh_free(r->shards[s].memory);
        sh_free(r);
        r = next;
    }
}

void sh_hub_destroy(struct sh_hub *h)
{
    if (!h) return;
    free_rounds(h->active);
    free_rounds(h->spare);
    sh_cond_release(&h->changed);
    sh_mutex_release(&h->lock);
    sh_free(h);
}

const struct sh_collective *sh_hub_shard(const struct sh_hub *h, int rank)
{
    SH_ASSERT(rank >= 0 && rank < h->n_shards);
    return &h->records[rank];
}
