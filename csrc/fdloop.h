/* Runs a pipeline over the descriptor of a connected stream socket, reading while it writes. */
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

/* Lets all limits count from now. */
void csmtp_watch_begin(csmtp_watch *watch, const csmtp_pipeline *pipeline);

typedef enum {
    CSMTP_RUN_DONE,       /* no more than target messages are left, or content is held */
    CSMTP_RUN_SLICE,      /* the time slice is over, or a signal came: call again */
    CSMTP_RUN_FAULT,      /* see pipeline->fault */
    CSMTP_RUN_UNREADABLE, /* see pipeline->unreadable */
    CSMTP_RUN_END,        /* the server has closed the connection */
    CSMTP_RUN_PHASE_OVER, /* the limit of watch->phase has passed */
    CSMTP_RUN_IDLE_OVER,
    CSMTP_RUN_ERRNO,      /* *error is the errno of a system call */
    CSMTP_RUN_NO_MEMORY
} csmtp_run_status;

/* Runs until target messages are left (with 0: and every reply is in), or for slice seconds; with 0
 * seconds it does what can be done without waiting. With a strict pipeline for which no reply is
 * due it first sees whether the server has said something unasked. receive_octets: how much is read
 * at once. The descriptor may be blocking or not. */
csmtp_run_status csmtp_fd_run(csmtp_pipeline *pipeline, int fd, size_t target,
                              size_t receive_octets, double slice, csmtp_watch *watch, int *error);

#endif
