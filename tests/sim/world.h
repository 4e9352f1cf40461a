/* tests/sim/world.h - workers, hosts and faults on the simulated network: one seed, one story.
 *
 * The story: workers start, those of llama.cpp's protocol or shoal's own, with keys or without,
 * with model files or without; one or two hosts load a small model onto them and generate greedy
 * tokens; faults strike, at a time or at a byte.  Then all is mended, an honest host uses every
 * worker, and in the end nothing may be left anywhere.  What is held against the program:
 *
 *   - a host ends within its limits, with the tokens of an undisturbed run, or with a failure that
 *     names a worker that had a fault; a host that no fault concerns ends well, and what happens
 *     between two workers only concerns none
 *   - the honest host gets the undisturbed tokens
 *   - workers have neither sessions nor memory of clients when those are gone, and of hosts that
 *     vanished when their lease is over
 *   - no thread, stream, listener or heap block is left
 *
 * Changed bytes may change tokens in llama.cpp's protocol, which has no checksums: then the rest
 * still holds.  In shoal's they may not.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/fate.h"

enum { WORLD_LAYERS = 3, WORLD_PROMPTS = 3, WORLD_TOKENS = 12 };

/* Bytes that pass when nothing disturbs: those that one worker of two is sent, and sends. */
struct world_traffic {
    uint64_t up, down;
    uint64_t link_up, link_down; /* from worker to worker, from the one that dials */
};

struct world_model {
    const char *path, *folder;                 /* the folder that it is in */
    int32_t want[WORLD_PROMPTS][WORLD_TOKENS]; /* of an undisturbed run */
    struct world_traffic foreign, own;         /* in llama.cpp's protocol, in shoal's */
};

/* What stories of this model are measured by: undisturbed tokens and traffic. */
void world_prepare(struct world_model *m, const char *folder, const char *path);

struct world_result {
    uint64_t hash; /* of the trace */
    int n_hosts, n_good;
    int n_struck[FATE_KIND_COUNT]; /* faults of each kind */
    int64_t longest_ns;            /* of a host, beyond what its faults lasted */
};

struct world_options {
    uint64_t seed;
    bool verbose;
    const char *repeat; /* the command that repeats this seed */
};

/* Any broken promise ends the process, as sim_fail() does. */
void world_run(const struct world_model *m, const struct world_options *o, struct world_result *r);

#endif
