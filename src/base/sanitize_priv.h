/* base/sanitize_priv.h - telling AddressSanitizer which bytes nobody may touch.  Without it the
 * calls vanish.  Threads: any. */
#ifndef BASE_SANITIZE_PRIV_H
#define BASE_SANITIZE_PRIV_H

#if defined(__SANITIZE_ADDRESS__)
#define SH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SH_ASAN 1
#endif
#endif
#ifndef SH_ASAN
#define SH_ASAN 0
#endif

#if SH_ASAN
#include <sanitizer/asan_interface.h>
#define sh_poison(p, n) __asan_poison_memory_region((p), (n))
#define sh_unpoison(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define sh_poison(p, n) ((void)(p), (void)(n))
#define sh_unpoison(p, n) ((void)(p), (void)(n))
#endif

#endif
