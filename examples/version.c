/* examples/version.c - the smallest program on libshoal: which library is this, and what do its
 * status codes mean?
 *
 *     cc version.c $(pkg-config --cflags --libs shoal) -o version
 */
#include <shoal/status.h>
#include <shoal/version.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    static const struct {
        enum shoal_status code;
        const char *text;
    } rows[] = {
#define X(name, value, text) {SHOAL_##name, text},
        SHOAL_STATUSES(X)
#undef X
    };

    printf("libshoal %s\n", shoal_version());
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        printf("%4d %-16s %s\n", rows[i].code, shoal_status_name(rows[i].code), rows[i].text);
    return strcmp(shoal_version(), SHOAL_VERSION) != 0; // headers of another version
}
