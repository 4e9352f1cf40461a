/* detok.c - see detok.h. */
#include "text/detok.h"

#include "text/unicode.h"

void sh_detok_init(struct sh_detok *d, const struct sh_vocab *v,
                   const struct sh_detok_options *options)
{
    *d = (struct sh_detok){.v = v,
                           .special = options && options->special,
                           .at_start = !options || !options->continuation};
}

/* Deliver what is decided of the held bytes. */
static enum shoal_status settle(struct sh_detok *d, struct sh_buf *out)
{
    while (d->n_held > 0) {
        const struct sh_utf8_unit u = sh_utf8_next(d->held, d->n_held);
        enum shoal_status st;
        if (u.kind == SH_UTF8_PARTIAL) break;
        st = u.kind == SH_UTF8_VALID ? sh_buf_append(out, d->held, u.n_bytes)
                                     : sh_buf_append(out, SH_UTF8_REPLACEMENT, 3);
        if (st) return st;
        d->n_held = (uint8_t)(d->n_held - u.n_bytes);
        memmove(d->held, d->held + u.n_bytes, d->n_held);
    }
    return SHOAL_OK;
}

static enum shoal_status deliver(struct sh_detok *d, struct sh_str s, struct sh_buf *out)
{
    while (s.len) {
        enum shoal_status st;
        size_t n = 1;
        if (d->n_held == 0 && (n = sh_utf8_valid_len(s.ptr, s.len)) > 0) {
            st = sh_buf_append(out, s.ptr, n);
        } else {
            n = 1;
            d->held[d->n_held++] = s.ptr[0];
            st = settle(d, out);
        }
        if (st) return st;
        s.ptr += n;
        s.len -= n;
    }
    return SHOAL_OK;
}

enum shoal_status sh_detok_feed(struct sh_detok *d, int32_t id, struct sh_buf *out,
                                struct shoal_error *err)
{
    struct sh_str piece;

    if (id < 0 || id >= sh_vocab_n_tokens(d->v))
        return sh_fail(err, SHOAL_ERR_ARG, "detokenize: %d is no token id, there are %d", id,
                       sh_vocab_n_tokens(d->v));
    piece = sh_token_piece(d->v, id, d->special);
    if (d->at_start && sh_vocab_adds_space(d->v) && piece.len && piece.ptr[0] == ' ') {
        piece.ptr++;
        piece.len--;
    }
    d->at_start = false;
    if (deliver(d, piece, out)) return sh_fail(err, SHOAL_ERR_NOMEM, "detokenize: no memory");
    return SHOAL_OK;
}

enum shoal_status sh_detok_finish(struct sh_detok *d, struct sh_buf *out, struct shoal_error *err)
{
    const bool open = d->n_held > 0;

    d->n_held = 0;
    if (open && sh_buf_append(out, SH_UTF8_REPLACEMENT, 3))
        return sh_fail(err, SHOAL_ERR_NOMEM, "detokenize: no memory");
    return SHOAL_OK;
}
