/* base/crc32c.h - CRC-32C (Castagnoli), the checksum of frames that nothing else protects.
 *
 * Polynomial 0x1edc6f41, bits reflected, all ones in the beginning and inverted at the end; the
 * nine digits "123456789" give 0xe3069283.  By the processor's own instruction where it has one
 * (SSE 4.2), else eight bytes at a time from tables.  It finds accidents, not attackers.
 * Threads: pure function.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of what `crc` covers and n bytes behind it; begin with 0. */
uint32_t sh_crc32c(uint32_t crc, const void *data, size_t n);
/* The same from tables only, for tests. */
uint32_t sh_crc32c_tables(uint32_t crc, const void *data, size_t n);

#endif
