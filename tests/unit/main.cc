#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define APRIL_THREAD_SANITIZER
#endif
#elif defined(__SANITIZE_THREAD__)
#define APRIL_THREAD_SANITIZER
#endif

#ifdef APRIL_THREAD_SANITIZER
// libzmq hands messages between threads through atomics of its own, which the sanitizer does not see in a library built without it.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "called_from_lib:libzmq.so\nrace:libzmq.so\n"; }
#endif
