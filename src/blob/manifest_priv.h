/* blob/manifest_priv.h - what a manifest is made of. */
#ifndef BLOB_MANIFEST_PRIV_H
#define BLOB_MANIFEST_PRIV_H

#include "blob/manifest.h"

struct sh_manifest {
    struct sh_manifest_tensor *tensors;
    size_t n_tensors;
    struct sh_sha256 *pieces; /* of all tensors, in order */
    size_t n_pieces;
    uint64_t bytes;
    bool recalled;
};

/* All but the hashes. */
SHOAL_NODISCARD enum shoal_status manifest_create(struct sh_manifest **out, const struct sh_gguf *g,
                                                  struct shoal_error *err);

/* Fill in the hashes from the file in `dir`; false if there is none that fits. */
bool manifest_load(struct sh_manifest *m, const struct sh_gguf *g, const char *dir);
/* Write that file; a failure is logged. */
void manifest_store(const struct sh_manifest *m, const struct sh_gguf *g, const char *dir);

#endif
