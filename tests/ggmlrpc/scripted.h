/* tests/ggmlrpc/scripted.h - a server that does what a test tells it, right or wrong.
 *
 * It answers every command in some valid way and writes down what came, unless the test's hook
 * takes the command over.  Data is not kept: every tensor reads as zeros.
 * Threads: the hook runs in the server's; what is written down is read after scripted_end().
 */
#ifndef TESTS_GGMLRPC_SCRIPTED_H
#define TESTS_GGMLRPC_SCRIPTED_H

#include "base/thread.h"
#include "peer.h"

#define SCRIPTED_SEEN_MAX 4096

struct scripted;

enum scripted_action {
    SCRIPTED_DEFAULT, /* answer as usual */
    SCRIPTED_HANDLED, /* the hook did what there was to do */
    SCRIPTED_HANG_UP  /* close the connection */
};
typedef enum scripted_action scripted_hook(struct scripted *sc, unsigned command,
                                           const struct sh_wire_request *rq, uint64_t size);

struct scripted {
    struct sh_stream *near; /* for the client */
    struct sh_stream *far;
    pthread_t thread;
    scripted_hook *hook;
    int step;            /* the hook's own */
    uint64_t alloc_size; /* answer of GET_ALLOC_SIZE */
    uint64_t next_buffer;
    struct sh_mutex lock; /* guards let_go */
    struct sh_cond changed;
    bool let_go;
    uint8_t seen[SCRIPTED_SEEN_MAX];
    uint64_t sizes[SCRIPTED_SEEN_MAX]; /* of the request; of the buffer for ALLOC_BUFFER */
    int n_seen;
};

void scripted_begin(struct scripted *sc, scripted_hook *hook);
/* The client's end must be closed already. */
void scripted_end(struct scripted *sc);
void scripted_send(struct scripted *sc, const void *bytes, size_t n);
void scripted_answer(struct scripted *sc, unsigned command, const struct sh_wire_answer *a);
/* How often a command has come; after scripted_end(). */
int scripted_count(struct scripted *sc, unsigned command);
/* Do nothing until the test lets go. */
void scripted_hold(struct scripted *sc);
void scripted_let_go(struct scripted *sc);
/* Wait until no byte arrives any more: the client has gone. */
void scripted_drain(struct scripted *sc);

#endif
