/* shoal/status.h - status codes and error records of libshoal (unstable until 1.0).
 *
 * Every call that can fail returns an enum shoal_status by value: 0 or one negative code.  A call
 * that knows more takes a nullable struct shoal_error last and writes one sentence naming the
 * input and the value.  There is no process-wide error state; records belong to the caller.
 */
#ifndef SHOAL_STATUS_H
#define SHOAL_STATUS_H

#if defined(__GNUC__)
#define SHOAL_API __attribute__((visibility("default")))
#define SHOAL_NODISCARD __attribute__((warn_unused_result))
#define SHOAL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define SHOAL_API
#define SHOAL_NODISCARD
#define SHOAL_PRINTF(fmt, args)
#endif

/* name, value, what it means to a caller */
#define SHOAL_STATUSES(X)                                                                          \
    X(OK, 0, "done")                                                                               \
    X(ERR_ARG, -1, "an argument or flag is wrong")                                                 \
    X(ERR_NOMEM, -2, "out of memory, here or on a device")                                         \
    X(ERR_IO, -3, "the operating system reported an error on a file or device")                    \
    X(ERR_FORMAT, -4, "a file or frame is malformed")                                              \
    X(ERR_UNSUPPORTED, -5, "well formed, but not supported here")                                  \
    X(ERR_LIMIT, -6, "a documented limit was exceeded")                                            \
    X(ERR_PEER, -7, "a peer is lost, refused or talks nonsense")                                   \
    X(ERR_TIMEOUT, -8, "a deadline passed")                                                        \
    X(ERR_CANCELLED, -9, "cancelled on request")                                                   \
    X(ERR_STATE, -10, "not possible in the object's present state")                                \
    X(ERR_POISONED, -11, "an earlier operation of the same queue failed")                          \
    X(ERR_NOT_FOUND, -12, "no such thing")

enum shoal_status {
#define X(name, value, text) SHOAL_##name = value,
    SHOAL_STATUSES(X)
#undef X
};

/* What went wrong, for a person.  Initialise with SHOAL_ERROR_INIT; reuse freely. */
struct shoal_error {
    enum shoal_status code;
    int sys_errno;     /* errno of the failing call, 0 if none */
    char peer[72];     /* address of the peer concerned, "" if none */
    char message[320]; /* one sentence, no newline, naming the input and the value */
};
#define SHOAL_ERROR_INIT                                                                           \
    {                                                                                              \
        .code = SHOAL_OK                                                                           \
    }

/* Short name of a code ("ERR_IO"); never NULL. */
SHOAL_API const char *shoal_status_name(enum shoal_status st);

#endif
