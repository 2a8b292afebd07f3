#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE 1 /* MSG_DONTWAIT, on macOS */

#include "fdloop.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* Buffers and bytes of one write: few system calls, but no more than a socket buffer takes. */
enum { WRITE_CHUNKS = 512, WRITE_BYTES = 1 << 20 };

/* Seconds of one poll(): its milliseconds must fit into an int. */
enum { LONGEST_WAIT = 1000 };

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* on systems without it, Python ignores SIGPIPE */
#endif

#ifdef __APPLE__
/* In sendmsg(), XNU looks at the descriptor's mode and ignores MSG_DONTWAIT; in recv() it respects
 * both. */
#define CSMTP_SEND_BY_MODE 1
#endif

double csmtp_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void csmtp_connection_begin(csmtp_connection *connection)
{
    csmtp_watch *watch = &connection->watch;
    watch->phase_since = watch->progress_since = csmtp_now();
    watch->booked = connection->pipeline->booked;
    watch->phase = csmtp_pipeline_phase(connection->pipeline);
    watch->last_read = watch->gap = 0;
}

void csmtp_connection_shift(csmtp_connection *connection, double seconds)
{
    connection->watch.phase_since += seconds;
    connection->watch.progress_since += seconds;
    if (connection->watch.last_read > 0)
        connection->watch.last_read += seconds;
}

double csmtp_watch_seconds(const csmtp_watch *watch)
{
    double seconds = watch->phase_seconds[watch->phase];
    if (watch->phase != CSMTP_PHASE_PROBE && watch->phase != CSMTP_PHASE_EARLY)
        return seconds;
    double longest = watch->phase_seconds[CSMTP_PHASE_COMMAND];
    seconds += watch->early_round_trips * watch->slowest_reply;
    return seconds < longest ? seconds : longest;
}

/* Notes what has happened by now. Returns when the nearest time limit ends. */
static double next_limit(csmtp_watch *watch, const csmtp_pipeline *pipeline, double time,
                         bool has_written, bool has_read)
{
    csmtp_phase phase = csmtp_pipeline_phase(pipeline);
    bool is_booked = pipeline->booked != watch->booked;
    bool is_new = phase != watch->phase || is_booked;
    bool was_command = watch->phase == CSMTP_PHASE_COMMAND || watch->phase == CSMTP_PHASE_DATA;
    if (is_booked && was_command && time - watch->phase_since > watch->slowest_reply)
        watch->slowest_reply = time - watch->phase_since;
    if (is_new || (has_written && phase == CSMTP_PHASE_BLOCK))
        watch->phase_since = time;
    if (has_written || has_read)
        watch->progress_since = time;
    if (has_written)
        watch->last_read = 0;
    if (has_read) {
        if (watch->last_read > 0 && time - watch->last_read > watch->gap)
            watch->gap = time - watch->last_read;
        watch->last_read = time;
    }
    watch->phase = phase;
    watch->booked = pipeline->booked;
    double limit = watch->phase_since + csmtp_watch_seconds(watch);
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
    size_t count = csmtp_pipeline_gather(pipeline, chunks, WRITE_CHUNKS, WRITE_BYTES);
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct iovec){(void *)(uintptr_t)chunks[i].bytes, chunks[i].count};
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t written = send_at_once(fd, &header);
    if (written < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? BLOCKED : FAILED;
    csmtp_pipeline_wrote(pipeline, (size_t)written);
    return MOVED;
}

/* Reads from the socket once. Returns CSMTP_RUN_SLICE unless that ends the run; sets *moved to
 * whether it read anything. */
static csmtp_run_status read_some(csmtp_connection *connection, size_t most, bool *moved)
{
    csmtp_pipeline *pipeline = connection->pipeline;
    *moved = false;
    uint8_t *room = csmtp_receive_reserve(pipeline->receive, most);
    if (!room)
        return CSMTP_RUN_NO_MEMORY;
    ssize_t count = recv(connection->fd, room, most, MSG_DONTWAIT);
    if (count == 0)
        return CSMTP_RUN_END;
    if (count < 0) {
        connection->error = errno;
        bool is_nothing = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        return is_nothing ? CSMTP_RUN_SLICE : CSMTP_RUN_ERRNO;
    }
    *moved = true;
    pipeline->receive->end += (size_t)count;
    if (csmtp_pipeline_receive(pipeline) != CSMTP_REPLY_MORE)
        return CSMTP_RUN_UNREADABLE;
    return pipeline->fault ? CSMTP_RUN_FAULT : CSMTP_RUN_SLICE;
}

/* Acknowledges at once what was read. A server that leaves Nagle's algorithm on sends its next
 * reply only when the last one is acknowledged, and the system delays that (on Linux by 40 ms) in
 * the hope of a command to send it with. The system returns to that delay whenever something is
 * written, so this is repeated. If the socket has no such option, as Unix sockets have none,
 * nothing is lost. */
static void acknowledge(csmtp_connection *connection)
{
    connection->owes_ack = false;
#ifdef TCP_QUICKACK
    int yes = 1;
    if (connection->quick_acks &&
        setsockopt(connection->fd, IPPROTO_TCP, TCP_QUICKACK, &yes, sizeof yes) < 0)
        connection->quick_acks = false;
#endif
}

static bool is_done(const csmtp_connection *connection)
{
    return (connection->pipeline->count <= connection->target && connection->target > 0) ||
           csmtp_pipeline_want(connection->pipeline) == 0;
}

