/* tests/generate/run.h - running a drawn graph on the CPU device in several ways.
 *
 * A way is a tier of kernels, a number of threads, the side of the guard pages, and what memory
 * holds before: results may depend on none of them.  An outcome keeps the bytes of everything that
 * can be seen afterwards.
 * Threads: one at a time.
 */
#ifndef TESTS_GENERATE_RUN_H
#define TESTS_GENERATE_RUN_H

#include "device/device.h"
#include "gen.h"
#include "guard_mem.h"

#define RUN_DEVICES_MAX 8

struct run_devices {
    struct {
        struct sh_device *d;
        unsigned isa;
        int n_threads;
    } at[RUN_DEVICES_MAX];
    int n;
};

struct run_way {
    int device; /* index */
    enum guard_side side;
    uint8_t filler; /* of buffers before the run */
    bool dirty;     /* scratch and work memory hold what another run left */
    bool stepwise;  /* every node is prepared and run by itself */
};

struct run_outcome {
    enum shoal_status st;
    struct shoal_error err;
    bool prepared;     /* the graph was accepted */
    bool wrote;        /* into an import */
    bool late;         /* a wait ran out of time */
    uint8_t **buffers; /* contents behind the run, by buffer; owned */
    uint8_t **outputs; /* of scratch, by tensor; NULL where nothing was read; owned */
    int32_t n_buffers, n_tensors;
};

/* All tiers of this processor, with one and three threads.  False if one does not open. */
bool run_open(struct run_devices *all);
void run_close(struct run_devices *all);

void run_graph(struct gen *g, const struct run_devices *all, struct run_way way, uint64_t data_seed,
               struct run_outcome *out);
void run_release(struct run_outcome *o);

/* First byte of a tensor after the run; NULL if it cannot be seen. */
const uint8_t *run_bytes(const struct gen *g, const struct run_outcome *o, int32_t tensor);
/* A tensor's extents as bound. */
void run_extents(const struct gen *g, int32_t tensor, int64_t ne[SH_MAX_DIMS]);
/* Does the run compute it? */
bool run_computes(const struct gen *g, int32_t tensor);

/* Are all results of two runs equal, NaN being one value?  Else `why` says where not.  The graphs
 * are the same but for places. */
bool run_equal(const struct gen *g, const struct run_outcome *a, const struct gen *h,
               const struct run_outcome *b, char *why, size_t size);
/* Are whole buffers equal, gaps and rows beyond the bound extents included?  Only for runs with
 * the same filler, and where there are no NaN. */
bool run_equal_buffers(const struct gen *g, const struct run_outcome *a,
                       const struct run_outcome *b, char *why, size_t size);

#endif
