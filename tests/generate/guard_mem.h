/* tests/generate/guard_mem.h - base/mem.h once more, with a page that nobody may touch behind (or
 * in front of) every block.
 *
 * The programs of this folder are linked with this heap instead of the one of base: whatever the
 * library allocates, buffers, scratch and work memory included, ends exactly at such a page when
 * its size is a multiple of 64, else up to 63 watched bytes before it.  So a read past the end
 * stops the program in every build, vector instructions and code without instrumentation included.
 * Bytes that blocks are not promised to hold are filled with a set value.
 * Threads: all functions from any thread; the two settings are for the time between runs.
 */
#ifndef TESTS_GENERATE_GUARD_MEM_H
#define TESTS_GENERATE_GUARD_MEM_H

#include <stdint.h>

enum guard_side { GUARD_END, GUARD_BEGIN };

/* Where blocks that are allocated from now on touch their page. */
void guard_set_side(enum guard_side side);
/* What blocks of sh_malloc() hold from now on. */
void guard_set_filler(uint8_t value);

#endif
