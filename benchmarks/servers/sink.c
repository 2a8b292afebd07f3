/* An SMTP server that takes every message, throws it away and counts it: sink PORT.

   It offers what a fast client can use (PIPELINING, CHUNKING) and costs little itself: one thread
   and poll(2), a fixed buffer each way for a connection, nothing allocated for a message, and the
   replies to all that one read(2) brought in one write(2). Its reply to QUIT tells how many messages
   it has taken on all connections. It ends by a signal. */

#define _POSIX_C_SOURCE 200809L

#include "loopback.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    CONNECTIONS = 256,
    INPUT = 256 * 1024, /* also the longest command line */
    OUTPUT = 16 * 1024,
    LONGEST_REPLY = 256,
    SIZE_DIGITS = 18 /* what fits in an int64_t, whatever the digits */
};

enum receiving { COMMANDS, DATA, CHUNK };

struct connection {
    int fd;
    enum receiving receiving;
    bool mail, recipient; /* of the transaction: MAIL, RCPT accepted */
    bool chunked;         /* a BDAT of this transaction was accepted */
    unsigned matched;     /* DATA: how many bytes of the terminator came last */
    uint64_t left;        /* CHUNK: bytes still to come */
    bool accepted, last;  /* CHUNK: of its BDAT command */
    bool closing;         /* once the replies are written */
    size_t in_begin, in_end, out_begin, out_end;
    char in[INPUT], out[OUTPUT];
};

static unsigned long long messages;

static void reply(struct connection *c, const char *text)
{
    size_t length = strlen(text);
    memcpy(c->out + c->out_end, text, length);
    c->out_end += length;
}

static void reset(struct connection *c)
{
    c->mail = c->recipient = c->chunked = false;
}

static void take_message(struct connection *c)
{
    messages++;
    reset(c);
    reply(c, "250 2.0.0 Ok: taken\r\n");
}

/* Returns how many of the bytes belong to the message, the terminator included; `matched` is then
   5 if it ended. Only a CR can begin the terminator anew, wherever it was left off. */
static size_t message_bytes(const char *data, size_t size, unsigned *matched)
{
    static const char TERMINATOR[] = "\r\n.\r\n";
    size_t at = 0;
    while (at < size && *matched < 5) {
        if (*matched == 0) {
            const char *cr = memchr(data + at, '\r', size - at);
            if (cr == NULL)
                return size;
            at = (size_t)(cr - data);
        }
        if (data[at] == TERMINATOR[*matched])
            ++*matched;
        else
            *matched = data[at] == '\r';
        at++;
    }
    return at;
}

static void helo(struct connection *c, const char *arguments)
{
    (void)arguments;
    reset(c);
    reply(c, "250 sink\r\n");
}

static void ehlo(struct connection *c, const char *arguments)
{
    (void)arguments;
    reset(c);
    reply(c, "250-sink\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SIZE 1000000000\r\n"
             "250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n");
}

static void mail(struct connection *c, const char *arguments)
{
    if (strncasecmp(arguments, "FROM:", 5) != 0) {
        reply(c, "501 5.5.4 Syntax: MAIL FROM:<address>\r\n");
    } else if (c->mail) {
        reply(c, "503 5.5.1 Nested MAIL\r\n");
    } else {
        c->mail = true;
        reply(c, "250 2.1.0 Ok\r\n");
    }
}

static void rcpt(struct connection *c, const char *arguments)
{
    if (strncasecmp(arguments, "TO:", 3) != 0) {
        reply(c, "501 5.5.4 Syntax: RCPT TO:<address>\r\n");
    } else if (!c->mail || c->chunked) {
        reply(c, "503 5.5.1 MAIL first\r\n");
    } else {
        c->recipient = true;
        reply(c, "250 2.1.5 Ok\r\n");
    }
}

static void data(struct connection *c, const char *arguments)
{
    (void)arguments;
    if (!c->recipient || c->chunked) {
        reply(c, "503 5.5.1 MAIL and RCPT first, and no BDAT\r\n");
    } else {
        c->receiving = DATA;
        c->matched = 2; /* a lone dot may be the first line */
        reply(c, "354 End with <CRLF>.<CRLF>\r\n");
    }
}

static void end_chunk(struct connection *c)
{
    c->receiving = COMMANDS;
    if (!c->accepted) {
        reply(c, "503 5.5.1 MAIL and RCPT first\r\n");
    } else if (c->last) {
        take_message(c);
    } else {
        c->chunked = true;
        reply(c, "250 2.0.0 Ok: chunk\r\n");
    }
}

static void bdat(struct connection *c, const char *arguments)
{
    size_t digits = strspn(arguments, "0123456789");
    const char *rest = arguments + digits;
    rest += strspn(rest, " ");
    bool last = strcasecmp(rest, "LAST") == 0;
    if (digits == 0 || digits > SIZE_DIGITS || (*rest != '\0' && !last)) {
        /* Where the next command begins is not known. */
        reply(c, "501 5.5.4 Syntax: BDAT bytes [LAST]\r\n");
        c->closing = true;
        return;
    }
    c->receiving = CHUNK;
    c->left = strtoull(arguments, NULL, 10);
    c->accepted = c->recipient;
    c->last = last;
    if (c->left == 0)
        end_chunk(c);
}

static void rset(struct connection *c, const char *arguments)
{
    (void)arguments;
    reset(c);
    reply(c, "250 2.0.0 Ok\r\n");
}

static void noop(struct connection *c, const char *arguments)
{
    (void)arguments;
    reply(c, "250 2.0.0 Ok\r\n");
}

