// A double of a node's clocks and name, for tests: put before the C library by
// LD_PRELOAD, it adds FAKE_CLOCK seconds to what time it is, and says that the
// node is called FAKE_HOST. The monotonic clock stays as it is. All clocks are ahead by
// the number of seconds that the file FAKE_JUMP begins with, eight bytes which may
// change at any time: so much time has passed at once. FAKE_SUSPEND is such a file, too:
// for so many milliseconds the node was suspended, and the monotonic clock stood still.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long *jump, *suspended;

static const volatile long *number_in(const char *path) {
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return NULL;
    void *map = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    return map == MAP_FAILED ? NULL : map;
}

__attribute__((constructor)) static void open_numbers(void) {
    jump = number_in(getenv("FAKE_JUMP"));
    suspended = number_in(getenv("FAKE_SUSPEND"));
}

static void add_millis(struct timespec *time, long millis) {
    time->tv_sec += millis / 1000;
    time->tv_nsec += millis % 1000 * 1000000;
    if (time->tv_nsec < 0) {
        time->tv_nsec += 1000000000;
        time->tv_sec -= 1;
    } else if (time->tv_nsec >= 1000000000) {
        time->tv_nsec -= 1000000000;
        time->tv_sec += 1;
    }
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = (int)syscall(SYS_clock_gettime, clock, time);
    const char *ahead = getenv("FAKE_CLOCK");
    if (done == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += atol(ahead);
    if (done == 0 && jump && clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID)
        time->tv_sec += *jump;
    if (done == 0 && suspended && clock == CLOCK_MONOTONIC)
        add_millis(time, -*suspended);
    return done;
}

// Who waits until some time of this clock waits until that time of the kernel's.
long syscall(long number, ...) {
    static long (*real)(long, ...);
    long words[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) words[i] = va_arg(list, long);
    va_end(list);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    struct timespec until;
    if ((jump || suspended) && number == SYS_futex && (words[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && words[3]) {
        until = *(struct timespec *)words[3];
        if (jump) until.tv_sec -= *jump;
        if (suspended) add_millis(&until, *suspended);
        if (until.tv_sec < 0) until.tv_sec = 0;
        words[3] = (long)&until;
    }
    return real(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

int gethostname(char *name, size_t size) {
    const char *fake = getenv("FAKE_HOST");
    strncpy(name, fake ? fake : "localhost", size);
    return 0;
}
