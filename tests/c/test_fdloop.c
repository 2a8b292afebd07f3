/* Loop over a descriptor: against a server in another process, or at the other end in this one. */
#define _XOPEN_SOURCE 700

#include "check.h"
#include "denial.h"
#include "fdloop.h"
#include "scripts.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RECEIVE_BYTES = 512, STREAMED = 500 };

#ifdef CSMTP_SEND_BY_MODE
/* XNU's, for programs that are linked with -Wl,--wrap=sendmsg. */
ssize_t __real_sendmsg(int fd, const struct msghdr *header, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *header, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *header, int flags)
{
    return __real_sendmsg(fd, header, flags & ~MSG_DONTWAIT);
}
#endif

/* Long enough for everything to happen, and short enough to wait for. */
static const double LONG = 10, SHORT = 0.05;

typedef struct {
    session session;
    csmtp_connection connection;
    int peer;     /* the server's end */
    pid_t server; /* 0 if it is in this process */
} conversation;

static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void connect_ends(conversation *conversation, csmtp_mode mode, unsigned flags)
{
    memset(conversation, 0, sizeof *conversation);
    begin(&conversation->session, mode, flags, 0);
    int ends[2], size = 4096;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        abort();
    conversation->connection.pipeline = &conversation->session.pipeline;
    conversation->connection.fd = ends[0];
    conversation->peer = ends[1];
    for (size_t i = 0; i < 2; i++)
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    for (size_t i = 0; i < CSMTP_PHASES; i++)
        conversation->connection.watch.phase_seconds[i] = LONG;
    conversation->connection.watch.idle_seconds = -1;
}

static void disconnect_ends(conversation *conversation)
{
    end(&conversation->session);
    close(conversation->connection.fd);
    if (conversation->peer >= 0)
        close(conversation->peer);
    int status = 0;
    if (conversation->server)
        CHECK(waitpid(conversation->server, &status, 0) == conversation->server && status == 0);
}

/* Starts the server in a process of its own. */
static void start_server(conversation *conversation, void (*serve)(int fd))
{
    fflush(NULL);
    conversation->server = fork();
    if (conversation->server < 0)
        abort();
    if (conversation->server == 0) {
        close(conversation->connection.fd);
        serve(conversation->peer);
        _exit(0);
    }
    close(conversation->peer);
    conversation->peer = -1;
}

static void say(int fd, const char *bytes)
{
    for (size_t count = strlen(bytes); count > 0;) {
        ssize_t written = write(fd, bytes, count);
        if (written < 0)
            _exit(1);
        bytes += written;
        count -= (size_t)written;
    }
}

/* Reads on only after it has written its whole reply, which is long. */
static void serve_all(int fd)
{
    FILE *in = fdopen(fd, "r");
    char line[TEXT], ok[180];
    snprintf(ok, sizeof ok, "250 %0170d\r\n", 0);
    while (fgets(line, sizeof line, in)) {
        long bytes = strncmp(line, "BDAT ", 5) == 0 ? atol(line + 5) : 0;
        while (bytes-- > 0)
            fgetc(in);
        if (strcmp(line, "DATA\r\n") == 0) {
            say(fd, "354 go\r\n");
            while (fgets(line, sizeof line, in) && strcmp(line, ".\r\n") != 0)
                continue;
        }
        say(fd, ok);
    }
    fclose(in);
}

/* Reads everything before it sends a reply. */
static void serve_late(int fd)
{
    FILE *in = fdopen(fd, "r");
    char line[TEXT];
    for (size_t lines = 5 * STREAMED - 1; lines > 0 && fgets(line, sizeof line, in); lines--)
        continue;
    for (size_t replies = 4 * STREAMED - 1; replies > 0; replies--)
        say(fd, "250 ok\r\n");
    fclose(in);
}

/* Runs with all time limits started now. */
static csmtp_run_status run(conversation *conversation, size_t target, double slice)
{
    conversation->connection.target = target;
    csmtp_connection_begin(&conversation->connection);
    csmtp_fd_run(&conversation->connection, 1, -1, RECEIVE_BYTES, slice);
    return conversation->connection.status;
}

/* Runs on, with the time limits of the last run. */
static csmtp_run_status run_on(conversation *conversation, double slice)
{
    csmtp_fd_run(&conversation->connection, 1, -1, RECEIVE_BYTES, slice);
    return conversation->connection.status;
}

/* Returns what the server has received by now. */
static size_t get(const conversation *conversation, char bytes[TEXT])
{
    ssize_t count = recv(conversation->peer, bytes, TEXT - 1, MSG_DONTWAIT);
    bytes[count < 0 ? 0 : count] = 0;
    return strlen(bytes);
}

static void push_many(conversation *conversation, size_t count)
{
    while (count-- > 0)
        CHECK(push(&conversation->session, 1, false));
}

