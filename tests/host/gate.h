/* tests/host/gate.h - a worker behind a listener that looks at what passes: frames are counted by
 * purpose and message, links are cut in the middle of rows, or not let in.
 *
 * The worker is a server of rpc/server.h over the CPU, plain, on loopback.  It tells hosts no other
 * address than the gate's.
 */
#ifndef TESTS_HOST_GATE_H
#define TESTS_HOST_GATE_H

#include "base/thread.h"
#include "net/listener.h"
#include "rpc/conn.h"
#include "rpc/server.h"

enum { GATE_CONNS = 64 };

struct gate;

/* One direction of a connection: where in which frame it is. */
struct gate_meter {
    uint8_t head[SH_RPC_HEAD_BYTES];
    size_t n_head, skip, at; /* skip: bytes until the next head; at: of the payload so far */
    uint16_t type;
    uint64_t frames[SH_RPC_TYPE_COUNT];
};

struct gate_conn {
    struct gate *gate;
    struct sh_stream *stream; /* NULL: over; under the gate's lock */
    struct sh_thread thread;
    int purpose; /* of HELLO; -1: not known yet */
    struct gate_meter in, out;
};

struct gate {
    struct sh_device *device;
    struct sh_ledger *ledger;
    struct sh_blobs *blobs;
    struct sh_rpc_server *server;
    struct sh_listener *listener;
    char address[SH_ADDRESS_TEXT_MAX];
    struct sh_thread accepting;
    struct sh_mutex lock; /* all below, and meters */
    int n;
    struct gate_conn conn[GATE_CONNS];
    bool refuse_links;
    int cut_every;         /* cut a link in the middle of every so many'th HIDDEN; 0: never */
    bool refuse_after_cut; /* and let none in again */
    int n_hidden, n_cuts;  /* on links */
};

/* `features` 0: all.  `redial_ns`: how long broken links are dialled again; 0: as ever. */
void gate_open(struct gate *g, uint64_t features, int64_t redial_ns);
void gate_close(struct gate *g); /* the worker has nothing left, or soon */

/* Frames of this kind, over all connections of the purpose, into the worker and out of it. */
uint64_t gate_frames(struct gate *g, enum sh_rpc_purpose purpose, enum sh_rpc_type type, bool in);
int gate_connections(struct gate *g, enum sh_rpc_purpose purpose);

#endif
