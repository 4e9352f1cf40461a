/* ggmlrpc/cache_priv.h - what the two files of the cache share.
 *
 *     cache.c       the directory, reading, making room
 *     cache_put.c   storing, and the thread that finishes it
 */
#ifndef GGMLRPC_CACHE_PRIV_H
#define GGMLRPC_CACHE_PRIV_H

#include <sys/stat.h>

#include "base/thread.h"
#include "ggmlrpc/cache.h"

#define CACHE_NAME_BYTES 17 /* 16 digits and NUL */
#define CACHE_TEMP_BYTES 64

struct sh_cache_put {
    struct sh_cache *cache;
    struct sh_cache_put *next;
    int fd;
    uint64_t hash, bytes;        /* what was announced */
    uint64_t at;                 /* bytes that came */
    struct sh_cache_entry entry; /* the file, when it is read again to be hashed */
    int failed;                  /* errno of a write, 0 = none */
    char temp[CACHE_TEMP_BYTES];
};

struct sh_cache {
    int dir_fd;
    uint64_t bytes_max;
    int entries_max;
    struct sh_thread thread; /* finishes what was put */
    uint8_t *work;           /* the thread's */

    struct sh_mutex lock; /* guards everything below */
    struct sh_cond changed;
    struct sh_cache_put *done, **done_end; /* to be finished */
    uint64_t bytes_open;                   /* of puts that are not finished */
    int n_open;
    uint64_t n_temp; /* for names */
    bool closing;
    bool failing; /* the last attempt to store failed, and a line says so */
    int64_t quiet_until_ns;
};

void cache_name(uint64_t hash, char out[CACHE_NAME_BYTES]);
/* Delete the oldest entries until `bytes` more and one more entry have room. */
void cache_make_room(struct sh_cache *c, uint64_t bytes);

/* cache_put.c: start and join the finishing thread. */
enum shoal_status cache_start(struct sh_cache *c, struct shoal_error *err);
void cache_stop(struct sh_cache *c);

#endif