static void test_all_modes(void)
{
    static const csmtp_mode modes[] = {CSMTP_SEQUENTIAL, CSMTP_PIPELINING, CSMTP_CHUNKING};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
            conversation conversation;
            connect_ends(&conversation, modes[i], STRICT);
            CHECK(fcntl(conversation.connection.fd, F_SETFL, flags) == 0);
            start_server(&conversation, serve_all);
            push_many(&conversation, 3);
            CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_DONE);
            CHECK(conversation.session.pipeline.count == 0 && 
                  conversation.session.pipeline.steps.proof == csmtp_last_step(modes[i]));
            CHECK(csmtp_pipeline_want(&conversation.session.pipeline) == 0);
            CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_DONE);
            disconnect_ends(&conversation);
        }
    }
}

/* One server reads on only after its replies are read: if the client only wrote, both ends would
 * wait for each other for ever. The other sends nothing, so the client only waits for room. */
static void test_stream(void (*serve)(int fd))
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_CHUNKING, STRICT | PROVED);
    push_many(&conversation, STREAMED);
    start_server(&conversation, serve);
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_DONE);
    size_t completed = 0;
    for (; csmtp_pipeline_completed(&conversation.session.pipeline); completed++) {
        CHECK(csmtp_pipeline_completed(&conversation.session.pipeline)->stage == CSMTP_CONTENT);
        csmtp_pipeline_drop(&conversation.session.pipeline, release);
    }
    CHECK(completed == STREAMED);
    disconnect_ends(&conversation);
}

/* The server is in this process, so nothing may wait. */
static void test_without_waiting(void)
{
    static const struct {
        const char *got, *said;
    } steps[] = {
        {"M1\r\n", "25"},       {"", "0 #1\r\n"},        {"R1.1\r\n", "250 #2\r\n"},
        {"DATA\r\n", "354 #3"}, {"", "\r\n"},            {"T1\r\n.\r\n", "250 #4\r\n"},
    };
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_DONE);
    push_many(&conversation, 1);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char got[TEXT];
        CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
        CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
        get(&conversation, got);
        check_text(&conversation.session, got, steps[i].got);
        say(conversation.peer, steps[i].said);
    }
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_DONE);
    check_text(&conversation.session, outcome(&conversation.session), "1=content:250#4");
    disconnect_ends(&conversation);
}

static void test_target(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_CHUNKING, STRICT | PROVED);
    push_many(&conversation, 3);
    CHECK(run(&conversation, 3, LONG) == CSMTP_RUN_DONE);
    CHECK(run(&conversation, 2, 0) == CSMTP_RUN_SLICE);
    say(conversation.peer, "250 #1\r\n250 #2\r\n250 #3\r\n250 #4\r\n");
    CHECK(run(&conversation, 2, LONG) == CSMTP_RUN_DONE);
    CHECK(conversation.session.pipeline.count == 2);
    CHECK(run(&conversation, 1, 0) == CSMTP_RUN_SLICE);
    say(conversation.peer, "250 #5\r\n250 #6\r\n250 #7\r\n250 #8\r\n250 #9\r\n250 #10\r\n"
                         "250 #11\r\n");
    /* All replies, too. */
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_DONE);
    check_text(&conversation.session, outcome(&conversation.session),
               "1=content:250#3 2=content:250#7 3=content:250#11");
    disconnect_ends(&conversation);
}

static void test_held_content(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_PIPELINING, 0);
    push_many(&conversation, 1);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    say(conversation.peer, "250 #1\r\n250 #2\r\n354 #3\r\n");
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_DONE);
    CHECK(conversation.session.pipeline.count == 1);
    csmtp_pipeline_send_content(&conversation.session.pipeline);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    say(conversation.peer, "250 #4\r\n");
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_DONE);
    check_text(&conversation.session, outcome(&conversation.session), "1=content:250#4");
    disconnect_ends(&conversation);
}

/* What the server has sent unasked is read before anything is written. */
static void test_unasked(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    say(conversation.peer, "421 #1\r\n");
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_FAULT);
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_FAULT);
    look_for_fault(&conversation.session);
    check_text(&conversation.session, outcome(&conversation.session), "1=lost fault=closed:421#1");
    char got[TEXT];
    CHECK(get(&conversation, got) == 0);
    disconnect_ends(&conversation);
}

static void test_unreadable(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    say(conversation.peer, "25x\r\n");
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_UNREADABLE);
    CHECK(conversation.session.pipeline.unreadable == CSMTP_REPLY_BAD_CODE);
    disconnect_ends(&conversation);
}

static void test_end_of_stream(void)
{
    /* Before the first write, and while waiting for the reply. */
    for (size_t runs = 0; runs < 2; runs++) {
        conversation conversation;
        connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
        push_many(&conversation, 1);
        char got[TEXT];
        if (runs > 0)
            CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE && get(&conversation, got) == 4);
        close(conversation.peer);
        conversation.peer = -1;
        CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_END);
        disconnect_ends(&conversation);
    }
}

