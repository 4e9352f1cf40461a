/* text/special_priv.h - finding the special tokens of a text.
 *
 * Of the occurrences in a text those are taken that start leftmost, and of these the longest,
 * again and again from left to right.  An Aho-Corasick automaton over the reversed token texts
 * reads the text backwards; at each place it knows the longest token that starts there.  The time
 * is linear in the text, however many tokens there are and however they overlap.
 * Threads: read-only once built.
 */
#ifndef TEXT_SPECIAL_PRIV_H
#define TEXT_SPECIAL_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "text/map_priv.h"

struct sh_special {
    struct sh_special_node *nodes; /* node 0 is the start; NULL while there are no tokens */
    size_t n_nodes;
    struct sh_pairmap edges; /* (node, byte) -> (node, 0) */
    bool ends[256];          /* bytes that end a token */
};
#define SH_SPECIAL_INIT                                                                            \
    {                                                                                              \
        .nodes = NULL, .n_nodes = 0, .edges = SH_PAIRMAP_INIT, .ends = { false }                   \
    }

/* One candidate.  Of equal texts the later one counts. */
struct sh_special_token {
    struct sh_str text; /* not empty; needed while building only */
    int32_t id;
    bool always; /* found even when special tokens are not to be parsed */
};

struct sh_special_hit {
    size_t pos;
    int32_t id;
};
struct sh_special_hits {
    struct sh_special_hit *ptr; /* by descending position */
    size_t len, cap;
};
#define SH_SPECIAL_HITS_INIT                                                                       \
    {                                                                                              \
        .ptr = NULL, .len = 0, .cap = 0                                                            \
    }

SHOAL_NODISCARD enum shoal_status sh_special_build(struct sh_special *s,
                                                   const struct sh_special_token *tokens, size_t n,
                                                   struct shoal_error *err);
void sh_special_release(struct sh_special *s);

/* For each position of `text` where tokens start, the longest of them; `all` or only those found
 * always.  Hits may overlap: the caller walks them from the left.  Fails with ERR_NOMEM only. */
SHOAL_NODISCARD enum shoal_status sh_special_scan(const struct sh_special *s, struct sh_str text,
                                                  bool all, struct sh_special_hits *hits);
void sh_special_hits_release(struct sh_special_hits *hits);

#endif