/* Writes and reads once what is possible without waiting. Returns CSMTP_RUN_SLICE while the
 * connection has not come to its end; then connection->ready says whether there may be more to do
 * at once. Sets *time to the time now. */
static csmtp_run_status advance(csmtp_connection *connection, size_t receive_bytes, double *time)
{
    csmtp_pipeline *pipeline = connection->pipeline;
    bool has_written = false, has_read = false;
    if (pipeline->fault)
        return CSMTP_RUN_FAULT;
    if (is_done(connection))
        return CSMTP_RUN_DONE;
    unsigned want = csmtp_pipeline_want(pipeline);
    if (!connection->peek_first && connection->write_error == 0 && (want & CSMTP_WANT_WRITE)) {
        outcome written = write_some(pipeline, connection->fd);
        has_written = written == MOVED;
        if (written == FAILED)
            connection->write_error = errno;
        want = csmtp_pipeline_want(pipeline);
    }
    /* What was just written has no answer yet, so without waiting there is nothing to read. */
    if (connection->peek_first || connection->write_error != 0 || !has_written ||
        (want & CSMTP_WANT_WRITE)) {
        csmtp_run_status status = read_some(connection, receive_bytes, &has_read);
        if (status != CSMTP_RUN_SLICE)
            return status;
        if (connection->write_error != 0 && !has_read) {
            connection->error = connection->write_error;
            return CSMTP_RUN_ERRNO;
        }
    }
    *time = csmtp_now();
    csmtp_watch *watch = &connection->watch;
    connection->limit = next_limit(watch, pipeline, *time, has_written, has_read);
    bool has_peeked = connection->peek_first;
    connection->peek_first = false;
    connection->owes_ack = has_read || (connection->owes_ack && !has_written);
    want = csmtp_pipeline_want(pipeline);
    if (is_done(connection)) {
        /* Nobody knows when the next run comes, nor whether it writes anything. */
        if (connection->owes_ack && want == CSMTP_WANT_READ)
            acknowledge(connection);
        return CSMTP_RUN_DONE;
    }
    connection->ready = has_peeked || has_read || (has_written && (want & CSMTP_WANT_WRITE));
    if (connection->ready)
        return CSMTP_RUN_SLICE;
    if (connection->owes_ack && !(want & CSMTP_WANT_WRITE))
        acknowledge(connection);
    if (*time < connection->limit)
        return CSMTP_RUN_SLICE;
    bool is_idle = watch->idle_seconds >= 0 && *time >= watch->progress_since + watch->idle_seconds;
    return is_idle ? CSMTP_RUN_IDLE_OVER : CSMTP_RUN_PHASE_OVER;
}

/* Waits until a connection can go on, or until a time, and sets which connections are ready. Sets
 * *time to the time now. Returns false if the run is over: wake is readable, there was a signal, or
 * poll() failed. */
static bool wait_for_any(csmtp_connection *connections, size_t count, int wake, double *time,
                         double until)
{
    struct pollfd polled[CSMTP_CONNECTIONS + 1];
    for (size_t i = 0; i < count; i++) {
        short events = POLLIN;
        if (csmtp_pipeline_want(connections[i].pipeline) & CSMTP_WANT_WRITE)
            events |= POLLOUT;
        polled[i] = (struct pollfd){.fd = connections[i].fd, .events = events};
        if (connections[i].limit < until)
            until = connections[i].limit;
    }
    polled[count] = (struct pollfd){.fd = wake, .events = POLLIN};
    double wait = until > *time ? until - *time : 0;
    if (wait > LONGEST_WAIT)
        wait = LONGEST_WAIT;
    if (poll(polled, (nfds_t)(count + (wake >= 0)), (int)(wait * 1e3) + 1) < 0) {
        if (errno != EINTR) {
            /* No connection is more to blame than another. */
            connections[0].status = CSMTP_RUN_ERRNO;
            connections[0].error = errno;
        }
        return false;
    }
    *time = csmtp_now();
    for (size_t i = 0; i < count; i++)
        connections[i].ready = polled[i].revents != 0 || *time >= connections[i].limit;
    return wake < 0 || polled[count].revents == 0;
}

csmtp_run_status csmtp_fd_run(csmtp_connection *connections, size_t count, int wake,
                              size_t receive_bytes, double slice)
{
    double time = csmtp_now();
    const double slice_end = time + slice;
    for (size_t i = 0; i < count; i++) {
        csmtp_pipeline *pipeline = connections[i].pipeline;
        connections[i].status = CSMTP_RUN_SLICE;
        connections[i].error = connections[i].write_error = 0;
        connections[i].ready = true;
        connections[i].peek_first = pipeline->strict;
    }
    for (;;) {
        bool is_over = false, all_wait = true;
        for (size_t i = 0; i < count; i++) {
            if (!connections[i].ready)
                continue;
            connections[i].status = advance(&connections[i], receive_bytes, &time);
            is_over = is_over || connections[i].status != CSMTP_RUN_SLICE;
            all_wait = all_wait && !connections[i].ready;
        }
        if (is_over)
            return CSMTP_RUN_DONE;
        if (slice > 0 && time >= slice_end)
            return CSMTP_RUN_SLICE;
        if (!all_wait)
            continue;
        if (slice <= 0)
            return CSMTP_RUN_SLICE;
        if (!wait_for_any(connections, count, wake, &time, slice_end))
            return connections[0].status == CSMTP_RUN_SLICE ? CSMTP_RUN_SLICE : CSMTP_RUN_DONE;
    }
}