static void test_reset(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    close(conversation.peer); /* with bytes that it has not read */
    conversation.peer = -1;
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_ERRNO &&
          conversation.connection.error == ECONNRESET);
    disconnect_ends(&conversation);
}

/* The last reply of a server is read although it accepts no more data. */
static void test_last_words(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_CHUNKING, STRICT | PROVED);
    push_many(&conversation, STREAMED);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    CHECK(csmtp_pipeline_want(&conversation.session.pipeline) & CSMTP_WANT_WRITE);
    say(conversation.peer, "250 #1\r\n421 #2\r\n");
    close(conversation.peer);
    conversation.peer = -1;
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_FAULT);
    CHECK(conversation.session.pipeline.fault == CSMTP_CLOSED);
    disconnect_ends(&conversation);
}

static void test_bad_descriptor(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    int fd = conversation.connection.fd;
    conversation.connection.fd = -1;
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_ERRNO && conversation.connection.error == EBADF);
    conversation.connection.fd = fd;
    disconnect_ends(&conversation);
}

static void test_no_memory(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    allocations_left = 0;
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_NO_MEMORY);
    allocations_left = SIZE_MAX;
    disconnect_ends(&conversation);
}

/* Each phase has its own limit, and those of the others do not count. */
static void test_phase_limits(void)
{
    static const struct {
        csmtp_phase phase;
        size_t messages;
        const char *said;
    } phases[] = {
        {CSMTP_PHASE_COMMAND, 1, ""},
        {CSMTP_PHASE_DATA, 1, "250 #1\r\n250 #2\r\n"},
        {CSMTP_PHASE_CONTENT, 1, "250 #1\r\n250 #2\r\n354 #3\r\n"},
    };
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        conversation conversation;
        connect_ends(&conversation, CSMTP_PIPELINING, STRICT);
        push_many(&conversation, 1);
        conversation.connection.watch.phase_seconds[phases[i].phase] = SHORT;
        CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
        say(conversation.peer, phases[i].said);
        double start = seconds();
        CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_PHASE_OVER);
        CHECK(conversation.connection.watch.phase == phases[i].phase);
        CHECK(seconds() - start >= SHORT && seconds() - start < LONG / 2);
        disconnect_ends(&conversation);
    }
}

/* The reply to what is tried behind the end of a message has a short limit plus ten round trips. */
static void test_probe_limit(void)
{
    conversation conversation;
    csmtp_watch *watch = &conversation.connection.watch;
    connect_ends(&conversation, CSMTP_PIPELINING, STRICT);
    push_many(&conversation, 2);
    watch->phase_seconds[CSMTP_PHASE_PROBE] = SHORT;
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    CHECK(watch->slowest_reply == 0);
    say(conversation.peer, "250 #1\r\n250 #2\r\n354 #3\r\n");
    CHECK(run(&conversation, 0, SHORT) == CSMTP_RUN_SLICE);
    CHECK(watch->slowest_reply > 0 && watch->slowest_reply < LONG / 2);
    say(conversation.peer, "250 #4\r\n");
    watch->early_round_trips = 10;
    watch->slowest_reply = SHORT / 10;
    double start = seconds();
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_PHASE_OVER);
    CHECK(watch->phase == CSMTP_PHASE_PROBE);
    CHECK(seconds() - start >= 2 * SHORT && seconds() - start < LONG / 2);
    watch->slowest_reply = LONG;
    CHECK(csmtp_watch_seconds(watch) == watch->phase_seconds[CSMTP_PHASE_COMMAND]);
    disconnect_ends(&conversation);
}

/* Nobody reads what is written. */
static void test_block_limit(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_CHUNKING, STRICT | PROVED);
    push_many(&conversation, STREAMED);
    conversation.connection.watch.phase_seconds[CSMTP_PHASE_BLOCK] = SHORT;
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    /* All replies to what was sent. */
    while (csmtp_pipeline_phase(&conversation.session.pipeline) != CSMTP_PHASE_BLOCK)
        csmtp_pipeline_book(&conversation.session.pipeline, 250, NULL, 0);
    double start = seconds();
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_PHASE_OVER);
    CHECK(conversation.connection.watch.phase == CSMTP_PHASE_BLOCK);
    CHECK(seconds() - start >= SHORT && seconds() - start < LONG / 2);
    disconnect_ends(&conversation);
}

/* Whether there is no room or no peer, the descriptor keeps its mode, and errno its value. */
static void test_mode(void)
{
    for (int mode = 0; mode <= O_NONBLOCK; mode += O_NONBLOCK) {
        conversation conversation;
        connect_ends(&conversation, CSMTP_CHUNKING, STRICT | PROVED);
        int fd = conversation.connection.fd, flags = fcntl(fd, F_GETFL);
        CHECK(flags >= 0 && fcntl(fd, F_SETFL, flags | mode) == 0);
        push_many(&conversation, STREAMED);
        CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
        CHECK(fcntl(fd, F_GETFL) == (flags | mode));
        close(conversation.peer);
        conversation.peer = -1;
        CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_ERRNO);
        CHECK(conversation.connection.error == ECONNRESET ||
              conversation.connection.error == EPIPE);
        CHECK(fcntl(fd, F_GETFL) == (flags | mode));
        disconnect_ends(&conversation);
    }
}