static void quit(struct connection *c, const char *arguments)
{
    (void)arguments;
    char text[LONGEST_REPLY];
    snprintf(text, sizeof text, "221 2.0.0 %llu messages taken\r\n", messages);
    reply(c, text);
    c->closing = true;
}

static const struct {
    const char *verb;
    void (*run)(struct connection *c, const char *arguments);
} COMMAND[] = {{"MAIL", mail}, {"RCPT", rcpt}, {"BDAT", bdat}, {"DATA", data}, {"RSET", rset},
               {"NOOP", noop}, {"QUIT", quit}, {"EHLO", ehlo}, {"HELO", helo}};

/* Runs one command line, which ends in a NUL instead of its line end. */
static void command(struct connection *c, const char *line)
{
    size_t length = strcspn(line, " ");
    for (size_t n = 0; n < sizeof COMMAND / sizeof *COMMAND; n++) {
        if (length == 4 && strncasecmp(line, COMMAND[n].verb, 4) == 0) {
            const char *arguments = line + length;
            COMMAND[n].run(c, arguments + strspn(arguments, " "));
            return;
        }
    }
    reply(c, "500 5.5.2 Command not recognized\r\n");
}

/* Takes one piece of the input: a command, or what there is of a message. False if there is none
   that is whole. */
static bool take_piece(struct connection *c)
{
    char *input = c->in + c->in_begin;
    size_t size = c->in_end - c->in_begin;
    if (size == 0)
        return false;
    if (c->receiving == DATA) {
        c->in_begin += message_bytes(input, size, &c->matched);
        if (c->matched == 5) {
            c->receiving = COMMANDS;
            take_message(c);
        }
    } else if (c->receiving == CHUNK) {
        size_t taken = size < c->left ? size : (size_t)c->left;
        c->in_begin += taken;
        c->left -= taken;
        if (c->left == 0)
            end_chunk(c);
    } else {
        char *end = memchr(input, '\n', size);
        if (end == NULL) {
            c->closing = size == INPUT;
            return false;
        }
        c->in_begin += (size_t)(end - input) + 1;
        *end = '\0';
        if (end > input && end[-1] == '\r')
            end[-1] = '\0';
        command(c, input);
    }
    return true;
}

/* Writes what the client takes of the replies; false if the connection is broken. */
static bool write_replies(struct connection *c)
{
    while (c->out_begin < c->out_end) {
        ssize_t written = write(c->fd, c->out + c->out_begin, c->out_end - c->out_begin);
        if (written < 0)
            return errno == EAGAIN;
        c->out_begin += (size_t)written;
    }
    c->out_begin = c->out_end = 0;
    return true;
}

/* Takes the input and answers it, as far as the client takes the answers; false if the connection
   has to be closed. */
static bool answer(struct connection *c)
{
    bool more = true;
    while (more) {
        while (more && !c->closing && c->out_end + LONGEST_REPLY <= OUTPUT)
            more = take_piece(c);
        if (!write_replies(c))
            return false;
        if (c->out_end > 0)
            return true; /* the client has to read first */
        if (c->closing)
            return false;
    }
    return true;
}

/* Does what poll(2) says is possible; false if the connection has to be closed. */
static bool serve(struct connection *c)
{
    if (c->out_end > 0) {
        if (!write_replies(c))
            return false;
        return c->out_end > 0 || (!c->closing && answer(c));
    }
    memmove(c->in, c->in + c->in_begin, c->in_end - c->in_begin);
    c->in_end -= c->in_begin;
    c->in_begin = 0;
    ssize_t came = read(c->fd, c->in + c->in_end, INPUT - c->in_end);
    if (came <= 0)
        return came < 0 && errno == EAGAIN;
    c->in_end += (size_t)came;
    return answer(c);
}

/* Returns a greeted connection, or NULL if there is none to accept. */
static struct connection *greeted(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return NULL;
    struct connection *c = malloc(sizeof *c);
    if (c == NULL || !prompt(fd)) {
        free(c);
        close(fd);
        return NULL;
    }
    c->fd = fd;
    c->receiving = COMMANDS;
    c->closing = false;
    c->in_begin = c->in_end = c->out_begin = c->out_end = 0;
    reset(c);
    reply(c, "220 sink ESMTP\r\n");
    return c;
}

int main(int argc, char **argv)
{
    static struct connection *connections[CONNECTIONS];
    static struct pollfd polled[CONNECTIONS + 1];
    size_t count = 0;
    signal(SIGPIPE, SIG_IGN);
    int listener = argc == 2 ? listen_on((uint16_t)atoi(argv[1])) : -1;
    if (listener < 0) {
        perror("sink PORT");
        return 1;
    }
    for (;;) {
        for (size_t n = 0; n < count; n++) {
            polled[n].fd = connections[n]->fd;
            polled[n].events = connections[n]->out_end > 0 ? POLLOUT : POLLIN;
        }
        polled[count].fd = count < CONNECTIONS ? listener : -1;
        polled[count].events = POLLIN;
        if (poll(polled, count + 1, -1) < 0) {
            if (errno == EINTR)
                continue;
            perror("poll");
            return 1;
        }
        struct connection *new = polled[count].revents != 0 ? greeted(listener) : NULL;
        /* From the last to the first, so that the last may take the place of one that is gone. */
        for (size_t n = count; n-- > 0;) {
            if (polled[n].revents == 0 || serve(connections[n]))
                continue;
            close(connections[n]->fd);
            free(connections[n]);
            connections[n] = connections[--count];
        }
        if (new != NULL)
            connections[count++] = new;
    }
}
