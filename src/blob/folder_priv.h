/* blob/folder_priv.h - what the files of a folder share.
 *
 *     folder.c       the list of models, scans, finding tensors
 *     folder_find.c  finding model files below a folder
 *     folder_hash.c  hashing in the background
 */
#ifndef BLOB_FOLDER_PRIV_H
#define BLOB_FOLDER_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/thread.h"
#include "blob/folder.h"
#include "blob/manifest.h"

struct folder_entry {
    struct sh_sha256 hash;
    size_t tensor;
};

struct sh_folder_model {
    char *path;
    struct sh_file_id *ids; /* of its shards */
    int n_shards;
    size_t n_tensors;
    uint64_t bytes;
    uint64_t *marks; /* of names and lengths of its tensors, sorted */
    /* Under the folder's lock: */
    struct folder_entry *entries; /* sorted by hash; NULL until it is hashed, then constant */
    bool failed;                  /* it could not be hashed */
    bool urgent;                  /* somebody waits for its hashes */
    int refs;
    struct sh_gguf *g; /* open while there are blobs */
    int n_blobs;
};

struct model_list {
    struct sh_folder_model **models;
    size_t n;
};

struct sh_folder {
    char *dir, *hashes;
    int n_threads;
    size_t files_max, tensors_max;
    const struct sh_clock *wall;
    atomic_bool stop;         /* the hashing of now */
    struct sh_mutex scanning; /* one scan at a time; taken before `lock` */
    struct sh_mutex lock;     /* guards what follows, and models as said there */
    struct sh_cond changed;   /* wanted, closing */
    struct sh_thread thread;  /* that hashes, from the first wish on */
    struct model_list list;
    bool wanted; /* there may be something to hash */
    bool closing;
    const struct sh_folder_model *hashing; /* now */
};

struct path_list {
    char **paths; /* each of sh_malloc */
    size_t n, cap;
};

/* All model files below `dir`, sorted by name, of split models the first file only; at most
 * `files_max` (more are left out, which is logged).  Release the list in any case. */
SHOAL_NODISCARD enum shoal_status folder_find(struct path_list *out, const char *dir,
                                              size_t files_max, struct shoal_error *err);
void path_list_release(struct path_list *l);

/* folder.c: open the model's file, which must be what it was. */
SHOAL_NODISCARD enum shoal_status
folder_open_same(struct sh_gguf **out, const struct sh_folder_model *m, struct shoal_error *err);
/* Give a count of the model back. */
void folder_unref(struct sh_folder *f, struct sh_folder_model *m);
/* Sorted; NULL: no memory. */
struct folder_entry *folder_make_entries(const struct sh_manifest *m);
/* Sorted marks of all tensors of a model; NULL: no memory. */
uint64_t *folder_make_marks(const struct sh_gguf *g);

#endif