static void test_idle_limit(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    conversation.connection.watch.idle_seconds = SHORT;
    double start = seconds();
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_IDLE_OVER);
    CHECK(seconds() - start >= SHORT && seconds() - start < LONG / 2);
    disconnect_ends(&conversation);
}

/* Sends a byte now and then, of a reply that does not end, until the conversation ends. */
static void serve_dribbling(int fd)
{
    struct timespec pause = {0, 10000000};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; write(fd, &"250-xxxx"[i < 7 ? i : 7], 1) == 1; i++)
        nanosleep(&pause, NULL);
}

/* It is never idle, and yet it comes to an end. */
static void test_dribbling(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    start_server(&conversation, serve_dribbling);
    conversation.connection.watch.idle_seconds = LONG / 2;
    conversation.connection.watch.phase_seconds[CSMTP_PHASE_COMMAND] = 4 * SHORT;
    double start = seconds();
    CHECK(run(&conversation, 0, LONG) == CSMTP_RUN_PHASE_OVER);
    CHECK(seconds() - start >= 4 * SHORT && seconds() - start < LONG / 2);
    CHECK(conversation.session.receive.end > 1);
    disconnect_ends(&conversation);
}

static void test_slice(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    double start = seconds();
    for (size_t i = 0; i < 3; i++)
        CHECK(run(&conversation, 0, SHORT) == CSMTP_RUN_SLICE);
    CHECK(seconds() - start >= 3 * SHORT && seconds() - start < LONG / 2);
    disconnect_ends(&conversation);
}

/* The time between the replies to a flight; a write begins another one. */
static void test_gap(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_PIPELINING, STRICT);
    push_many(&conversation, 1);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    double begun = seconds();
    say(conversation.peer, "250 #1\r\n");
    CHECK(run_on(&conversation, 2 * SHORT) == CSMTP_RUN_SLICE);
    CHECK(conversation.connection.watch.gap == 0);
    /* Time in which the conversation was not run does not count. */
    csmtp_connection_shift(&conversation.connection, SHORT);
    say(conversation.peer, "250 #2\r\n");
    CHECK(run_on(&conversation, 0) == CSMTP_RUN_SLICE);
    double gap = conversation.connection.watch.gap;
    CHECK(gap >= SHORT / 2 && gap <= seconds() - begun - SHORT);
    say(conversation.peer, "354 #3\r\n");
    CHECK(run_on(&conversation, 0) == CSMTP_RUN_SLICE);
    CHECK(run_on(&conversation, 2 * gap) == CSMTP_RUN_SLICE);
    say(conversation.peer, "250 #4\r\n");
    CHECK(run_on(&conversation, LONG) == CSMTP_RUN_DONE);
    CHECK(conversation.connection.watch.gap == gap);
    disconnect_ends(&conversation);
}

#ifdef TCP_QUICKACK
/* Makes the ends those of a TCP conversation. */
static void connect_by_tcp(conversation *conversation)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    close(conversation->connection.fd);
    close(conversation->peer);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    conversation->connection.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        connect(conversation->connection.fd, (struct sockaddr *)&address, size) != 0)
        abort();
    conversation->peer = accept(listener, NULL, NULL);
    close(listener);
}

/* Runs on with a reply that the client's system acknowledges at once only if it is told to. Returns
 * whether it was told. */
static bool is_acknowledged(conversation *conversation, const char *reply)
{
    int is_quick = 0;
    socklen_t size = sizeof is_quick;
    double begun = seconds();
    CHECK(setsockopt(conversation->connection.fd, IPPROTO_TCP, TCP_QUICKACK, &is_quick, size) == 0);
    say(conversation->peer, reply);
    struct pollfd polled = {.fd = conversation->connection.fd, .events = POLLIN};
    CHECK(poll(&polled, 1, (int)LONG * 1000) == 1);
    run_on(conversation, 1e-3);
    int fd = conversation->connection.fd;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &is_quick, &size) == 0);
    /* After 40 ms the system sees by itself that there is nothing to send it with. */
    return is_quick && seconds() - begun < 0.03;
}

/* T7: a server with Nagle's algorithm on sends each reply but the first of a flight only when the
 * last one is acknowledged, which the system delays whenever something was written. */
