/* tests/ggmlrpc/hostile.h - what the tests of hostile clients share: rows, and what must hold after
 * each of them.
 *
 * A row is a function that sends one wrong thing, and the words that the server's one line about it
 * must hold.  After each row the server must serve an honest client (a graph with a checked
 * result), and have the memory that it had.
 *
 * `check` names what a server of this protocol has to check; rows without one belong to the check
 * of the row before.  Each program lists the checks of its part and says for each that no row
 * names where else it is tested; hostile_every_check_is_tested() holds it to that.
 *
 *     hostile_test.c         framing, session, buffers, tensor records
 *     hostile_graph_test.c   graphs
 *     hostile_limits_test.c  time, memory, connections
 *
 * Threads: one.
 */
#ifndef TESTS_GGMLRPC_HOSTILE_H
#define TESTS_GGMLRPC_HOSTILE_H

#include "peer.h"

#define BUFFER_BYTES 4096 /* of the buffer that a row has */

typedef void row_fn(struct peer *p, const struct peer_buffer *b);

struct row {
    const char *name;
    row_fn *send;
    const char *command; /* in the log, "" where none was recognised */
    const char *reason;
    bool raw; /* no greeting and no buffer before it */
    const char *check;
};
#define ROW(name) static void name(struct peer *p, const struct peer_buffer *b)

/* A check that rows do not show, and the test that does. */
struct elsewhere {
    const char *check, *test;
};

/* The device that all servers of a program use, and the server of the rows: 1 MiB of memory. */
extern struct sh_device *g_device;
extern struct sh_ggmlrpc_server *g_server;
extern struct sh_ggmlrpc_server *g_hasty; /* for clients that stop in the middle of a frame */

int hostile_open(void **state);
int hostile_close(void **state); /* says how long honest clients had to wait */

/* An honest client from first to last byte; then nothing of anybody may be left. */
void hostile_expect_service(struct sh_ggmlrpc_server *server);
/* The same after something called `name` in messages. */
void hostile_run_table(const struct row *rows, size_t n);
#define RUN(table) hostile_run_table(table, sizeof(table) / sizeof((table)[0]))

void hostile_every_check_is_tested(const char *const *checks, size_t n,
                                   const struct row *const *tables, const size_t *sizes,
                                   size_t n_tables, const struct elsewhere *others,
                                   size_t n_others);

#endif
