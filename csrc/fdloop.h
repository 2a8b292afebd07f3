/* Runs pipelines over the descriptors of connected stream sockets; reads while it writes. */
#ifndef CSMTP_FDLOOP_H
#define CSMTP_FDLOOP_H

#include <stddef.h>
#include <stdint.h>

#include "pipeline.h"

/* Time limits of a connection in seconds, and the times on the clock from which they count. */
typedef struct {
    double phase_seconds[CSMTP_PHASES]; /* for each reply, or each block that is written */
    /* A reply to what is sent early may take this many times the longest time that the host has
     * taken to answer a command, in addition to the phase's seconds. */
    double early_round_trips;
    double idle_seconds;                /* without a byte in or out; negative for no limit */
    double phase_since, progress_since;
    double last_read;     /* the time of the last read since the last write; 0 if there was none */
    double gap;           /* the longest wait so far between two reads of replies to one flight */
    double slowest_reply; /* the longest time that a command has waited for its reply */
    uint64_t booked;
    csmtp_phase phase;
} csmtp_watch;

/* Returns how long the next reply may take. */
double csmtp_watch_seconds(const csmtp_watch *watch);

typedef enum {
    CSMTP_RUN_DONE,       /* at most target messages are left, or content is held */
    CSMTP_RUN_SLICE,      /* the time slice is over, or there was a signal: call again */
    CSMTP_RUN_FAULT,      /* see pipeline->fault */
    CSMTP_RUN_UNREADABLE, /* see pipeline->unreadable */
    CSMTP_RUN_END,        /* the server has closed the connection */
    CSMTP_RUN_PHASE_OVER, /* the limit of watch.phase has passed */
    CSMTP_RUN_IDLE_OVER,
    CSMTP_RUN_ERRNO,      /* error is the errno of a system call */
    CSMTP_RUN_NO_MEMORY
} csmtp_run_status;

/* A connection to run until target messages are left; with target 0, until every reply is in. The
 * descriptor may be blocking or not. */
typedef struct {
    csmtp_pipeline *pipeline;
    int fd;
    size_t target;
    csmtp_watch watch;
    csmtp_run_status status; /* how the last run has ended for this connection */
    int error;
    bool quick_acks; /* acknowledge replies at once while more replies to the flight are expected */
    /* For the loop only: */
    int write_error;
    bool peek_first; /* read before anything is written, for what the server has sent unasked */
    bool ready, owes_ack;
    double limit;
} csmtp_connection;

/* The most connections that one run takes. */
enum { CSMTP_CONNECTIONS = 1024 };

/* Starts all time limits of a connection now. */
void csmtp_connection_begin(csmtp_connection *connection);

/* Excludes seconds in which the connection was not run from its time limits. */
void csmtp_connection_shift(csmtp_connection *connection, double seconds);

/* Runs connections until one of them comes to its end, whose status then is not CSMTP_RUN_SLICE, or
 * for slice seconds, or until the descriptor `wake` becomes readable (-1 for none). With 0 seconds
 * it does what is possible without waiting. If a pipeline is strict, it first reads what the server
 * may have sent unasked. receive_bytes is the size of one read. Returns CSMTP_RUN_DONE if a
 * connection has come to its end, else CSMTP_RUN_SLICE. */
csmtp_run_status csmtp_fd_run(csmtp_connection *connections, size_t count, int wake,
                              size_t receive_bytes, double slice);

/* Returns the time on the clock of the time limits, in seconds. */
double csmtp_now(void);

#endif
