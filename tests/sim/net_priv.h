/* tests/sim/net_priv.h - the records of the simulated network (sim/net.c). */
#ifndef TESTS_SIM_NET_PRIV_H
#define TESTS_SIM_NET_PRIV_H

#include "net/listener.h"
#include "sim/net.h"

enum { BACKLOG = 8, TRAPS_MAX = 16, PROCS_MAX = 64 };
#define KEEPALIVE_NS (30 * SH_SECOND)
#define RETRY_NS SH_SECOND /* of an unanswered connection attempt */

struct pipe {
    uint8_t *ring;
    size_t start, len, arrived;
    size_t kept;                  // would have arrived over the pulled link
    int64_t line_free, last_seen; // when the line is free; when the last segment arrives
    bool end_sent, end_kept, end_arrived;
    int64_t full_since;
};

struct side {
    int node, proc;
    bool closed, cut, dead;
    int failure; // errno of every call from now on, 0: none
    int user_timeout_ms;
};

struct conn {
    struct conn *next;
    int id, n_events;
    struct pipe pipe[2]; // [i]: written by side i
    struct side side[2];
    struct sh_address from;
};

struct sim_stream {
    struct sh_stream head;
    struct conn *c;
    int side;
};

struct sh_listener {
    struct sh_listener *next;
    int node, port, proc;
    struct sh_address address;
    char text[SH_ADDRESS_TEXT_MAX];
    struct conn *queue[BACKLOG];
    int n_queue;
    bool interrupted, gone;
};

struct trap {
    int client, server;
    bool up;
    uint64_t at;
    net_trap_fn *fn;
    void *self;
    int64_t a;
};

#endif
