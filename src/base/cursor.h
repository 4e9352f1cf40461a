/* base/cursor.h - reading and writing little-endian bytes without trusting a length.
 *
 * A reader walks a byte range.  The first read past its end sets `bad`, and from then on every
 * read gives zero, so a parser may read a whole record and check once.  A writer is the mirror
 * image over a fixed range.  No pointer is ever cast onto the bytes.
 * Threads: one at a time.
 */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sh_reader {
    const uint8_t *ptr;
    size_t size, pos;
    bool bad;
};

static inline struct sh_reader sh_reader_over(const void *p, size_t size)
{
    return (struct sh_reader){.ptr = (const uint8_t *)p, .size = size, .pos = 0, .bad = false};
}
static inline size_t sh_reader_left(const struct sh_reader *r)
{
    return r->bad ? 0 : r->size - r->pos;
}
/* Borrowed pointer to the next n bytes, or NULL (and bad). */
static inline const uint8_t *sh_read_bytes(struct sh_reader *r, size_t n)
{
    const uint8_t *p;
    if (r->bad || n > r->size - r->pos) {
        r->bad = true;
        return NULL;
    }
    p = r->ptr + r->pos;
    r->pos += n;
    return p;
}
static inline uint64_t sh_read_le(struct sh_reader *r, size_t n)
{
    const uint8_t *p = sh_read_bytes(r, n);
    uint64_t v = 0;
    if (!p) return 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}
static inline uint8_t sh_read_u8(struct sh_reader *r)
{
    return (uint8_t)sh_read_le(r, 1);
}
static inline uint16_t sh_read_u16(struct sh_reader *r)
{
    return (uint16_t)sh_read_le(r, 2);
}
static inline uint32_t sh_read_u32(struct sh_reader *r)
{
    return (uint32_t)sh_read_le(r, 4);
}
static inline uint64_t sh_read_u64(struct sh_reader *r)
{
    return sh_read_le(r, 8);
}

struct sh_writer {
    uint8_t *ptr;
    size_t size, pos;
    bool bad; /* something did not fit; nothing more is written */
};

static inline struct sh_writer sh_writer_over(void *p, size_t size)
{
    return (struct sh_writer){.ptr = (uint8_t *)p, .size = size, .pos = 0, .bad = false};
}
/* Room for n bytes, advanced over, or NULL (and bad). */
static inline uint8_t *sh_write_room(struct sh_writer *w, size_t n)
{
    uint8_t *p;
    if (w->bad || n > w->size - w->pos) {
        w->bad = true;
        return NULL;
    }
    p = w->ptr + w->pos;
    w->pos += n;
    return p;
}
static inline void sh_write_bytes(struct sh_writer *w, const void *src, size_t n)
{
    uint8_t *p = sh_write_room(w, n);
    if (p && n) memcpy(p, src, n);
}
static inline void sh_write_le(struct sh_writer *w, uint64_t v, size_t n)
{
    uint8_t *p = sh_write_room(w, n);
    if (!p) return;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}
static inline void sh_write_u8(struct sh_writer *w, uint8_t v)
{
    sh_write_le(w, v, 1);
}
static inline void sh_write_u16(struct sh_writer *w, uint16_t v)
{
    sh_write_le(w, v, 2);
}
static inline void sh_write_u32(struct sh_writer *w, uint32_t v)
{
    sh_write_le(w, v, 4);
}
static inline void sh_write_u64(struct sh_writer *w, uint64_t v)
{
    sh_write_le(w, v, 8);
}

#endif
