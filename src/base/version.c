/* base/version.c - the version compiled into the library. */
#include <shoal/version.h>

const char *shoal_version(void)
{
    return SHOAL_VERSION;
}
