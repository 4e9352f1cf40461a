/* text/merge_priv.h - merging adjacent parts of a word, best pair first.
 *
 * BPE and SPM are the same process with different tables: as long as some adjacent pair has a
 * rank, merge the pair of lowest rank, among equal ranks the leftmost.  Short words scan for it;
 * long ones keep a heap whose outdated entries are dropped as they surface, which is O(n log n)
 * for any input.
 * Threads: a merger belongs to one thread; it is reused from word to word.
 */
#ifndef TEXT_MERGE_PRIV_H
#define TEXT_MERGE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SH_MERGE_SHORT 32

struct sh_merge_part {
    uint32_t sym;        /* the caller's number of the symbol, or SH_NO_SYM */
    uint32_t begin, len; /* bytes of the word */
};

/* May `a` and `b`, neighbours in `word`, be merged?  Then their rank (< UINT32_MAX) and symbol. */
typedef bool sh_merge_rule(const void *tables, const char *word, const struct sh_merge_part *a,
                           const struct sh_merge_part *b, uint32_t *rank, uint32_t *sym);

struct sh_merger {
    struct sh_merge_part *parts; /* in: the parts of a word; out: what is left of them */
    size_t n_parts, cap;
    struct sh_merge_link *links; /* long words only */
    size_t n_links;
    struct sh_merge_cand *heap; /* long words only */
    size_t n_heap, cap_heap;
};
#define SH_MERGER_INIT                                                                             \
    {                                                                                              \
        .parts = NULL, .n_parts = 0, .cap = 0, .links = NULL, .n_links = 0, .heap = NULL,          \
        .n_heap = 0, .cap_heap = 0                                                                 \
    }

void sh_merger_release(struct sh_merger *m);
/* Make room for n parts (fewer than 2^31), of which none is there yet. */
SHOAL_NODISCARD enum shoal_status sh_merger_start(struct sh_merger *m, size_t n);
/* Merge m->parts[0 .. n_parts) in place.  Fails with ERR_NOMEM only. */
SHOAL_NODISCARD enum shoal_status sh_merger_run(struct sh_merger *m, const char *word,
                                                sh_merge_rule *rule, const void *tables);

#endif
