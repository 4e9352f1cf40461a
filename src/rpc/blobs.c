/* rpc/blobs.c - see rpc/blobs.h.
 *
 * What is sent lies in a list in order of key, hash and length, so everybody of a key who wants a
 * tensor gets the same blob, half or whole.  Several may send it at once: whoever is ahead brings
 * the bytes, those of the others are passed over, and the hash decides.  A tensor of a file is a
 * blob of its own for everybody who holds it; the bytes are the same mapping.
 *
 * Locks: the store's guards list and counts; a blob's own what is being written.  The second is
 * never taken under the first.
 */
#include "rpc/blobs.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "net/key.h"

#define LOOK_AGAIN_NS (2 * SH_SECOND)

struct sh_blobs {
    struct sh_folder *folder;
    struct sh_mutex lock;  /* guards what follows, and the counts of blobs */
    struct sh_blob **sent; /* sorted */
    size_t n, cap;
    int64_t looked_ns; /* when the folder was last searched */
    bool looking;      /* it is being searched now */
};

struct sh_blob {
    struct sh_blobs *store;
    char kid[SH_KID_TEXT];
    struct sh_sha256 sha256;
    uint64_t bytes;
    int refs; /* under the store's lock */
    struct sh_folder_blob file;
    struct sh_mutex lock; /* guards writing: the three below change under it only */
    uint8_t *data;        /* of one that is sent */
    struct sh_sha256_chain chain;
    _Atomic uint64_t held;
    atomic_bool whole; /* from then on nothing changes */
};

/* ---- the list -------------------------------------------------------------------------------*/

static int order(const struct sh_blob *a, const char *kid, const struct sh_sha256 *sha256,
                 uint64_t bytes)
{
    int d = strcmp(a->kid, kid);

    if (d == 0) d = memcmp(a->sha256.bytes, sha256->bytes, SH_SHA256_BYTES);
    if (d == 0) d = (a->bytes > bytes) - (a->bytes < bytes);
    return d;
}

/* The first place whose blob is not below; *found: it is that one. */
static size_t place_of(const struct sh_blobs *b, const char *kid, const struct sh_sha256 *sha256,
                       uint64_t bytes, bool *found)
{
    size_t low = 0, high = b->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (order(b->sent[mid], kid, sha256, bytes) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *found = low < b->n && order(b->sent[low], kid, sha256, bytes) == 0;
    return low;
}

/* The blob that clients of this key share, counted for the caller; NULL if there is none. */
static struct sh_blob *take_sent(struct sh_blobs *b, const char *kid,
                                 const struct sh_sha256 *sha256, uint64_t bytes, bool whole)
{
    struct sh_blob *blob = NULL;
    bool found;
    size_t at;

    sh_mutex_lock(&b->lock);
    at = place_of(b, kid, sha256, bytes, &found);
    if (found && (!whole || sh_blob_whole(b->sent[at]))) blob = b->sent[at];
    if (blob) blob->refs++;
    sh_mutex_unlock(&b->lock);
    return blob;
}

/* Put a fresh blob into the list, or find that somebody else was faster: then that one. */
static struct sh_blob *add_sent(struct sh_blobs *b, struct sh_blob *fresh)
{
    struct sh_blob *blob = NULL;
    bool found;
    size_t at;

    sh_mutex_lock(&b->lock);
    at = place_of(b, fresh->kid, &fresh->sha256, fresh->bytes, &found);
    if (found) {
        blob = b->sent[at];
        blob->refs++;
        goto done;
    }
    if (b->n == b->cap) {
        const size_t cap = b->cap ? 2 * b->cap : 256;
        struct sh_blob **p = sh_realloc_array(b->sent, cap, sizeof(struct sh_blob *));
        if (!p) goto done;
        b->sent = p;
        b->cap = cap;
    }
    memmove(&b->sent[at + 1], &b->sent[at], (b->n - at) * sizeof(struct sh_blob *));
    b->sent[at] = fresh;
    b->n++;
    blob = fresh;

done:
    sh_mutex_unlock(&b->lock);
    return blob;
}

/* ---- the store ------------------------------------------------------------------------------*/

enum shoal_status sh_blobs_create(struct sh_blobs **out, struct sh_folder *folder,
                                  struct shoal_error *err)
{
    struct sh_blobs *b = sh_calloc(1, sizeof *b);

    *out = NULL;
    if (!b) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a list of weights");
    b->folder = folder;
    b->looked_ns = sh_now_ns(&sh_clock_system) - LOOK_AGAIN_NS;
    sh_mutex_init(&b->lock);
    *out = b;
    return SHOAL_OK;
}

void sh_blobs_destroy(struct sh_blobs *b)
{
    if (!b) return;
    SH_ASSERT(b->n == 0);
    sh_mutex_release(&b->lock);
    sh_free(b->sent);
    sh_free(b);
}

bool sh_blobs_look_again(struct sh_blobs *b)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;
    bool mine;

    if (!b->folder) return false;
    sh_mutex_lock(&b->lock);
    mine = !b->looking && sh_now_ns(&sh_clock_system) - b->looked_ns >= LOOK_AGAIN_NS;
    if (mine) b->looking = true;
    sh_mutex_unlock(&b->lock);
    if (!mine) return false;
    st = sh_folder_scan(b->folder, &err);
    if (!st) st = sh_folder_hash(b->folder, &err);
    if (st) sh_log(SH_LOG_WARN, "rpc", "looking for model files: %s", err.message);
    sh_mutex_lock(&b->lock);
    b->looking = false;
    b->looked_ns = sh_now_ns(&sh_clock_system);
    sh_mutex_unlock(&b->lock);
    return !st;
}