static void test_quick_acknowledgements(void)
{
    for (int quick = 0; quick <= 1; quick++) {
        conversation conversation;
        connect_ends(&conversation, CSMTP_PIPELINING, STRICT);
        connect_by_tcp(&conversation);
        conversation.connection.quick_acks = quick;
        push_many(&conversation, 1);
        CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
        bool is_held = !is_acknowledged(&conversation, "250 #1\r\n");
        is_held = !is_acknowledged(&conversation, "250 #2\r\n") && is_held;
        CHECK(is_held == !quick);
        /* What is written next carries the acknowledgement of the last one. */
        CHECK(!is_acknowledged(&conversation, "354 #3\r\n"));
        CHECK(!is_acknowledged(&conversation, "250 #4\r\n"));
        CHECK(conversation.connection.status == CSMTP_RUN_DONE &&
              conversation.connection.quick_acks == quick);
        disconnect_ends(&conversation);
    }
}

/* Unix sockets have no such option, and that is no failure. */
static void test_no_acknowledgements(void)
{
    conversation conversation;
    connect_ends(&conversation, CSMTP_PIPELINING, STRICT);
    conversation.connection.quick_acks = true;
    push_many(&conversation, 1);
    CHECK(run(&conversation, 0, 0) == CSMTP_RUN_SLICE);
    say(conversation.peer, "250 #1\r\n");
    CHECK(run_on(&conversation, SHORT) == CSMTP_RUN_SLICE);
    CHECK(!conversation.connection.quick_acks);
    disconnect_ends(&conversation);
}
#else
static void test_quick_acknowledgements(void) {}
static void test_no_acknowledgements(void) {}
#endif

static void on_alarm(int number)
{
    (void)number;
}

