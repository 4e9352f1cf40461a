/* ggmlrpc/cache.h - tensors kept on disk under the hash of their bytes.
 *
 *     <directory>/<16 lower-case hexadecimal digits of FNV-1a 64>      the bytes, nothing else
 *     <directory>/<16 digits>.<random number>.tmp                      being written
 *
 * The layout is that of llama.cpp's RPC server, so its directories can be used.  An entry appears
 * whole or not at all: it is written beside its place; a thread of the cache hashes the file,
 * synchronises and renames it, so nobody waits for that.  Every byte is hashed again when it is
 * read; an entry that does not have its hash is deleted.  Leftovers of processes that died are
 * deleted when a cache is opened: a writer holds a lock on its file.
 *
 * FNV finds accidents, not forgeries: whoever may store can make an entry under any hash.  A cache
 * is for clients that trust each other.
 *
 * A full disk or a failing write loses the entry, with one logged line until storing works again.
 * The oldest entries make room for new ones; being read makes an entry young.
 * Threads: any; one entry or put belongs to one thread.  Several processes may share a directory.
 */
#ifndef GGMLRPC_CACHE_H
#define GGMLRPC_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct sh_cache; /* opaque */
struct sh_cache_put;

struct sh_cache_options {
    const char *dir;    /* made, with what leads to it, if it is not there */
    uint64_t bytes_max; /* 0: a fifth of what the disk has free */
    int entries_max;    /* 0: 16384 */
};

/* The directory must be ours, and others must not be able to write to it. */
SHOAL_NODISCARD enum shoal_status
sh_cache_open(struct sh_cache **out, const struct sh_cache_options *opt, struct shoal_error *err);
/* Finishes what is being stored; no entry or put may be open.  Accepts NULL. */
void sh_cache_close(struct sh_cache *c);
/* Wait until everything that was put is in its place, or lost. */
void sh_cache_flush(struct sh_cache *c);

struct sh_cache_stats {
    uint64_t n_entries, bytes, bytes_max; /* now, as the directory says */
};
void sh_cache_stats(struct sh_cache *c, struct sh_cache_stats *out);

/* ---- reading --------------------------------------------------------------------------------*/

struct sh_cache_entry {
    int fd; /* -1: closed */
    uint64_t hash, bytes;
    uint64_t at, sum; /* read so far, and its hash */
    int64_t used_s;   /* when it was last known to be of use, in seconds of the system's clock */
};

/* Open the entry of a hash; false if there is none of at most `bytes_max` bytes. */
bool sh_cache_find(struct sh_cache *c, uint64_t hash, uint64_t bytes_max,
                   struct sh_cache_entry *out);
/* The next n bytes; false when they cannot be had. */
bool sh_cache_read(struct sh_cache_entry *e, void *dst, size_t n);
/* The same of up to SH_FNV_CHAINS_MAX entries, behind each other in dst: hashed together, which is
 * several times as fast.  ok[i]: it worked for entry i. */
void sh_cache_read_each(struct sh_cache_entry *const *entries, int n_entries, void *dst, size_t n,
                        bool *ok);
/* Close it after reading.  False: these were not the bytes of the hash, and the entry is gone. */
bool sh_cache_read_end(struct sh_cache *c, struct sh_cache_entry *e);
void sh_cache_entry_close(struct sh_cache_entry *e); /* without a verdict; closed ones too */

/* ---- storing --------------------------------------------------------------------------------*/

/* Begin to store `bytes` bytes that should have this hash.  NULL: they will not be stored. */
struct sh_cache_put *sh_cache_put_begin(struct sh_cache *c, uint64_t hash, uint64_t bytes);
void sh_cache_put_bytes(struct sh_cache_put *p, const void *data, size_t n); /* accepts NULL */
/* All bytes are there: the entry will appear soon, if they have the hash.  Accepts NULL. */
void sh_cache_put_end(struct sh_cache_put *p);
void sh_cache_put_abort(struct sh_cache_put *p); /* accepts NULL */

#endif
