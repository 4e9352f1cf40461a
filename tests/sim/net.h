/* tests/sim/net.h - a network in memory, on the scheduler's clock.
 *
 * net.c defines what net/tcp.h and net/listener.h declare, so the program's connections run here;
 * interfaces.c the system's list of interfaces, in which a node finds its own address.
 * Machines are nodes ("10.0.0.<node>"); a process runs on one of them.  Each pair of nodes has a
 * link with a delay and a rate.  A connection carries bytes in segments of drawn sizes through
 * buffers that fill up; reads and writes are partial now and then.  What the system's TCP does when
 * something breaks is done here, too: resets, orderly ends, keep-alive, the limit on unread data.
 *
 * Faults are calls made by whoever plays the fate: from events or between steps.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NET_NODES_MAX = 32 };

struct net_shape {
    int64_t delay_ns, jitter_ns;
    double bytes_per_ns;
    size_t buffer_bytes;
    size_t segment_max;
    uint32_t partial; /* of 1024 reads and writes are shorter than they could be */
};

void net_begin(const struct net_shape *shape);
/* Every stream and listener must be closed. */
void net_end(void);

/* The process runs on that node from now on. */
void net_place(int proc, int node);
int net_own_node(void);                               /* of the calling process */
void net_node_text(int node, int port, char out[72]); /* "10.0.0.1:50052" */

/* ---- faults --------------------------------------------------------------------------------- */

/* The process is gone for everybody else: its connections are reset, nobody listens. */
void net_kill(int proc);
/* No byte passes between both nodes until net_mend(). */
void net_pull(int node_a, int node_b);
void net_mend(int node_a, int node_b);
/* What is sent between both nodes from now on takes so many bytes per second; 0: as ever. */
void net_crawl(int node_a, int node_b, double bytes_per_s);
/* Reset all connections between both nodes. */
void net_reset(int node_a, int node_b);
/* Connections to the node are answered with a refusal; or not at all. */
void net_refuse(int node, bool on);
void net_ignore(int node, bool on);
/* Connections between both nodes are refused, as by a firewall; or never come about. */
void net_wall(int node_a, int node_b, bool silent);
/* accept() has no descriptors. */
void net_no_descriptors(int node, bool on);

/* Called when a connection from `client` to `server` has carried so many bytes since net_begin(),
 * over all connections: up (from the client) or down.  A write is cut at exactly this byte. */
typedef void net_trap_fn(void *self, int64_t a);
void net_trap(int client, int server, bool up, uint64_t at_bytes, net_trap_fn *fn, void *self,
              int64_t a);
/* The next bytes in that direction arrive changed. */
void net_corrupt(int client, int server, bool up, int n_bytes);
uint64_t net_carried(int client, int server, bool up);

#endif
