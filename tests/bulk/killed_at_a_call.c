/* Preloaded, it kills the process before one of its next calls that write or sync a file, or send or
 * receive: the one after so many. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

typedef int syncing(int fd);
typedef int cutting(int fd, off_t size);
typedef ssize_t writing_at(int fd, const void *data, size_t size, off_t at);
typedef ssize_t sending(int fd, const void *data, size_t size, int flags);
typedef ssize_t sending_parts(int fd, const struct msghdr *message, int flags);
typedef ssize_t receiving(int fd, void *data, size_t size, int flags);
#ifdef __GLIBC__
typedef ssize_t writing_at_64(int fd, const void *data, size_t size, off64_t at);
typedef int cutting_64(int fd, off64_t size);
#endif

void kill_after(long calls);

static long remaining = -1;

/* Negative: it lives on. */
void kill_after(long calls)
{
    remaining = calls;
}

static void count(void)
{
    if (__atomic_load_n(&remaining, __ATOMIC_RELAXED) >= 0 &&
        __atomic_fetch_sub(&remaining, 1, __ATOMIC_RELAXED) == 0)
        kill(getpid(), SIGKILL);
}

#define DO(type, name, ...)                        \
    do {                                           \
        type *there;                               \
        count();                                   \
        *(void **)&there = dlsym(RTLD_NEXT, name); \
        return there(__VA_ARGS__);                 \
    } while (0)

int fsync(int fd)
{
    DO(syncing, "fsync", fd);
}

int fdatasync(int fd)
{
    DO(syncing, "fdatasync", fd);
}

int ftruncate(int fd, off_t size)
{
    DO(cutting, "ftruncate", fd, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    DO(writing_at, "pwrite", fd, data, size, at);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    DO(sending, "send", fd, data, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    DO(sending_parts, "sendmsg", fd, message, flags);
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    DO(receiving, "recv", fd, data, size, flags);
}

#ifdef __GLIBC__
int ftruncate64(int fd, off64_t size)
{
    DO(cutting_64, "ftruncate64", fd, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    DO(writing_at_64, "pwrite64", fd, data, size, at);
}
#endif
