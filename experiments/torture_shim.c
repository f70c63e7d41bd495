// Put before libc with LD_PRELOAD: input/output errors under one folder, and a clock that jumps (experiments/torture.py).
//
//   TORTURE_ROOT     folder whose files are counted; without it no call fails
//   TORTURE_COUNTER  file of 8 bytes that holds the number of calls so far, shared by all threads and processes
//   TORTURE_READS    1: reading calls are counted and fail; 0: writing ones
//   TORTURE_FIRST    number of the first call that fails with EIO
//   TORTURE_COUNT    how many calls in a row fail
//   TORTURE_AFTER    seconds after the start at which the clock of the day jumps
//   TORTURE_JUMP     by how many seconds
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char *root;
static long *counter, own_counter, first, count, jump;
static int reads;
static double after, began;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static long number(const char *name) { return getenv(name) ? atol(getenv(name)) : 0; }

static double running(void) {
    struct timespec now;
    REAL(clock_gettime)(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("TORTURE_COUNTER");
    int descriptor = file ? REAL(open)(file, O_RDWR) : -1;
    counter = &own_counter;
    if (descriptor >= 0) {
        void *found = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (found != MAP_FAILED) counter = found;
        REAL(close)(descriptor);
    }
    first = number("TORTURE_FIRST"), count = number("TORTURE_COUNT"), reads = number("TORTURE_READS");
    jump = number("TORTURE_JUMP"), after = getenv("TORTURE_AFTER") ? atof(getenv("TORTURE_AFTER")) : 0;
    began = running();
    root = getenv("TORTURE_ROOT");
}

// Whether a call on a path, or on an open file, is to fail.
static int fails(int reading, int descriptor, const char *path) {
    char found[PATH_MAX], link[64];
    if (!root || reading != reads) return 0;
    if (!path || path[0] != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        ssize_t length = descriptor == AT_FDCWD ? -1 : readlink(link, found, sizeof found - 1);
        if (length < 0) return 0;
        found[length] = 0;
        path = found;
    }
    if (strncmp(path, root, strlen(root))) return 0;
    long now = __sync_fetch_and_add(counter, 1);
    if (now < first || now >= first + count) return 0;
    errno = EIO;
    return 1;
}

#define CALL(reading, type, name, parameters, values, descriptor, path) \
    type name parameters {                                              \
        if (fails(reading, descriptor, path)) return -1;                \
        return REAL(name) values;                                       \
    }

CALL(0, ssize_t, write, (int d, const void *b, size_t n), (d, b, n), d, NULL)
CALL(0, ssize_t, pwrite, (int d, const void *b, size_t n, off_t o), (d, b, n, o), d, NULL)
CALL(0, ssize_t, pwrite64, (int d, const void *b, size_t n, off64_t o), (d, b, n, o), d, NULL)
CALL(0, ssize_t, writev, (int d, const struct iovec *v, int n), (d, v, n), d, NULL)
CALL(0, ssize_t, pwritev, (int d, const struct iovec *v, int n, off_t o), (d, v, n, o), d, NULL)
CALL(0, int, fsync, (int d), (d), d, NULL)
CALL(0, int, fdatasync, (int d), (d), d, NULL)
CALL(0, int, ftruncate, (int d, off_t o), (d, o), d, NULL)
CALL(0, int, rename, (const char *a, const char *b), (a, b), AT_FDCWD, b)
CALL(0, int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), e, b)
CALL(0, int, mkdir, (const char *p, mode_t m), (p, m), AT_FDCWD, p)
CALL(0, int, mkdirat, (int d, const char *p, mode_t m), (d, p, m), d, p)
CALL(0, int, unlink, (const char *p), (p), AT_FDCWD, p)
CALL(1, ssize_t, read, (int d, void *b, size_t n), (d, b, n), d, NULL)
CALL(1, ssize_t, pread, (int d, void *b, size_t n, off_t o), (d, b, n, o), d, NULL)
CALL(1, ssize_t, pread64, (int d, void *b, size_t n, off64_t o), (d, b, n, o), d, NULL)
CALL(1, ssize_t, preadv, (int d, const struct iovec *v, int n, off_t o), (d, v, n, o), d, NULL)

#define OPEN(name, parameters, values, descriptor)                                             \
    int name parameters {                                                                      \
        va_list rest;                                                                          \
        va_start(rest, flags);                                                                 \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                \
        va_end(rest);                                                                          \
        if (fails(!(flags & (O_WRONLY | O_RDWR | O_CREAT)), descriptor, path)) return -1;      \
        return REAL(name) values;                                                              \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)

static long jumped(void) { return jump && running() - began > after ? jump : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int found = REAL(clock_gettime)(clock, now);
    if (!found && clock == CLOCK_REALTIME) now->tv_sec += jumped();
    return found;
}

int gettimeofday(struct timeval *now, void *zone) {
    int found = REAL(gettimeofday)(now, zone);
    if (!found) now->tv_sec += jumped();
    return found;
}

time_t time(time_t *now) {
    time_t found = REAL(time)(NULL) + jumped();
    if (now) *now = found;
    return found;
}
