/* stage/slot.h - host memory of one step in flight, allocated once at the stage's maxima.
 *
 * What a step writes to the device must stay until its ticket is complete, and what it reads needs
 * a place to land: each of the stage's slots holds both.  No step allocates.
 * Threads: the stage's.
 */
#ifndef STAGE_SLOT_H
#define STAGE_SLOT_H

#include "stage/stage.h"
#include "stage/tables.h"

struct sh_slot {
    bool busy;                  /* from submit to the release of its output */
    bool finished;              /* its result was given out */
    const struct sh_step *step; /* the caller's, until the result */
    uint64_t number;
    sh_ticket run;             /* of the submitted graph */
    sh_ticket ticket;          /* of the last operation */
    enum shoal_status refused; /* of submitting: the step failed before it ran */
    struct shoal_error error;
    int64_t start_ns;
    int32_t n_wanted;

    struct sh_collective collective; /* of this run, where the stage is a shard */

    int32_t *tokens;               /* [T] */
    int32_t *pos;                  /* [T][4] */
    int32_t *rows;                 /* [T][4] */
    int32_t *out;                  /* [O] */
    int32_t *states;               /* [R][4] */
    int32_t *pages;                /* [n_index][2], for SHIFT */
    int32_t *table[SH_GROUPS_MAX]; /* copies of what is sent */
    char *packed;                  /* inputs of a lowered graph, packed; NULL without lowering */
    size_t packed_bytes;

    float *output;                 /* [T][width] hidden rows, or [O][n_vocab] logits */
    struct sh_row_result *results; /* [O] */
    struct sh_candidate *top;      /* candidates of all TOP_K results */
    int32_t n_top_max;
};

struct sh_slot_sizes {
    const struct sh_step_limits *limits;
    int64_t output_floats;
    bool last;
    size_t packed_bytes; /* 0: none */
};
SHOAL_NODISCARD enum shoal_status sh_slot_init(struct sh_slot *s, const struct sh_slot_sizes *z,
                                               struct shoal_error *err);
void sh_slot_release(struct sh_slot *s);

/* Fill tokens, pos, rows, out and states from the step. */
void sh_slot_fill(struct sh_slot *s, const struct sh_step *step);

/* Turn logits in `output` into results (sampling, top-k) once the step has run.  `work` has room
 * for n_vocab candidates. */
SHOAL_NODISCARD enum shoal_status sh_slot_results(struct sh_slot *s, int32_t n_vocab,
                                                  struct sh_candidate *work,
                                                  struct shoal_error *err);

#endif