bool sh_blobs_hurry(struct sh_blobs *b, struct sh_str name, uint64_t bytes, uint64_t *waiting)
{
    struct sh_folder_stats stats;

    *waiting = 0;
    if (!b->folder || !sh_folder_hurry(b->folder, name, bytes)) return false;
    sh_folder_stats(b->folder, &stats);
    *waiting = stats.bytes_waiting;
    return true;
}

void sh_blobs_wait_some(struct sh_blobs *b, int64_t timeout_ns)
{
    if (b->folder) sh_folder_wait_some(b->folder, timeout_ns);
}

/* ---- blobs ----------------------------------------------------------------------------------*/

static void free_blob(struct sh_blob *blob)
{
    if (!blob) return;
    if (blob->file.model) sh_folder_blob_release(blob->store->folder, &blob->file);
    sh_sha256_release(&blob->chain);
    sh_mutex_release(&blob->lock);
    sh_free(blob->data);
    sh_free(blob);
}

static enum shoal_status create_blob(struct sh_blob **out, struct sh_blobs *b, const char *kid,
                                     const struct sh_sha256 *sha256, uint64_t bytes,
                                     struct shoal_error *err)
{
    struct sh_blob *blob = sh_calloc(1, sizeof *blob);

    *out = blob;
    if (!blob) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a weight's record");
    sh_mutex_init(&blob->lock);
    blob->store = b;
    blob->sha256 = *sha256;
    blob->bytes = bytes;
    blob->refs = 1;
    blob->chain = (struct sh_sha256_chain)SH_SHA256_CHAIN_INIT;
    (void)snprintf(blob->kid, sizeof blob->kid, "%s", kid);
    return SHOAL_OK;
}

/* From the folder: OK with *out NULL where it has no such tensor. */
static enum shoal_status take_of_file(struct sh_blob **out, struct sh_blobs *b, const char *kid,
                                      const struct sh_sha256 *sha256, uint64_t bytes,
                                      struct shoal_error *err)
{
    struct sh_folder_blob file;
    struct sh_blob *blob = NULL;
    enum shoal_status st;

    *out = NULL;
    if (!b->folder) return SHOAL_OK;
    st = sh_folder_get(b->folder, sha256, &file, NULL);
    if (st) return SHOAL_OK; // whatever is the matter with the file, the bytes may still be sent
    if (file.bytes != bytes) {
        st = sh_fail(err, SHOAL_ERR_FORMAT,
                     "the tensor of that hash has %zu bytes, not the %" PRIu64 " wanted",
                     file.bytes, bytes);
        goto done;
    }
    st = create_blob(&blob, b, kid, sha256, bytes, err);
    if (st) goto done;
    blob->file = file; // moved
    file = (struct sh_folder_blob){.model = NULL};
    atomic_store(&blob->held, bytes);
    atomic_store(&blob->whole, true);
    *out = blob;

done:
    sh_folder_blob_release(b->folder, &file);
    return st;
}

static enum shoal_status make_sent(struct sh_blob **out, struct sh_blobs *b, const char *kid,
                                   const struct sh_sha256 *sha256, uint64_t bytes,
                                   struct shoal_error *err)
{
    struct sh_blob *blob = NULL;
    enum shoal_status st;

    st = create_blob(&blob, b, kid, sha256, bytes, err);
    if (st) return st;
    if (bytes <= SIZE_MAX) blob->data = sh_malloc((size_t)bytes);
    if (blob->data) sh_mem_fill_soon(blob->data, (size_t)bytes);
    if (blob->data) *out = add_sent(b, blob);
    if (!*out) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a weight of %" PRIu64 " bytes", bytes);
    }
    if (*out != blob) free_blob(blob);
    return st;
}

