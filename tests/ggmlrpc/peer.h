/* tests/ggmlrpc/peer.h - a client made of hand-written frames, and the server it talks to.
 *
 * A peer is one end of a stream; the server serves the other end in a thread of its own, whose
 * result peer_end() returns.  Helpers assert that what should work does.
 */
#ifndef TESTS_GGMLRPC_PEER_H
#define TESTS_GGMLRPC_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/thread.h"
#include "ggmlrpc/server.h"
#include "ggmlrpc/wire.h"
#include "net/stream.h"
#include "net/tcp.h"

struct peer {
    struct sh_stream *s;
    struct sh_ggmlrpc_server *server;
    struct sh_stream *far; /* the server's end; NULL over TCP */
    pthread_t thread;
    enum shoal_status st;
    struct shoal_error err;
};

/* Over memory, served in a thread; or connected to the server's listener. */
void peer_open(struct peer *p, struct sh_ggmlrpc_server *server);
void peer_connect(struct peer *p, const char *address);
void peer_hello(struct peer *p);
/* Close our end; over memory, join and return why the server ended (p->err has the message). */
enum shoal_status peer_end(struct peer *p);
/* The server must close by itself, without another byte. */
enum shoal_status peer_expect_end(struct peer *p);

void peer_raw(struct peer *p, const void *bytes, size_t n);
/* A header with any size. */
void peer_header(struct peer *p, unsigned command, uint64_t size);
void peer_send(struct peer *p, enum sh_wire_command command, const struct sh_wire_request *rq,
               const void *data, size_t n);
void peer_answer(struct peer *p, enum sh_wire_command command, struct sh_wire_answer *a);
void peer_receive(struct peer *p, void *dst, size_t n);

struct peer_buffer {
    uint64_t token, base;
    size_t bytes;
};
void peer_alloc(struct peer *p, size_t bytes, struct peer_buffer *out);
/* A dense tensor inside a buffer. */
struct sh_wire_tensor peer_tensor(const struct peer_buffer *b, size_t offset, uint32_t type,
                                  uint32_t ne0, uint32_t ne1);
void peer_set(struct peer *p, const struct peer_buffer *b, size_t offset, const void *src,
              size_t n);
void peer_get(struct peer *p, const struct peer_buffer *b, size_t offset, void *dst, size_t n);

/* A graph on the wire, to be damaged. */
#define PEER_RECORDS 16
struct peer_graph {
    uint32_t device;
    uint64_t nodes[PEER_RECORDS];
    uint32_t n_nodes;
    struct sh_wire_tensor records[PEER_RECORDS];
    uint32_t n_records;
    uint32_t say_nodes, say_records; /* counts to claim instead, 0 = the true ones */
    size_t cut, more;                /* bytes left out at the end, or appended */
};
void peer_compute(struct peer *p, const struct peer_graph *g);
/* c = a + b over n floats at offsets 0, 4n, 8n of a buffer: records 1, 2, 3. */
void peer_graph_add(struct peer_graph *g, const struct peer_buffer *b, uint32_t n);

/* Lines that the program logged since the last call, joined; and how many. */
void peer_log_begin(void);
int peer_log_take(char *out, size_t size);

#endif
