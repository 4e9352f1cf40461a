/* base/log.h - one log sink for the process; silent until `cmd` installs one.
 *
 * A record is a sentence for people, and what programs want to know of it as a short list of
 * fields with a name, a unit and a value.  What it looks like is the sink's affair.
 *
 * Levels by frequency: ERROR what a person must act on, WARN what degrades service, INFO once per
 * session or load, DEBUG once per graph or connection event, TRACE once per step.  Nothing below
 * `cmd` prints otherwise.  Threads: any; the sink is called under no lock of ours and must be
 * thread-safe.  sh_log_set_sink() is called once, before threads start.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

#include <shoal/status.h>

enum sh_log_level { SH_LOG_ERROR, SH_LOG_WARN, SH_LOG_INFO, SH_LOG_DEBUG, SH_LOG_TRACE };

enum sh_log_kind { SH_LOG_TEXT, SH_LOG_COUNT, SH_LOG_BYTES, SH_LOG_SECONDS };

struct sh_log_field {
    const char *name;  /* for programs: "bytes_in", of [a-z0-9_] */
    const char *label; /* for people: "in"; NULL: the sentence says it already */
    enum sh_log_kind kind;
    union {
        const char *text; /* borrowed for the call; any bytes but NUL */
        uint64_t count;   /* of COUNT and BYTES */
        double seconds;
    } value;
};

static inline struct sh_log_field sh_log_text(const char *name, const char *label, const char *v)
{
    return (struct sh_log_field){
        .name = name, .label = label, .kind = SH_LOG_TEXT, .value = {.text = v}};
}
static inline struct sh_log_field sh_log_count(const char *name, const char *label, uint64_t v)
{
    return (struct sh_log_field){
        .name = name, .label = label, .kind = SH_LOG_COUNT, .value = {.count = v}};
}
static inline struct sh_log_field sh_log_bytes(const char *name, const char *label, uint64_t v)
{
    return (struct sh_log_field){
        .name = name, .label = label, .kind = SH_LOG_BYTES, .value = {.count = v}};
}
static inline struct sh_log_field sh_log_seconds(const char *name, const char *label, double v)
{
    return (struct sh_log_field){
        .name = name, .label = label, .kind = SH_LOG_SECONDS, .value = {.seconds = v}};
}

struct sh_log_record {
    enum sh_log_level level;
    const char *part; /* the folder's name ("ggmlrpc") */
    /* At most a kilobyte.  Names in it come from files and peers: any bytes but NUL, so a sink
     * must know what its reader can bear. */
    const char *message;
    const struct sh_log_field *fields;
    int n_fields;
};

/* The record is borrowed for the call. */
typedef void sh_log_sink(void *user, const struct sh_log_record *r);

void sh_log_set_sink(sh_log_sink *sink, void *user, enum sh_log_level most);
void sh_log(enum sh_log_level level, const char *part, const char *fmt, ...) SHOAL_PRINTF(3, 4);
void sh_log_fields(enum sh_log_level level, const char *part, const struct sh_log_field *fields,
                   int n_fields, const char *fmt, ...) SHOAL_PRINTF(5, 6);

#endif
