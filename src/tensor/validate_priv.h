/* tensor/validate_priv.h - the state of one validation.
 * Threads: one at a time. */
#ifndef TENSOR_VALIDATE_PRIV_H
#define TENSOR_VALIDATE_PRIV_H

#include "tensor/infer_priv.h"

struct sh_check {
    const struct sh_graph *g;
    const struct sh_buffer_bounds *buffers;
    int32_t n_buffers;
    bool allow_shoal;
    int32_t *position; /* per tensor: 1 + its index in the list of nodes, 0 = not listed */
    int32_t node;      /* being checked: index in the list, -1 = none */
    int32_t tensor;    /* being checked: number */
    int32_t n_sums;    /* SHARD_SUMs so far */
    struct shoal_error *err;
};

/* Fail with a sentence that names the node and tensor being checked; returns `code`. */
enum shoal_status sh_check_fail(const struct sh_check *c, enum shoal_status code, const char *fmt,
                                ...) SHOAL_PRINTF(3, 4);

/* Check record c->tensor by itself and against records of smaller numbers. */
SHOAL_NODISCARD enum shoal_status sh_check_record(const struct sh_check *c);

#endif