/* A signal ends the slice, as the caller has to handle it. */
static void test_signal(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    conversation conversation;
    connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
    push_many(&conversation, 1);
    struct itimerval timer = {.it_value = {0, 50000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    double start = seconds();
    CHECK(run(&conversation, 0, 2) == CSMTP_RUN_SLICE);
    CHECK(seconds() - start < 1);
    disconnect_ends(&conversation);
}

/* Several conversations in one run. */

enum { TOGETHER = 3 };

/* A message with BDAT is sent as a whole, and these are all its replies. */
#define TAKEN "250 #1\r\n250 #2\r\n250 #3\r\n"

/* Runs these together. Their time limits count from when they were connected. */
static csmtp_run_status run_together(conversation *const *conversations, size_t count, int wake,
                                     double slice)
{
    static csmtp_connection connections[CSMTP_CONNECTIONS];
    for (size_t i = 0; i < count; i++)
        connections[i] = conversations[i]->connection;
    csmtp_run_status status = csmtp_fd_run(connections, count, wake, RECEIVE_BYTES, slice);
    for (size_t i = 0; i < count; i++)
        conversations[i]->connection = connections[i];
    return status;
}

/* Connections that have a message to send each. */
static void connect_together(conversation conversations[TOGETHER], conversation *pointers[TOGETHER])
{
    for (size_t i = 0; i < TOGETHER; i++) {
        connect_ends(&conversations[i], CSMTP_CHUNKING, STRICT | PROVED);
        push_many(&conversations[i], 1);
        csmtp_connection_begin(&conversations[i].connection);
        pointers[i] = &conversations[i];
    }
}

/* The last first: the server of the first has to see its end, and the later ones hold that too. */
static void disconnect_together(conversation conversations[TOGETHER])
{
    for (size_t i = TOGETHER; i-- > 0;)
        disconnect_ends(&conversations[i]);
}

/* Runs those that are left to their end, however many runs that takes. */
static void run_to_the_end(conversation *const *conversations, size_t count)
{
    conversation *left[TOGETHER];
    memcpy(left, conversations, count * sizeof *left);
    while (count > 0) {
        CHECK(run_together(left, count, -1, LONG) == CSMTP_RUN_DONE);
        size_t kept = 0;
        for (size_t i = 0; i < count; i++) {
            if (left[i]->connection.status == CSMTP_RUN_SLICE)
                left[kept++] = left[i];
            else
                CHECK(left[i]->connection.status == CSMTP_RUN_DONE);
        }
        CHECK(kept < count);
        if (kept == count)
            return;
        count = kept;
    }
}

static void test_together_each_comes_to_its_end(void)
{
    conversation conversations[TOGETHER], *pointers[TOGETHER];
    for (size_t i = 0; i < TOGETHER; i++) {
        static const csmtp_mode modes[TOGETHER] = {CSMTP_SEQUENTIAL, CSMTP_PIPELINING,
                                                   CSMTP_CHUNKING};
        connect_ends(&conversations[i], modes[i], STRICT);
        start_server(&conversations[i], serve_all);
        push_many(&conversations[i], 10 * (TOGETHER - i));
        csmtp_connection_begin(&conversations[i].connection);
        pointers[i] = &conversations[i];
    }
    run_to_the_end(pointers, TOGETHER);
    for (size_t i = 0; i < TOGETHER; i++)
        CHECK(conversations[i].session.pipeline.count == 0 &&
              !conversations[i].session.pipeline.fault);
    disconnect_together(conversations);
}

static void test_together_no_line(void)
{
    CHECK(run_together(NULL, 0, -1, 0) == CSMTP_RUN_SLICE);
    double start = seconds();
    CHECK(run_together(NULL, 0, -1, SHORT) == CSMTP_RUN_SLICE);
    CHECK(seconds() - start >= SHORT && seconds() - start < LONG / 2);
}

/* Each does everything it can, whatever the others do. */
static void test_together_without_waiting(void)
{
    conversation conversations[TOGETHER], *pointers[TOGETHER];
    connect_together(conversations, pointers);
    for (size_t runs = 0; runs < 2; runs++) {
        CHECK(run_together(pointers, TOGETHER, -1, 0) == CSMTP_RUN_SLICE);
        for (size_t i = 0; i < TOGETHER; i++) {
            char got[TEXT];
            get(&conversations[i], got);
            check_text(&conversations[i].session, got,
                       runs ? "" : "M1\r\nR1.1\r\nBDAT 4 LAST\r\nT1\r\n");
            CHECK(conversations[i].connection.status == CSMTP_RUN_SLICE);
        }
    }
    for (size_t i = 0; i < TOGETHER; i++)
        say(conversations[i].peer, "250 #1\r\n250 ");
    CHECK(run_together(pointers, TOGETHER, -1, 0) == CSMTP_RUN_SLICE);
    for (size_t i = 0; i < TOGETHER; i++) {
        CHECK(conversations[i].session.pipeline.booked == 1);
        say(conversations[i].peer, "#2\r\n250 #3\r\n");
    }
    CHECK(run_together(pointers, TOGETHER, -1, 0) == CSMTP_RUN_DONE);
    for (size_t i = 0; i < TOGETHER; i++)
        CHECK(conversations[i].connection.status == CSMTP_RUN_DONE);
    disconnect_together(conversations);
}

/* One has more to do than the others, and does it. */
static void test_together_one_has_much_to_read(void)
{
    for (size_t busy = 0; busy < TOGETHER; busy++) {
        conversation conversations[TOGETHER], *pointers[TOGETHER];
        connect_together(conversations, pointers);
        push_many(&conversations[busy], 39);
        CHECK(run_together(pointers, TOGETHER, -1, 0) == CSMTP_RUN_SLICE);
        /* Three for each message, and one for RSET before all but the first. At once: many small
         * writes take more room in the socket than there is. */
        char replies[8 * (4 * 40 - 1) + 1] = "";
        for (size_t at = 0; at + 1 < sizeof replies; at += 8)
            memcpy(replies + at, "250 ok\r\n", 9);
        say(conversations[busy].peer, replies);
        CHECK(run_together(pointers, TOGETHER, -1, 0) == CSMTP_RUN_DONE);
        CHECK(conversations[busy].connection.status == CSMTP_RUN_DONE);
        CHECK(conversations[busy].session.pipeline.booked == 4 * 40 - 1);
        disconnect_together(conversations);
    }
}

/* The run returns then; the others go on later from where they are. */
static void test_together_one_is_at_its_target(void)
{
    conversation conversations[TOGETHER], *pointers[TOGETHER];
    connect_together(conversations, pointers);
    push_many(&conversations[1], 2);
    conversations[1].connection.target = 2;
    CHECK(run_together(pointers, TOGETHER, -1, 0) == CSMTP_RUN_SLICE);
    say(conversations[0].peer, "250 #1\r\n250");
    say(conversations[1].peer, TAKEN);
    double start = seconds();
    CHECK(run_together(pointers, TOGETHER, -1, LONG) == CSMTP_RUN_DONE);
    CHECK(seconds() - start < LONG / 2);
    CHECK(conversations[1].connection.status == CSMTP_RUN_DONE);
    CHECK(conversations[1].session.pipeline.count == 2);
    CHECK(conversations[0].connection.status == CSMTP_RUN_SLICE);
    CHECK(conversations[2].connection.status == CSMTP_RUN_SLICE);
    say(conversations[0].peer, " #2\r\n250 #3\r\n");
    say(conversations[1].peer, "250 #4\r\n250 #5\r\n250 #6\r\n250 #7\r\n"
                             "250 #8\r\n250 #9\r\n250 #10\r\n250 #11\r\n");
    say(conversations[2].peer, TAKEN);
    conversations[1].connection.target = 0;
    run_to_the_end(pointers, TOGETHER);
    check_text(&conversations[0].session, outcome(&conversations[0].session), "1=content:250#3");
    check_text(&conversations[1].session, outcome(&conversations[1].session),
               "1=content:250#3 2=content:250#7 3=content:250#11");
    check_text(&conversations[2].session, outcome(&conversations[2].session), "1=content:250#3");
    disconnect_together(conversations);
}

/* However one is lost, the others do not suffer. */
static void test_together_one_is_lost(void)
{
    static const struct {
        const char *said;
        csmtp_run_status status;
    } ends[] = {
        {"", CSMTP_RUN_END},
        {"250 #1\r\n25x\r\n", CSMTP_RUN_UNREADABLE},
        {"250 #1\r\n421 #2\r\n", CSMTP_RUN_FAULT},
    };
    for (size_t way = 0; way < sizeof ends / sizeof *ends; way++) {
        for (size_t lost = 0; lost < TOGETHER; lost++) {
            conversation conversations[TOGETHER], *pointers[TOGETHER];
            connect_together(conversations, pointers);
            CHECK(run_together(pointers, TOGETHER, -1, 0) == CSMTP_RUN_SLICE);
            char got[TEXT];
            get(&conversations[lost], got);
            say(conversations[lost].peer, ends[way].said);
            close(conversations[lost].peer);
            conversations[lost].peer = -1;
            CHECK(run_together(pointers, TOGETHER, -1, LONG) == CSMTP_RUN_DONE);
            size_t kept = 0;
            for (size_t i = 0; i < TOGETHER; i++) {
                csmtp_run_status status = i == lost ? ends[way].status : CSMTP_RUN_SLICE;
                CHECK(conversations[i].connection.status == status);
                if (i != lost) {
                    say(conversations[i].peer, TAKEN);
                    pointers[kept++] = &conversations[i];
                }
            }
            run_to_the_end(pointers, kept);
            disconnect_together(conversations);
        }
    }
}

static void test_together_a_bad_descriptor(void)
{
    conversation conversations[TOGETHER], *pointers[TOGETHER];
    connect_together(conversations, pointers);
    int fd = conversations[1].connection.fd;
    conversations[1].connection.fd = -1;
    CHECK(run_together(pointers, TOGETHER, -1, LONG) == CSMTP_RUN_DONE);
    CHECK(conversations[1].connection.status == CSMTP_RUN_ERRNO &&
          conversations[1].connection.error == EBADF);
    CHECK(conversations[0].connection.status == CSMTP_RUN_SLICE);
    CHECK(conversations[2].connection.status == CSMTP_RUN_SLICE);
    conversations[1].connection.fd = fd;
    disconnect_together(conversations);
}

/* The others have no limit; one of them may be busy all the time. */
static void test_together_one_is_out_of_time(void)
{
    for (size_t way = 0; way < 4; way++) {
        bool is_idle = way & 1, is_busy = way & 2;
        conversation conversations[TOGETHER], *pointers[TOGETHER];
        connect_together(conversations, pointers);
        CHECK(run_together(pointers, TOGETHER, -1, 0) == CSMTP_RUN_SLICE);
        if (is_busy)
            start_server(&conversations[0], serve_dribbling);
        csmtp_watch *watch = &conversations[1].connection.watch;
        if (is_idle)
            watch->idle_seconds = 2 * SHORT;
        else
            watch->phase_seconds[CSMTP_PHASE_COMMAND] = 2 * SHORT;
        csmtp_connection_begin(&conversations[1].connection);
        double start = seconds();
        CHECK(run_together(pointers, TOGETHER, -1, LONG) == CSMTP_RUN_DONE);
        CHECK(seconds() - start >= 2 * SHORT && seconds() - start < LONG / 2);
        CHECK(conversations[0].connection.status == CSMTP_RUN_SLICE);
        CHECK(conversations[1].connection.status ==
              (is_idle ? CSMTP_RUN_IDLE_OVER : CSMTP_RUN_PHASE_OVER));
        CHECK(conversations[2].connection.status == CSMTP_RUN_SLICE);
        CHECK((conversations[0].session.receive.end > 1) == is_busy);
        disconnect_together(conversations);
    }
}

/* Nothing is read from that descriptor: this is up to the caller. */
static void test_together_wake(void)
{
    conversation conversations[TOGETHER], *pointers[TOGETHER];
    connect_together(conversations, pointers);
    int wake[2];
    CHECK(pipe(wake) == 0);
    CHECK(run_together(pointers, TOGETHER, wake[0], SHORT) == CSMTP_RUN_SLICE);
    fflush(NULL);
    double start = seconds();
    pid_t other = fork();
    if (other == 0) {
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
        _exit(write(wake[1], "x", 1) != 1);
    }
    CHECK(run_together(pointers, TOGETHER, wake[0], LONG) == CSMTP_RUN_SLICE);
    CHECK(seconds() - start >= SHORT);
    CHECK(run_together(pointers, TOGETHER, wake[0], LONG) == CSMTP_RUN_SLICE);
    CHECK(seconds() - start < LONG / 2);
    int status;
    CHECK(waitpid(other, &status, 0) == other && status == 0);
    /* A conversation that can go on does so all the same. */
    for (size_t i = 0; i < TOGETHER; i++) {
        CHECK(conversations[i].connection.status == CSMTP_RUN_SLICE);
        say(conversations[i].peer, "250 #1\r\n");
    }
    CHECK(run_together(pointers, TOGETHER, wake[0], LONG) == CSMTP_RUN_SLICE);
    for (size_t i = 0; i < TOGETHER; i++)
        CHECK(conversations[i].session.pipeline.booked == 1);
    char byte[2];
    CHECK(read(wake[0], byte, sizeof byte) == 1);
    close(wake[0]);
    close(wake[1]);
    disconnect_together(conversations);
}

/* Time in which the conversation was not run does not count. */
static void test_shift(void)
{
    for (size_t way = 0; way < 4; way++) {
        bool is_shifted = way & 1, is_idle = way & 2;
        conversation conversation, *pointer = &conversation;
        connect_ends(&conversation, CSMTP_SEQUENTIAL, STRICT);
        push_many(&conversation, 1);
        if (is_idle)
            conversation.connection.watch.idle_seconds = LONG / 2;
        /* A write would be progress, so everything is written before. */
        csmtp_pipeline_wrote(&conversation.session.pipeline, gather(&conversation.session, NULL));
        csmtp_connection_begin(&conversation.connection);
        /* As if it had begun long ago. */
        csmtp_connection_shift(&conversation.connection, is_idle ? -LONG * 3 / 4 : -2 * LONG);
        if (is_shifted)
            csmtp_connection_shift(&conversation.connection, is_idle ? LONG * 3 / 4 : 2 * LONG);
        run_together(&pointer, 1, -1, 0);
        csmtp_run_status over = is_idle ? CSMTP_RUN_IDLE_OVER : CSMTP_RUN_PHASE_OVER;
        CHECK(conversation.connection.status == (is_shifted ? CSMTP_RUN_SLICE : over));
        disconnect_ends(&conversation);
    }
}

/* The last one has a conversation of its own. The others share one, as descriptors are scarce;
 * their server reads nothing, and most have to wait for room. */
static void test_together_as_many_as_there_may_be(void)
{
    static conversation conversations[CSMTP_CONNECTIONS];
    static conversation *pointers[CSMTP_CONNECTIONS];
    struct rlimit limit;
    /* poll() takes no more descriptors than a process may have. */
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur < CSMTP_CONNECTIONS + 1) {
        limit.rlim_cur = CSMTP_CONNECTIONS + 1;
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
    conversation *first = &conversations[0], *last = &conversations[CSMTP_CONNECTIONS - 1];
    for (size_t i = 0; i < CSMTP_CONNECTIONS; i++) {
        pointers[i] = &conversations[i];
        if (i == 0 || pointers[i] == last) {
            connect_ends(pointers[i], CSMTP_CHUNKING, STRICT | PROVED);
        } else {
            *pointers[i] = (conversation){.connection = first->connection, .peer = -1};
            begin(&pointers[i]->session, CSMTP_CHUNKING, STRICT | PROVED, 0);
            pointers[i]->connection.pipeline = &pointers[i]->session.pipeline;
        }
        push_many(pointers[i], 1);
        csmtp_connection_begin(&pointers[i]->connection);
    }
    CHECK(run_together(pointers, CSMTP_CONNECTIONS, -1, SHORT) == CSMTP_RUN_SLICE);
    say(last->peer, TAKEN);
    CHECK(run_together(pointers, CSMTP_CONNECTIONS, -1, LONG) == CSMTP_RUN_DONE);
    size_t waiting = 0;
    for (size_t i = 0; i < CSMTP_CONNECTIONS; i++)
        waiting += pointers[i]->connection.status == CSMTP_RUN_SLICE;
    CHECK(waiting == CSMTP_CONNECTIONS - 1 && last->connection.status == CSMTP_RUN_DONE);
    for (size_t i = 1; i < CSMTP_CONNECTIONS - 1; i++)
        end(&pointers[i]->session);
    disconnect_ends(first);
    disconnect_ends(last);
}

int main(void)
{
    test_all_modes();
    test_stream(serve_all);
    test_stream(serve_late);
    test_without_waiting();
    test_target();
    test_held_content();
    test_unasked();
    test_unreadable();
    test_end_of_stream();
    test_reset();
    test_last_words();
    test_bad_descriptor();
    test_no_memory();
    test_phase_limits();
    test_probe_limit();
    test_block_limit();
    test_mode();
    test_idle_limit();
    test_dribbling();
    test_slice();
    test_gap();
    test_quick_acknowledgements();
    test_no_acknowledgements();
    test_signal();
    test_together_each_comes_to_its_end();
    test_together_no_line();
    test_together_without_waiting();
    test_together_one_has_much_to_read();
    test_together_one_is_at_its_target();
    test_together_one_is_lost();
    test_together_a_bad_descriptor();
    test_together_one_is_out_of_time();
    test_together_wake();
    test_shift();
    test_together_as_many_as_there_may_be();
    return report_checks();
}
