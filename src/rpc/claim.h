/* rpc/claim.h - what a stage takes of a worker's memory, counted alike by both ends.
 *
 *     cache     KV pages, states and tables, as the device lays them out
 *     scratch   results of nodes, for every step in flight; weights that the device cannot use
 *               where they lie (slices and stacks, and all where it does not share memory)
 *     places    inputs, tables and outputs of steps in flight, kept results with them
 *
 * A host sums them up for OPEN, and adds the bytes of the stored weights; a worker takes them of
 * what OPEN set aside before a stage gets any.  What a device needs beside (work memory of its
 * kernels) is the device's own affair.
 * Threads: pure functions.
 */
#ifndef RPC_CLAIM_H
#define RPC_CLAIM_H

#include "device/device.h"
#include "rpc/codec.h"
#include "stage/step.h"

struct sh_rpc_claim_of {
    const struct sh_graph *graph;
    const struct sh_graph *rotate; /* NULL or empty: none */
    const struct sh_step_limits *limits;
    int n_slots;
    bool first, last;
    enum sh_device_kind kind; /* of the device */
};
/* Fill cache, scratch and places of `out`; weights is 0 then.  The graph is one that a stage of
 * these limits can run (ERR_ARG, ERR_FORMAT, ERR_UNSUPPORTED say why not): whole, with leaves as
 * large as the limits, and fed by what a step has. */
SHOAL_NODISCARD enum shoal_status sh_rpc_claim_count(struct sh_rpc_claim *out,
                                                     const struct sh_rpc_claim_of *of,
                                                     struct shoal_error *err);
/* Elements of the rows that a stage takes in: hidden, or (first) embeddings; 0: none.  And of those
 * that it gives: hidden, or logits. */
int64_t sh_rpc_claim_width_in(const struct sh_graph *g, bool first);
int64_t sh_rpc_claim_width_out(const struct sh_graph *g);

#endif
