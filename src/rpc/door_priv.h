/* rpc/door_priv.h - between the files of the door.
 *
 *     door.c         accepting, places, threads, stopping
 *     door_greet.c   one visitor: first byte or TLS, then its protocol
 *     door_keys.c    the folder of keys: looked up, and watched for keys that go
 *
 * Locks: the door's, then that of the keys.  The latter is held while the folder is read, so
 * handshakes wait for one another there.
 */
#ifndef RPC_DOOR_PRIV_H
#define RPC_DOOR_PRIV_H

#include "base/log_limit.h"
#include "base/thread.h"
#include "net/peek.h"
#include "net/tls.h"
#include "rpc/door.h"

enum visitor_place { GREETING, EVICTED, INSIDE, ENDED };

struct visitor {
    struct visitor *next;
    struct sh_door *door;
    struct sh_thread thread;
    struct sh_address address;
    uint64_t number;    // in the order in which they came
    int64_t give_up_ns; // end of the greeting

    // Guarded by the door's lock.
    enum visitor_place place;
    struct sh_stream *stream; // for cutting; NULL once somebody closes it
    char kid[SH_KID_TEXT];    // proved
    bool is_revoked;
};

struct used_key { // of which the server may have sessions
    char kid[SH_KID_TEXT], name[SH_KEY_NAME_TEXT];
};

struct door_keys {
    struct sh_mutex lock; // guards everything below
    struct sh_key_list list;
    struct used_key *used; // found for a handshake, and not gone since
    size_t n_used, cap_used;

    // Of the watching thread alone.
    int64_t next_look_ns;
    char said[320]; // about the folder, lately
};

struct sh_door {
    struct sh_door_options opt;
    struct sh_listener *listener;
    struct sh_log_limit lines;
    struct door_keys keys;
    _Atomic bool stopping;

    struct sh_mutex lock; // guards everything below
    struct sh_cond changed;
    struct visitor *visitors; // newest first
    int n_greeting, n_inside, n_threads;
    uint64_t n_came;
};

/* ---- door.c ---------------------------------------------------------------------------------*/

/* The visitor has proved who it is: its place in greeting is free.  False: there is no room inside.
 */
bool sh_door_enter(struct visitor *v, const char *kid, struct shoal_error *err);
/* One line about somebody who did not get in; at most so many a second. */
void sh_door_log_refusal(struct sh_door *d, const char *peer, const char *why);

/* ---- door_greet.c ---------------------------------------------------------------------------*/

/* Find out what the visitor speaks, and serve it until it ends.  The stream is closed. */
void sh_door_greet(struct visitor *v, struct sh_stream *stream);

/* ---- door_keys.c ----------------------------------------------------------------------------*/

SHOAL_NODISCARD enum shoal_status sh_door_keys_init(struct sh_door *d, struct shoal_error *err);
void sh_door_keys_release(struct sh_door *d);
/* The key of this id now. */
bool sh_door_keys_find(struct sh_door *d, const char *kid, struct sh_key_entry *out);
/* If it is time: look at the folder, and end what belongs to keys that went. */
void sh_door_keys_watch(struct sh_door *d);

#endif
