/* A wire of constant length: proxy PORT SERVER_PORT MICROSECONDS.

   What comes in on 127.0.0.1:PORT leaves for 127.0.0.1:SERVER_PORT that much later, and the same
   back, so a round trip takes twice as long. Bandwidth is not limited; a wire holds IN_FLIGHT bytes
   each way before its sender has to wait. Connecting takes no time. It ends by a signal. */

#define _GNU_SOURCE /* ppoll(2): poll(2) rounds to milliseconds */

#include "loopback.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CONNECTIONS = 64, READ = 256 * 1024, IN_FLIGHT = 64 * 1024 * 1024 };

/* Bytes under way; none means that the sender has closed. */
struct parcel {
    struct parcel *next;
    int64_t due; /* nanoseconds of the monotonic clock */
    size_t begin, end;
    char bytes[];
};

struct wire {
    struct parcel *first, *last;
    size_t in_flight;
    bool closed_in, closed_out;
    bool blocked; /* the receiver has to read first */
};

/* Wire n carries what comes from fd[n] to fd[1 - n]. */
struct connection {
    int fd[2];
    struct wire wire[2];
};

static int64_t delay;

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Puts what can be read onto the wire; false if the connection is broken. */
static bool put_in(struct wire *wire, int fd)
{
    static char bytes[READ];
    ssize_t came = read(fd, bytes, sizeof bytes);
    if (came < 0)
        return errno == EAGAIN;
    struct parcel *parcel = malloc(sizeof *parcel + (size_t)came);
    if (parcel == NULL)
        return false;
    memcpy(parcel->bytes, bytes, (size_t)came);
    parcel->next = NULL;
    parcel->due = now() + delay;
    parcel->begin = 0;
    parcel->end = (size_t)came;
    if (wire->first == NULL)
        wire->first = parcel;
    else
        wire->last->next = parcel;
    wire->last = parcel;
    wire->in_flight += (size_t)came;
    wire->closed_in = came == 0;
    return true;
}

/* Hands over what is due, as far as the receiver takes it; false if the connection is broken. */
static bool hand_over(struct wire *wire, int fd)
{
    wire->blocked = false;
    while (wire->first != NULL && wire->first->due <= now()) {
        struct parcel *parcel = wire->first;
        if (parcel->end == 0) {
            wire->closed_out = true;
            shutdown(fd, SHUT_WR);
        }
        while (parcel->begin < parcel->end) {
            ssize_t written =
                write(fd, parcel->bytes + parcel->begin, parcel->end - parcel->begin);
            if (written < 0) {
                wire->blocked = errno == EAGAIN;
                return wire->blocked;
            }
            parcel->begin += (size_t)written;
            wire->in_flight -= (size_t)written;
        }
        wire->first = parcel->next;
        free(parcel);
    }
    return true;
}

/* Returns whether the connection stays. */
static bool serve(struct connection *c, const struct pollfd polled[2])
{
    for (int n = 0; n < 2; n++) {
        bool readable = (polled[n].revents & ~POLLOUT) != 0 && !c->wire[n].closed_in;
        if (readable && !put_in(&c->wire[n], c->fd[n]))
            return false;
        if (!hand_over(&c->wire[n], c->fd[1 - n]))
            return false;
    }
    return !(c->wire[0].closed_out && c->wire[1].closed_out);
}

/* Fills in what to wait for on both sides, and brings `wake` forward to what is due first. */
static void await(const struct connection *c, struct pollfd polled[2], int64_t *wake)
{
    for (int n = 0; n < 2; n++) {
        const struct wire *in = &c->wire[n], *out = &c->wire[1 - n];
        polled[n].events = 0;
        if (!in->closed_in && in->in_flight < IN_FLIGHT)
            polled[n].events |= POLLIN;
        if (out->blocked)
            polled[n].events |= POLLOUT;
        /* poll(2) tells of a hang-up even where nothing is waited for: again and again. */
        polled[n].fd = polled[n].events != 0 ? c->fd[n] : -1;
        if (in->first != NULL && !in->blocked && in->first->due < *wake)
            *wake = in->first->due;
    }
}

static void tear_down(struct connection *c)
{
    for (int n = 0; n < 2; n++) {
        close(c->fd[n]);
        while (c->wire[n].first != NULL) {
            struct parcel *parcel = c->wire[n].first;
            c->wire[n].first = parcel->next;
            free(parcel);
        }
    }
    free(c);
}

/* Returns a connection from a client through to the server, or NULL. */
static struct connection *connected(int listener, uint16_t server)
{
    struct sockaddr_in address = loopback(server);
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->fd[0] = accept(listener, NULL, NULL);
    c->fd[1] = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd[0] >= 0 && c->fd[1] >= 0 &&
        connect(c->fd[1], (struct sockaddr *)&address, sizeof address) == 0 && prompt(c->fd[0]) &&
        prompt(c->fd[1]))
        return c;
    tear_down(c);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct connection *connections[CONNECTIONS];
    static struct pollfd polled[2 * CONNECTIONS + 1];
    size_t count = 0;
    signal(SIGPIPE, SIG_IGN);
    int listener = argc == 4 ? listen_on((uint16_t)atoi(argv[1])) : -1;
    if (listener < 0) {
        perror("proxy PORT SERVER_PORT MICROSECONDS");
        return 1;
    }
    uint16_t server = (uint16_t)atoi(argv[2]);
    delay = (int64_t)atol(argv[3]) * 1000;
    for (;;) {
        int64_t wake = INT64_MAX;
        for (size_t n = 0; n < count; n++)
            await(connections[n], &polled[2 * n], &wake);
        polled[2 * count].fd = count < CONNECTIONS ? listener : -1;
        polled[2 * count].events = POLLIN;
        int64_t wait = wake == INT64_MAX ? 0 : wake - now();
        if (wait < 0)
            wait = 0;
        struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        if (ppoll(polled, 2 * count + 1, wake == INT64_MAX ? NULL : &timeout, NULL) < 0) {
            if (errno == EINTR)
                continue;
            perror("ppoll");
            return 1;
        }
        struct connection *new =
            polled[2 * count].revents != 0 ? connected(listener, server) : NULL;
        /* From the last to the first, so that the last may take the place of one that is gone. */
        for (size_t n = count; n-- > 0;) {
            if (serve(connections[n], &polled[2 * n]))
                continue;
            tear_down(connections[n]);
            connections[n] = connections[--count];
        }
        if (new != NULL)
            connections[count++] = new;
    }
}
