/* shoal/version.h - the version of the headers and of the library (unstable until 1.0). */
#ifndef SHOAL_VERSION_H
#define SHOAL_VERSION_H

#include <shoal/status.h>

/* major.minor.patch; the build reads it from here. */
#define SHOAL_VERSION "0.1.0"

/* Version of the library that is running; compare with SHOAL_VERSION to find a mismatch. */
SHOAL_API const char *shoal_version(void);

#endif
