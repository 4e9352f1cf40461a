/* tests/rpc/worker.h - a worker in this process, and clients that speak to it frame by frame.
 *
 * The worker is a server of rpc/server.h over a real CPU device, without a door: clients come over
 * streams in memory.  A client is one connection of rpc/conn.h with a thread that reads, and a list
 * of what came without having been asked for.
 */
#ifndef TESTS_RPC_WORKER_H
#define TESTS_RPC_WORKER_H

#include "base/thread.h"
#include "net/stream.h"
#include "rpc/claim.h"
#include "rpc/conn.h"
#include "rpc/server.h"
#include "support/fault_device.h"
#include "support/rig.h"

#define SOON_NS (60 * SH_SECOND) /* for what should happen */

enum { CLIENTS_MAX = 64, EVENTS_MAX = 256, SLOTS = 4, WORKER_MEMORY = 256 << 20 };

struct worker {
    struct faults faults;
    struct sh_device *device;
    struct sh_ledger *ledger;
    struct sh_blobs *blobs;
    struct sh_rpc_server *server;
    const char *peer; /* where clients seem to come from; NULL: as the stream says */
};

/* Options may be NULL; devices, ledger and blobs are filled in here. */
void worker_open(struct worker *w, const struct sh_rpc_server_options *opt);
/* Stop, drain, and see that nothing is left: no session, no byte in the ledger or on the device. */
void worker_close(struct worker *w);
/* Wait until so many sessions are there, with so many of them detached. */
void worker_await(struct worker *w, int n_sessions, int n_detached);
/* Wait until nothing is set aside, and no connection is there. */
void worker_await_idle(struct worker *w);

/* ---- clients --------------------------------------------------------------------------------*/

struct event { /* what came: RESULT, HIDDEN, ERROR; LOGITS are put into the result's rows */
    enum sh_rpc_type type;
    uint64_t epoch, number;
    uint32_t stage_slot, first_row, n_rows;
    enum shoal_status status;
    char message[400];
    float *floats; /* of HIDDEN, or all LOGITS of a RESULT, row by row */
    size_t n_floats;
    int n_outcomes;
    int32_t tokens[16]; /* of the first outcomes */
};

struct client {
    struct worker *w;
    struct sh_rpc_client who;
    struct sh_rpc_conn *c;
    struct sh_thread serving, reading;
    struct sh_stream *theirs;

    uint64_t session;
    uint8_t secret[16];
    uint64_t epoch, next, hash, ack;

    struct sh_mutex lock; /* all below */
    struct sh_cond changed;
    struct event event[EVENTS_MAX];
    int n_events;
    bool over;
    enum shoal_status status; /* of run() */
    struct shoal_error error;
};

/* Connect as the holder of key `kid` ("" = none).  `features` 0: all but DATA. */
void client_open(struct client *c, struct worker *w, enum sh_rpc_purpose purpose, const char *kid,
                 uint64_t features);
/* The same where it may fail; nothing is left then. */
enum shoal_status client_try_open(struct client *c, struct worker *w, enum sh_rpc_purpose purpose,
                                  const char *kid, uint64_t features, struct shoal_error *err);
void client_close(struct client *c); /* in order, without CLOSE */
void client_cut(struct client *c);   /* as if the host were killed */
void client_await_over(struct client *c);

/* Ask and expect an answer, or a refusal with this status (its message in *err). */
enum shoal_status client_ask(struct client *c, enum sh_rpc_type type, const void *msg, void *answer,
                             struct sh_arena *arena, struct shoal_error *err);
void client_send(struct client *c, enum sh_rpc_type type, const void *msg);
/* The same in two halves.  end waits for the answer. */
struct question {
    struct sh_rpc_ask ask;
    struct sh_rpc_asked *asked;
    struct sh_arena arena;
    union {
        struct sh_rpc_stage_ready ready;
        struct sh_rpc_closed closed;
        struct sh_rpc_reset_done reset;
    } answer;
};
void client_begin(struct client *c, struct question *q, enum sh_rpc_type type, const void *msg);
enum shoal_status client_end(struct client *c, struct question *q, struct shoal_error *err);
/* Wait until the i-th event is there; its place stays. */
struct event *client_event(struct client *c, int i);

/* Wait for the i-th event, or the connection's end: then NULL. */
struct event *client_event_or_end(struct client *c, int i);
/* Forget all events; none may be on its way. */
void client_forget(struct client *c);
/* Wait until all logits of a RESULT are there. */
void client_floats(struct client *c, struct event *e, size_t n);
/* Pass an event with hidden rows on: stages[slot] reads them. */
void client_forward(struct client *c, const struct event *e, const struct sh_rpc_handle *stages);

/* OPEN with so many bytes for weights and for everything else. */
enum shoal_status client_session(struct client *c, uint64_t weights, uint64_t rest,
                                 struct shoal_error *err);
enum shoal_status client_resume(struct client *c, const struct client *old, uint64_t ack,
                                struct sh_rpc_resumed *out, struct sh_arena *arena,
                                struct shoal_error *err);
enum shoal_status client_finish(struct client *c, uint64_t *freed, struct shoal_error *err);

/* ---- stages of a test model -----------------------------------------------------------------*/

/* All of STAGE_PUT for layers of a model; fields may be changed before it is sent. */
struct stage_put {
    struct sh_rpc_stage_put m;
    struct sh_arena arena;
    struct sh_rpc_claim claim; /* weights: stored bytes */
    int64_t width_in, width_out;
    uint8_t *graph, *rotate;
    const struct sh_gguf *file; /* borrowed */
};
/* Part `index` of `n` of the model, with SLOTS steps in flight, one sequence of 512 positions. */
void stage_put_make(struct stage_put *p, struct tm_model *m, int index, int n);
void stage_put_release(struct stage_put *p);
/* Send what the worker lacks, then the stage. */
void client_weights(struct client *c, const struct stage_put *p);
enum shoal_status client_put(struct client *c, const struct stage_put *p, struct sh_rpc_handle *out,
                             struct shoal_error *err);

/* A step of one sequence: `n` ids from position `pos` on, with edits for the pages that begin. */
struct step_make {
    struct sh_rpc_step m;
    struct sh_rpc_row rows[256];
    struct sh_rpc_edit edits[16];
    struct sh_rpc_seq seqs[1];
};
void step_make(struct step_make *s, const int32_t *ids, int32_t n, int32_t pos, uint8_t want,
               int n_groups);
/* Number, epoch, hash and ack as they are due, then send to these stages. */
void client_step(struct client *c, struct step_make *s, const struct sh_rpc_handle *stages,
                 int n_stages);
/* The hash that a step has; it may be changed before it is sent. */
void client_stamp(struct client *c, struct step_make *s);

/* A session with the whole model as one stage, or as two that the client passes rows between. */
void client_model(struct client *c, struct tm_model *m, int n_stages, struct sh_rpc_handle *stages);
/* Run ids in chunks through the stages; compare the logits with those of a lone run. */
void client_check_model(struct client *c, struct tm_model *m, const struct sh_rpc_handle *stages,
                        int n_stages, int32_t chunk);
/* All of it by a new client, and closed: the worker is in order. */
void worker_check(struct worker *w, struct tm_model *m);

/* ---- what the tests begin and end with ------------------------------------------------------*/

struct worker_test {
    struct tm_model m;
    struct worker w;
};
int worker_setup(void **state);
int worker_teardown(void **state); /* an honest session works, then nothing is left */
/* A new client of a CONTROL connection, freed by the other two. */
struct client *worker_client(struct worker *w, const char *kid);
void worker_client_close(struct client *c);
void worker_client_cut(struct client *c);

#endif
