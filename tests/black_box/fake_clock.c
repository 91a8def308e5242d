// A double of a node's clock and name, for tests: put before the C library by
// LD_PRELOAD, it adds FAKE_CLOCK seconds to what time it is, and says that the
// node is called FAKE_HOST. The monotonic clock stays as it is.
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = (int)syscall(SYS_clock_gettime, clock, time);
    const char *ahead = getenv("FAKE_CLOCK");
    if (done == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += atol(ahead);
    return done;
}

int gethostname(char *name, size_t size) {
    const char *fake = getenv("FAKE_HOST");
    strncpy(name, fake ? fake : "localhost", size);
    return 0;
}
