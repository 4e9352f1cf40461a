/* cmd/worker_priv.h - between the files of `shoal worker`: its options, and serving by them. */
#ifndef CMD_WORKER_PRIV_H
#define CMD_WORKER_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/args.h"
#include "host/serve.h"
#include "rpc/key.h"

struct worker_options {
    const char *listen, *host;
    int64_t port;
    const char *pair, *keys, *models;
    uint64_t memory;
    const char *cache;
    uint64_t cache_bytes;
    bool cache_here, no_cache;
    int64_t n_threads, lease_s;
    struct sh_arg_list link_to;
    struct sh_network network[SH_ARG_WORDS_MAX]; /* the same, parsed */
    bool insecure, verbose;
    int log_level, log_format;
};

/* Who may come, decided from the options (worker_keys.c). */
struct worker_keys {
    struct sh_buf folder;     /* of the keys; empty: none are used */
    bool has_pair, is_new;    /* --pair: this key */
    struct sh_key_entry pair; /* wiped by sh_worker_keys_release() */
};
/* Make the key of --pair, or find keys that are there.  An address that others reach, with none, is
 * refused with the lines that make one.  -1, or the exit code. */
int sh_worker_keys_choose(struct worker_keys *k, const struct worker_options *o, int argc,
                          char **argv);
void sh_worker_keys_release(struct worker_keys *k);

/* Serve until a signal (worker_serve.c). */
SHOAL_NODISCARD enum shoal_status sh_worker_serve(const struct worker_options *o,
                                                  const struct worker_keys *k,
                                                  struct shoal_error *err);

extern const struct sh_command sh_worker_command;

#endif
