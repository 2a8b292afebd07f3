#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE 1 /* MSG_DONTWAIT, on macOS */

#include "fdloop.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* Buffers and octets of one write: few system calls, and no more than a socket buffer takes. */
enum { WRITE_CHUNKS = 512, WRITE_OCTETS = 1 << 20 };

/* Seconds of one poll(): milliseconds have to fit into an int. */
enum { LONGEST_WAIT = 1000 };

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* where there is none, Python ignores SIGPIPE */
#endif

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void csmtp_watch_begin(csmtp_watch *watch, const csmtp_pipeline *pipeline)
{
    watch->phase_since = watch->progress_since = now();
    watch->booked = pipeline->booked;
    watch->phase = csmtp_pipeline_phase(pipeline);
}

/* Notes what has happened by now; when the nearest limit ends. */
static double next_limit(csmtp_watch *watch, const csmtp_pipeline *pipeline, double time,
                         bool has_written, bool has_read)
{
    csmtp_phase phase = csmtp_pipeline_phase(pipeline);
    bool is_new = phase != watch->phase || pipeline->booked != watch->booked;
    if (is_new || (has_written && phase == CSMTP_PHASE_BLOCK))
        watch->phase_since = time;
    if (has_written || has_read)
        watch->progress_since = time;
    watch->phase = phase;
    watch->booked = pipeline->booked;
    double limit = watch->phase_since + watch->phase_seconds[phase];
    double idle = watch->progress_since + watch->idle_seconds;
    return watch->idle_seconds >= 0 && idle < limit ? idle : limit;
}

typedef enum { MOVED, BLOCKED, FAILED } outcome;

static outcome write_some(csmtp_pipeline *pipeline, int fd)
{
    csmtp_chunk chunks[WRITE_CHUNKS];
    struct iovec parts[WRITE_CHUNKS];
    size_t count = csmtp_pipeline_gather(pipeline, chunks, WRITE_CHUNKS, WRITE_OCTETS);
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct iovec){(void *)(uintptr_t)chunks[i].octets, chunks[i].count};
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t written = sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (written < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? BLOCKED : FAILED;
    csmtp_pipeline_wrote(pipeline, (size_t)written);
    return MOVED;
}

/* What a read of the socket came to, or CSMTP_RUN_SLICE for nothing; *moved: whether it read. */
static csmtp_run_status read_some(csmtp_pipeline *pipeline, int fd, size_t octets, bool *moved,
                                  int *error)
{
    *moved = false;
    uint8_t *room = csmtp_receive_reserve(pipeline->receive, octets);
    if (!room)
        return CSMTP_RUN_NO_MEMORY;
    ssize_t count = recv(fd, room, octets, MSG_DONTWAIT);
    if (count == 0)
        return CSMTP_RUN_END;
    if (count < 0) {
        *error = errno;
        bool is_nothing = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        return is_nothing ? CSMTP_RUN_SLICE : CSMTP_RUN_ERRNO;
    }
    *moved = true;
    pipeline->receive->end += (size_t)count;
    if (csmtp_pipeline_receive(pipeline) != CSMTP_REPLY_MORE)
        return CSMTP_RUN_UNREADABLE;
    return pipeline->fault ? CSMTP_RUN_FAULT : CSMTP_RUN_SLICE;
}

static bool is_done(const csmtp_pipeline *pipeline, size_t target)
{
    return (pipeline->count <= target && target > 0) || csmtp_pipeline_want(pipeline) == 0;
}

csmtp_run_status csmtp_fd_run(csmtp_pipeline *pipeline, int fd, size_t target,
                              size_t receive_octets, double slice, csmtp_watch *watch, int *error)
{
    double time = now();
    const double slice_end = time + slice;
    int write_error = 0;
    bool look = pipeline->strict && csmtp_pipeline_phase(pipeline) == CSMTP_PHASE_BLOCK;
    if (pipeline->fault)
        return CSMTP_RUN_FAULT;
    while (!is_done(pipeline, target)) {
        unsigned want = csmtp_pipeline_want(pipeline);
        bool has_written = false, has_read = false;
        if (!look && write_error == 0 && (want & CSMTP_WANT_WRITE)) {
            outcome written = write_some(pipeline, fd);
            has_written = written == MOVED;
            if (written == FAILED)
                write_error = errno;
            want = csmtp_pipeline_want(pipeline);
        }
        /* What was just written has no answer yet, so there is nothing to read but by waiting. */
        if (look || write_error != 0 || !has_written || (want & CSMTP_WANT_WRITE)) {
            csmtp_run_status status = read_some(pipeline, fd, receive_octets, &has_read, error);
            if (status != CSMTP_RUN_SLICE)
                return status;
            if (write_error != 0 && !has_read) {
                *error = write_error;
                return CSMTP_RUN_ERRNO;
            }
        }
        time = now();
        double limit = next_limit(watch, pipeline, time, has_written, has_read);
        if (look || has_read || is_done(pipeline, target)) {
            look = false;
        } else if (!has_written || !(csmtp_pipeline_want(pipeline) & CSMTP_WANT_WRITE)) {
            if (time >= limit)
                return watch->idle_seconds >= 0 &&
                               time >= watch->progress_since + watch->idle_seconds
                           ? CSMTP_RUN_IDLE_OVER
                           : CSMTP_RUN_PHASE_OVER;
            if (slice <= 0)
                return CSMTP_RUN_SLICE;
            double until = limit < slice_end ? limit : slice_end;
            double wait = until > time ? until - time : 0;
            short events = POLLIN;
            if (csmtp_pipeline_want(pipeline) & CSMTP_WANT_WRITE)
                events |= POLLOUT;
            struct pollfd ready = {.fd = fd, .events = events};
            if (wait > LONGEST_WAIT)
                wait = LONGEST_WAIT;
            if (poll(&ready, 1, (int)(wait * 1e3) + 1) < 0) {
                *error = errno;
                return errno == EINTR ? CSMTP_RUN_SLICE : CSMTP_RUN_ERRNO;
            }
            time = now();
        }
        if (slice > 0 && time >= slice_end)
            return CSMTP_RUN_SLICE;
    }
    return CSMTP_RUN_DONE;
}
