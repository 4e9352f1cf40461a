/* rpc/key.h - keys as people see them, and the files that hold them.
 *
 *     text:         SHOAL1-<52 characters of base 32>-<4 characters of checksum>
 *     checksum:     first 20 bits of SHA-256(key): a text that was copied wrongly passes once in
 *                   1,048,576 times; an error in the checksum itself is always found
 *     fingerprint:  eight words of a list of 256, from the first bytes of HKDF(key, "words")
 *
 * A worker keeps its clients' keys in one folder ($XDG_CONFIG_HOME/shoal/keys, 0700), a file of
 * mode 0600 per name with the key's text.  A host keeps the workers that it knows in one file
 * ($XDG_CONFIG_HOME/shoal/cluster, 0600), a line per worker: address, key text, name.  Files are
 * written beside their place and moved there, so a reader sees all of one or nothing.  One that
 * other users could read, one that is not the user's own and a symbolic link are refused with
 * what mends it.  No message shows a key.
 *
 * Threads: functions over files, which several processes may use at once; a loaded list is its
 * owner's.
 */
#ifndef RPC_KEY_H
#define RPC_KEY_H

#include "base/str.h"
#include "net/address.h"
#include "net/key.h"

#define SH_KEY_TEXT 65          /* with the NUL */
#define SH_KEY_WORDS 8          /* of a fingerprint */
#define SH_KEY_WORDS_TEXT 72    /* with the NUL */
#define SH_KEY_NAME_TEXT 33     /* with the NUL */
#define SH_KEYS_MAX 4096        /* in one folder, and lines of a cluster file */
#define SH_KEY_ADDRESS_TEXT 264 /* host and port, with the NUL */

/* ---- text -----------------------------------------------------------------------------------*/

SHOAL_NODISCARD enum shoal_status sh_key_format(char out[SH_KEY_TEXT], const struct sh_key *k,
                                                struct shoal_error *err);
/* Capitals or not.  ERR_ARG says what is wrong with the text, without showing it. */
SHOAL_NODISCARD enum shoal_status sh_key_parse(struct sh_key *out, const char *text,
                                               struct shoal_error *err);
/* "amber fox ... river" */
SHOAL_NODISCARD enum shoal_status
sh_key_fingerprint(char out[SH_KEY_WORDS_TEXT], const struct sh_key *k, struct shoal_error *err);
/* 1 to 32 of a-z 0-9 . _ -, the first a letter or digit; else ERR_ARG. */
SHOAL_NODISCARD enum shoal_status sh_key_name_check(const char *name, struct shoal_error *err);

/* ---- places ---------------------------------------------------------------------------------*/

/* $XDG_CONFIG_HOME/shoal or ~/.config/shoal, and what is in it. */
SHOAL_NODISCARD enum shoal_status sh_key_folder(struct sh_buf *out, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_cluster_path(struct sh_buf *out, struct shoal_error *err);

/* ---- a worker's keys ------------------------------------------------------------------------*/

struct sh_key_entry {
    char name[SH_KEY_NAME_TEXT];
    char kid[SH_KID_TEXT];
    struct sh_key key;
    int64_t made_s; /* when the file was written, seconds since 1970 */
};

struct sh_key_list {
    struct sh_key_entry *entry; /* by name */
    size_t n;
    int64_t stamp_s, stamp_ns; /* of the folder when it was read */
    bool is_settled;           /* and no change of it can have the same stamp */
};
#define SH_KEY_LIST_INIT                                                                           \
    {                                                                                              \
        .entry = NULL, .n = 0                                                                      \
    }

/* A new key in `folder`, which is made if need be.  ERR_STATE: the name is taken. */
SHOAL_NODISCARD enum shoal_status sh_key_store_make(const char *folder, const char *name,
                                                    struct sh_key_entry *out,
                                                    struct shoal_error *err);
/* The key of a name; ERR_NOT_FOUND. */
SHOAL_NODISCARD enum shoal_status sh_key_store_get(const char *folder, const char *name,
                                                   struct sh_key_entry *out,
                                                   struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_key_store_revoke(const char *folder, const char *name,
                                                      struct shoal_error *err);
/* All keys; none where there is no folder.  A file that cannot be used is an error that names it.
 * `out` is empty or an earlier list, which stays as it is on failure. */
SHOAL_NODISCARD enum shoal_status sh_key_store_load(const char *folder, struct sh_key_list *out,
                                                    struct shoal_error *err);
/* The same, if the folder has changed since: cheap enough for each connection and beat. */
SHOAL_NODISCARD enum shoal_status sh_key_store_refresh(const char *folder, struct sh_key_list *list,
                                                       bool *changed, struct shoal_error *err);
const struct sh_key_entry *sh_key_list_find(const struct sh_key_list *list, const char *kid);
void sh_key_list_release(struct sh_key_list *list); /* wipes the keys */

/* ---- a host's workers -----------------------------------------------------------------------*/

struct sh_cluster_entry {
    char address[SH_KEY_ADDRESS_TEXT]; /* "host:port", "[v6]:port", in small letters */
    char name[SH_KEY_NAME_TEXT];       /* "" = none */
    char kid[SH_KID_TEXT];
    struct sh_key key;
};

struct sh_cluster {
    struct sh_cluster_entry *entry; /* in the order of the file */
    size_t n;
};
#define SH_CLUSTER_INIT                                                                            \
    {                                                                                              \
        .entry = NULL, .n = 0                                                                      \
    }

/* The way an address is written in the file; it needs a host and a port. */
SHOAL_NODISCARD enum shoal_status sh_cluster_address(char out[SH_KEY_ADDRESS_TEXT],
                                                     const char *text, struct shoal_error *err);
/* All workers; none where there is no file. */
SHOAL_NODISCARD enum shoal_status sh_cluster_load(const char *path, struct sh_cluster *out,
                                                  struct shoal_error *err);
const struct sh_cluster_entry *sh_cluster_find(const struct sh_cluster *c, const char *address);
void sh_cluster_release(struct sh_cluster *c); /* wipes the keys */

/* Put a worker in, in place of the line with its address if there is one (*replaced).  `name` may
 * be NULL.  The folder of the file is made if need be. */
SHOAL_NODISCARD enum shoal_status sh_cluster_put(const char *path, const char *address,
                                                 const struct sh_key *key, const char *name,
                                                 bool *replaced, struct shoal_error *err);
/* Take a worker out; ERR_NOT_FOUND. */
SHOAL_NODISCARD enum shoal_status sh_cluster_forget(const char *path, const char *address,
                                                    struct shoal_error *err);

#endif
