#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE 1 /* MSG_DONTWAIT, on macOS */

#include "fdloop.h"

#include <errno.h>
#include <fcntl.h>
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

#ifdef __APPLE__
/* To send, XNU asks for the descriptor's mode, and not for MSG_DONTWAIT; recv() heeds both. */
#define CSMTP_SEND_BY_MODE 1
#endif

double csmtp_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void csmtp_line_begin(csmtp_line *line)
{
    csmtp_watch *watch = &line->watch;
    watch->phase_since = watch->progress_since = csmtp_now();
    watch->booked = line->pipeline->booked;
    watch->phase = csmtp_pipeline_phase(line->pipeline);
}

void csmtp_line_shift(csmtp_line *line, double seconds)
{
    line->watch.phase_since += seconds;
    line->watch.progress_since += seconds;
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

/* sendmsg() that never waits, whatever the mode of the descriptor. */
static ssize_t send_at_once(int fd, const struct msghdr *header)
{
#ifdef CSMTP_SEND_BY_MODE
    int mode = fcntl(fd, F_GETFL);
    bool is_blocking = mode >= 0 && !(mode & O_NONBLOCK);
    if (is_blocking)
        fcntl(fd, F_SETFL, mode | O_NONBLOCK);
    ssize_t count = sendmsg(fd, header, MSG_DONTWAIT | MSG_NOSIGNAL);
    int error = errno;
    if (is_blocking)
        fcntl(fd, F_SETFL, mode);
    errno = error;
    return count;
#else
    return sendmsg(fd, header, MSG_DONTWAIT | MSG_NOSIGNAL);
#endif
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
    ssize_t written = send_at_once(fd, &header);
    if (written < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? BLOCKED : FAILED;
    csmtp_pipeline_wrote(pipeline, (size_t)written);
    return MOVED;
}

/* What a read of the socket came to, or CSMTP_RUN_SLICE for nothing; *moved: whether it read. */
static csmtp_run_status read_some(csmtp_line *line, size_t octets, bool *moved)
{
    csmtp_pipeline *pipeline = line->pipeline;
    *moved = false;
    uint8_t *room = csmtp_receive_reserve(pipeline->receive, octets);
    if (!room)
        return CSMTP_RUN_NO_MEMORY;
    ssize_t count = recv(line->fd, room, octets, MSG_DONTWAIT);
    if (count == 0)
        return CSMTP_RUN_END;
    if (count < 0) {
        line->error = errno;
        bool is_nothing = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        return is_nothing ? CSMTP_RUN_SLICE : CSMTP_RUN_ERRNO;
    }
    *moved = true;
    pipeline->receive->end += (size_t)count;
    if (csmtp_pipeline_receive(pipeline) != CSMTP_REPLY_MORE)
        return CSMTP_RUN_UNREADABLE;
    return pipeline->fault ? CSMTP_RUN_FAULT : CSMTP_RUN_SLICE;
}

static bool is_done(const csmtp_line *line)
{
    return (line->pipeline->count <= line->target && line->target > 0) ||
           csmtp_pipeline_want(line->pipeline) == 0;
}

/* Writes and reads what can be without waiting, once. CSMTP_RUN_SLICE while the line has not come to
 * its end; line->ready tells then whether there may be more to do at once. *time: now. */
static csmtp_run_status advance(csmtp_line *line, size_t receive_octets, double *time)
{
    csmtp_pipeline *pipeline = line->pipeline;
    bool has_written = false, has_read = false;
    if (pipeline->fault)
        return CSMTP_RUN_FAULT;
    if (is_done(line))
        return CSMTP_RUN_DONE;
    unsigned want = csmtp_pipeline_want(pipeline);
    if (!line->look && line->write_error == 0 && (want & CSMTP_WANT_WRITE)) {
        outcome written = write_some(pipeline, line->fd);
        has_written = written == MOVED;
        if (written == FAILED)
            line->write_error = errno;
        want = csmtp_pipeline_want(pipeline);
    }
    /* What was just written has no answer yet, so there is nothing to read but by waiting. */
    if (line->look || line->write_error != 0 || !has_written || (want & CSMTP_WANT_WRITE)) {
        csmtp_run_status status = read_some(line, receive_octets, &has_read);
        if (status != CSMTP_RUN_SLICE)
            return status;
        if (line->write_error != 0 && !has_read) {
            line->error = line->write_error;
            return CSMTP_RUN_ERRNO;
        }
    }
    *time = csmtp_now();
    csmtp_watch *watch = &line->watch;
    line->limit = next_limit(watch, pipeline, *time, has_written, has_read);
    bool looked = line->look;
    line->look = false;
    if (is_done(line))
        return CSMTP_RUN_DONE;
    line->ready = looked || has_read ||
                  (has_written && (csmtp_pipeline_want(pipeline) & CSMTP_WANT_WRITE));
    if (line->ready || *time < line->limit)
        return CSMTP_RUN_SLICE;
    bool is_idle = watch->idle_seconds >= 0 && *time >= watch->progress_since + watch->idle_seconds;
    return is_idle ? CSMTP_RUN_IDLE_OVER : CSMTP_RUN_PHASE_OVER;
}

/* Waits until a line can go on, or until then, and tells which lines those are; *time: now. False
 * where the run is over: there is something to read from wake, a signal came, or poll() failed. */
static bool wait_for_any(csmtp_line *lines, size_t count, int wake, double *time, double until)
{
    struct pollfd polled[CSMTP_LINES + 1];
    for (size_t i = 0; i < count; i++) {
        short events = POLLIN;
        if (csmtp_pipeline_want(lines[i].pipeline) & CSMTP_WANT_WRITE)
            events |= POLLOUT;
        polled[i] = (struct pollfd){.fd = lines[i].fd, .events = events};
        if (lines[i].limit < until)
            until = lines[i].limit;
    }
    polled[count] = (struct pollfd){.fd = wake, .events = POLLIN};
    double wait = until > *time ? until - *time : 0;
    if (wait > LONGEST_WAIT)
        wait = LONGEST_WAIT;
    if (poll(polled, (nfds_t)(count + (wake >= 0)), (int)(wait * 1e3) + 1) < 0) {
        if (errno != EINTR) {
            /* No line is more to blame than another. */
            lines[0].status = CSMTP_RUN_ERRNO;
            lines[0].error = errno;
        }
        return false;
    }
    *time = csmtp_now();
    for (size_t i = 0; i < count; i++)
        lines[i].ready = polled[i].revents != 0 || *time >= lines[i].limit;
    return wake < 0 || polled[count].revents == 0;
}

csmtp_run_status csmtp_fd_run(csmtp_line *lines, size_t count, int wake, size_t receive_octets,
                              double slice)
{
    double time = csmtp_now();
    const double slice_end = time + slice;
    for (size_t i = 0; i < count; i++) {
        csmtp_pipeline *pipeline = lines[i].pipeline;
        lines[i].status = CSMTP_RUN_SLICE;
        lines[i].error = lines[i].write_error = 0;
        lines[i].ready = true;
        lines[i].look = pipeline->strict;
    }
    for (;;) {
        bool is_over = false, all_wait = true;
        for (size_t i = 0; i < count; i++) {
            if (!lines[i].ready)
                continue;
            lines[i].status = advance(&lines[i], receive_octets, &time);
            is_over = is_over || lines[i].status != CSMTP_RUN_SLICE;
            all_wait = all_wait && !lines[i].ready;
        }
        if (is_over)
            return CSMTP_RUN_DONE;
        if (slice > 0 && time >= slice_end)
            return CSMTP_RUN_SLICE;
        if (!all_wait)
            continue;
        if (slice <= 0)
            return CSMTP_RUN_SLICE;
        if (!wait_for_any(lines, count, wake, &time, slice_end))
            return lines[0].status == CSMTP_RUN_SLICE ? CSMTP_RUN_SLICE : CSMTP_RUN_DONE;
    }
}
