/* Preloaded, it makes a disk fail: after so many writes and syncs of files, each of them, or only
 * the next one, returns an error. What goes to standard output and error is none of them. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

typedef int syncing(int fd);
typedef ssize_t writing(int fd, const void *data, size_t size);
typedef ssize_t writing_at(int fd, const void *data, size_t size, off_t at);
#ifdef __GLIBC__
typedef ssize_t writing_at_64(int fd, const void *data, size_t size, off64_t at);
#endif

long fail_after(long calls, int error, int for_good, int only_syncs);

static long remaining = -1;
static int with;
static int permanently;
static int sparing_writes;

/* Negative: the disk is well. Returns how many calls would have
 * gone well still; 0 or less where one failed. */
long fail_after(long calls, int error, int for_good, int only_syncs)
{
    long former = remaining;

    remaining = calls;
    with = error;
    permanently = for_good;
    sparing_writes = only_syncs;
    return former;
}

static int fails(int fd, int is_sync)
{
    if (fd <= 2 || remaining < 0 || (sparing_writes && !is_sync))
        return 0;
    if (remaining > 0) {
        remaining--;
        return 0;
    }
    if (!permanently)
        remaining = -1;
    errno = with;
    return 1;
}

/* Has a call fail, or be what it is without this library. */
#define DO(type, name, is_sync, ...)                    \
    do {                                                \
        type *there;                                    \
        if (fails(fd, is_sync))                         \
            return -1;                                  \
        *(void **)&there = dlsym(RTLD_NEXT, name);      \
        return there(__VA_ARGS__);                      \
    } while (0)

int fsync(int fd)
{
    DO(syncing, "fsync", 1, fd);
}

int fdatasync(int fd)
{
    DO(syncing, "fdatasync", 1, fd);
}

ssize_t write(int fd, const void *data, size_t size)
{
    DO(writing, "write", 0, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    DO(writing_at, "pwrite", 0, fd, data, size, at);
}

#ifdef __GLIBC__
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    DO(writing_at_64, "pwrite64", 0, fd, data, size, at);
}
#endif
