/* tests/sim/fate.h - what a seed decides: machines, links, faults; and what they excuse. */
#ifndef TESTS_SIM_FATE_H
#define TESTS_SIM_FATE_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/net.h"

enum { FATE_FAULTS_MAX = 4 };

/* name, whether it concerns one host only, what it is */
#define FATE_KINDS(X)                                                                              \
    X(KILL, false, "the worker dies, connections are reset")                                       \
    X(TERM, false, "the worker is told to end")                                                    \
    X(STOP, false, "the worker's process stands still")                                            \
    X(SLOW, false, "the worker's device computes for long")                                        \
    X(PULL, true, "nothing passes between host and worker")                                        \
    X(CRAWL, true, "the link between host and worker becomes slow")                                \
    X(RESET, true, "connections between host and worker are reset")                                \
    X(CORRUPT, true, "bytes between host and worker change")                                       \
    X(REFUSE, false, "the worker's machine refuses connections")                                   \
    X(IGNORE, false, "the worker's machine does not answer connections")                           \
    X(FILES, false, "the worker has no descriptors")                                               \
    X(THREAD, false, "a thread of worker or host cannot be started")                               \
    X(MEMORY, false, "an allocation fails, somewhere")                                             \
    X(SLEEP, true, "the host's process stands still")                                              \
    X(LEAVE, true, "the host's connections are reset, as if it had died")                          \
    X(CANCEL, true, "the host's user cancels, then goes on")                                       \
    X(REVOKE, true, "the worker's owner revokes the host's key")                                   \
    X(LINK_PULL, false, "nothing passes between two workers")                                      \
    X(LINK_CRAWL, false, "the link between two workers becomes slow")                              \
    X(LINK_RESET, false, "connections between two workers are reset")                              \
    X(LINK_CORRUPT, false, "bytes between two workers change")

enum fate_kind {
#define X(name, link, text) FATE_##name,
    FATE_KINDS(X)
#undef X
        FATE_KIND_COUNT
};

struct cast;
struct cast_host;

struct fault {
    struct cast *world;
    enum fate_kind kind;
    int worker, host; /* indices */
    int peer;         /* the other worker of a link */
    bool at_byte, up; /* strikes at a byte of the link, else at a time */
    uint64_t byte;
    int64_t after_ns, lasts_ns; /* SIM_NEVER: for ever */
    uint32_t number;            /* which thread or allocation; bytes, bytes per second */
    bool struck;
    int64_t struck_ns;
};

const char *fate_name(enum fate_kind kind);

struct fate {
    int n_workers, n_hosts;
    bool own;         /* workers are shoal's, else they speak llama.cpp's protocol only */
    bool with_keys;   /* of these: TLS */
    bool mixed;       /* hosts speak llama.cpp's protocol to some of them */
    bool with_models; /* they have the model's file */
    bool walled;      /* no worker reaches another */
    bool links_only;  /* nothing happens but between workers */
    int64_t lease_ns;
    int worker_threads;
    int64_t graph_ns;
    struct net_shape shape;
    struct fault fault[FATE_FAULTS_MAX];
    int n_faults;
    int tight;           /* a worker with little of what follows, -1: none has */
    size_t memory_max;   /* for clients, 0: enough */
    int connections_max; /* 0: enough */
    bool with_cache;     /* workers keep weights on disk, hosts ask for them */
    bool with_rude;      /* a client that stops in the middle of a frame */
    int n_crowd;         /* and those who come with it and say nothing */
    bool scarce;         /* threads or memory may run out: anybody may fail */
};

/* Everything that the seed decides beforehand, hosts included. */
void fate_draw(struct cast *c);
/* Two workers, one host, no faults. */
void fate_draw_nothing(struct cast *c, bool own);
/* Who is cut off from whom from the beginning. */
void fate_build_walls(const struct cast *c);
/* From now on faults strike; and no more: all is mended, workers that are gone start again. */
void fate_begin(struct cast *c);
void fate_end(struct cast *c);

/* Did a fault strike that can end this host's use of that worker? */
bool fate_concerns(const struct cast *c, const struct cast_host *h, int worker);
/* Did nothing strike that may make this host fail? */
bool fate_harmless(const struct cast *c, const struct cast_host *h);
/* Did a fault strike that makes a worker itself slow? */
bool fate_holds_up(const struct cast *c, int worker);
/* The fault of this kind that struck, NULL: none did. */
const struct fault *fate_find(const struct cast *c, enum fate_kind kind);
/* Was a worker of this host told to end? */
bool fate_ends(const struct cast *c, const struct cast_host *h);
/* Did a byte change on its way to or from this host; and one that nothing protects? */
bool fate_changes(const struct cast *c, const struct cast_host *h);
bool fate_corrupts(const struct cast *c, const struct cast_host *h);
/* How long the faults of this host lasted, as far as they end; how long it may take in all. */
int64_t fate_lasted(const struct cast *c, const struct cast_host *h);
int64_t fate_allowance(const struct cast *c, const struct cast_host *h);

#endif