enum shoal_status sh_blobs_want(struct sh_blobs *b, const char *kid, const struct sh_sha256 *sha256,
                                uint64_t bytes, struct sh_blob **out, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    if (bytes == 0) return sh_fail(err, SHOAL_ERR_ARG, "a weight of no bytes is wanted");
    *out = take_sent(b, kid, sha256, bytes, true);
    if (!*out) st = take_of_file(out, b, kid, sha256, bytes, err);
    if (!*out && !st) *out = take_sent(b, kid, sha256, bytes, false);
    if (!*out && !st) st = make_sent(out, b, kid, sha256, bytes, err);
    return st;
}

void sh_blob_release(struct sh_blob *blob)
{
    struct sh_blobs *b;
    bool last, found;

    if (!blob) return;
    b = blob->store;
    sh_mutex_lock(&b->lock);
    last = --blob->refs == 0;
    if (last && !blob->file.model) {
        const size_t at = place_of(b, blob->kid, &blob->sha256, blob->bytes, &found);
        SH_ASSERT(found && b->sent[at] == blob);
        b->n--;
        memmove(&b->sent[at], &b->sent[at + 1], (b->n - at) * sizeof(struct sh_blob *));
    }
    sh_mutex_unlock(&b->lock);
    if (last) free_blob(blob);
}

uint64_t sh_blob_held(const struct sh_blob *blob)
{
    return atomic_load(&blob->held);
}

bool sh_blob_whole(const struct sh_blob *blob)
{
    return atomic_load(&blob->whole);
}

bool sh_blob_of_file(const struct sh_blob *blob)
{
    return blob->file.model != NULL;
}

/* Under the blob's lock: bytes that are the next. */
static enum shoal_status take_in(struct sh_blob *blob, const uint8_t *data, size_t n,
                                 struct shoal_error *err)
{
    const uint64_t held = atomic_load(&blob->held);
    enum shoal_status st = SHOAL_OK;

    if (held == 0) st = sh_sha256_begin(&blob->chain, err);
    // Copied first: the hash then reads what the processor has just written.
    if (!st) memcpy(blob->data + held, data, n);
    if (!st) st = sh_sha256_add(&blob->chain, blob->data + held, n, err);
    atomic_store(&blob->held, st ? 0 : held + n);
    return st;
}

enum shoal_status sh_blob_write(struct sh_blob *blob, uint64_t offset, const void *data, size_t n,
                                struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    uint64_t held;

    if (offset > blob->bytes || n > blob->bytes - offset) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "bytes %" PRIu64 " to %" PRIu64 " of a weight of %" PRIu64, offset,
                       offset + n, blob->bytes);
    }
    if (sh_blob_whole(blob)) return SHOAL_OK;
    sh_mutex_lock(&blob->lock);
    held = atomic_load(&blob->held);
    if (offset > held) {
        st = sh_fail(err, SHOAL_ERR_ARG,
                     "bytes from %" PRIu64 " on of a weight, where those from %" PRIu64
                     " on are due",
                     offset, held);
    } else if (offset + n > held) {
        const size_t skip = (size_t)(held - offset);
        st = take_in(blob, (const uint8_t *)data + skip, n - skip, err);
    }
    sh_mutex_unlock(&blob->lock);
    return st;
}

/* Under the blob's lock. */
static enum shoal_status verify(struct sh_blob *blob, struct shoal_error *err)
{
    const uint64_t held = atomic_load(&blob->held);
    struct sh_sha256 have;
    enum shoal_status st;

    if (held < blob->bytes) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "%" PRIu64 " of its %" PRIu64 " bytes came", held,
                       blob->bytes);
    }
    st = sh_sha256_end(&blob->chain, &have, err);
    if (!st && !sh_sha256_equal(&have, &blob->sha256)) {
        char is[SH_SHA256_TEXT_BYTES], due[SH_SHA256_TEXT_BYTES];
        sh_sha256_text(&have, is);
        sh_sha256_text(&blob->sha256, due);
        st = sh_fail(err, SHOAL_ERR_FORMAT, "its bytes have the SHA-256 %.16s..., not %.16s...", is,
                     due);
    }
    if (st)
        atomic_store(&blob->held, 0);
    else
        atomic_store(&blob->whole, true);
    return st;
}

enum shoal_status sh_blob_finish(struct sh_blob *blob, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&blob->lock);
    if (!sh_blob_whole(blob)) st = verify(blob, err);
    sh_mutex_unlock(&blob->lock);
    return st;
}

const void *sh_blob_data(const struct sh_blob *blob, size_t *bytes, const struct sh_map **map)
{
    SH_ASSERT(sh_blob_whole(blob));
    *bytes = (size_t)blob->bytes;
    *map = blob->file.model ? blob->file.map : NULL;
    return blob->file.model ? blob->file.data : blob->data;
}
