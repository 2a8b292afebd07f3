/* Runs pipelines over the descriptors of connected stream sockets, reading while it writes. */
#ifndef CSMTP_FDLOOP_H
#define CSMTP_FDLOOP_H

#include <stddef.h>
#include <stdint.h>

#include "pipeline.h"

/* Time limits, in seconds, and the clock readings that they count from. */
typedef struct {
    double phase_seconds[CSMTP_PHASES]; /* for each reply, or each block that is written */
    double idle_seconds;                /* without an octet in or out; negative for no limit */
    double phase_since, progress_since;
    uint64_t booked;
    csmtp_phase phase;
} csmtp_watch;

typedef enum {
    CSMTP_RUN_DONE,       /* no more than target messages are left, or content is held */
    CSMTP_RUN_SLICE,      /* the time slice is over, or a signal came: call again */
    CSMTP_RUN_FAULT,      /* see pipeline->fault */
    CSMTP_RUN_UNREADABLE, /* see pipeline->unreadable */
    CSMTP_RUN_END,        /* the server has closed the connection */
    CSMTP_RUN_PHASE_OVER, /* the limit of watch.phase has passed */
    CSMTP_RUN_IDLE_OVER,
    CSMTP_RUN_ERRNO,      /* error is the errno of a system call */
    CSMTP_RUN_NO_MEMORY
} csmtp_run_status;

/* A connection that is run: until target messages are left, with 0 until every reply is in. The
 * descriptor may be blocking or not. */
typedef struct {
    csmtp_pipeline *pipeline;
    int fd;
    size_t target;
    csmtp_watch watch;
    csmtp_run_status status; /* how its part of the last run has ended */
    int error;
    /* The loop's own: */
    int write_error;
    bool look, ready;
    double limit;
} csmtp_line;

/* As many lines as one run takes. */
enum { CSMTP_LINES = 1024 };

/* Lets all limits of a line count from now. */
void csmtp_line_begin(csmtp_line *line);

/* Has the limits of a line leave out so many seconds, in which nobody ran it. */
void csmtp_line_shift(csmtp_line *line, double seconds);

/* Runs lines until one of them has come to its end, whose status then is not CSMTP_RUN_SLICE, or for
 * slice seconds, or until there is something to read from the descriptor `wake` (-1 for none); with
 * 0 seconds it does what can be done without waiting. With a strict pipeline it first sees what the
 * server has said meanwhile, maybe unasked. receive_octets: how much is read at once. CSMTP_RUN_DONE where a line has come to its end, else CSMTP_RUN_SLICE. */
csmtp_run_status csmtp_fd_run(csmtp_line *lines, size_t count, int wake, size_t receive_octets,
                              double slice);

/* Seconds on the clock that lines are watched by. */
double csmtp_now(void);

#endif
