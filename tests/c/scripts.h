/* Plays sessions from scripts: a pipeline, its caller and its server.
 *
 * A script is words:
 *   +2    push a message for two recipients; =2: one without content
 *   >     begins the lines that must be waiting to be written, and no others; "_" stands for SP
 *   <     begins the codes of replies; the text of each is its number in the session
 *   *5    write five bytes, whatever they are; *: everything
 *   !     the connection fails and messages may be in doubt; ?: it fails and none is
 *   ^     release the content that is held
 *   @data the phase
 * The n-th message is Mn, Rn.1, Rn.2 and so on, and Tn, with a terminator unless BDAT sends it. */
#ifndef SCRIPTS_H
#define SCRIPTS_H

#include "check.h"
#include "pipeline.h"

enum { WORD = 32, TEXT = 1024, GATHERED = 64 };

/* How to play a script; all ways must give the same result. */
enum {
    WRITE_BYTES = 1, /* byte by byte */
    READ_BYTES = 2,
    BOOK = 4,         /* book replies as a caller does that has read them itself */
    DROP_LATE = 8,    /* keep messages until the end */
    ALL_WAYS = 16
};

/* Properties of a session. */
enum {
    STRICT = 1,
    LMTP = 2,
    PROVED = 4,
    SMALL = 8, /* any content is large */
    WHOLE = 16 /* replies come in one piece, as the first bytes of one would already be a fault */
};

/* A tag, or an owner, which holds the content. */
typedef struct owned {
    struct owned *next;
    size_t number, released;
    uint8_t *bytes;
    csmtp_chunk chunks[4];
} owned;

typedef struct {
    csmtp_receive receive;
    csmtp_pipeline pipeline;
    owned *owned; /* the tags and the owners of all messages */
    size_t pushed, completed, replies;
    unsigned ways;
    const char *script;
    char told[TEXT], fault[2 * WORD];
} session;

static inline void release(void *pointer)
{
    owned *each = pointer;
    each->released++;
    free(each->bytes);
    each->bytes = NULL;
}

static inline void begin(session *session, csmtp_mode mode, unsigned flags, unsigned ways)
{
    memset(session, 0, sizeof *session);
    session->ways = ways;
    session->script = "";
    csmtp_receive_init(&session->receive, 200, 1000);
    csmtp_pipeline_init(&session->pipeline, &session->receive, mode, flags & LMTP, flags & STRICT,
                        flags & PROVED ? csmtp_last_step(mode) : CSMTP_ALONE,
                        flags & SMALL ? 0 : SIZE_MAX);
}

/* Frees everything. Every tag and owner must have been released exactly once. */
static inline void end(session *session)
{
    csmtp_pipeline_free(&session->pipeline, release);
    CHECK(!session->pipeline.first && !session->pipeline.expected.items &&
          !session->pipeline.chunks.items && !session->pipeline.texts);
    csmtp_receive_free(&session->receive);
    size_t count = 0;
    for (owned *each = session->owned; each; count++) {
        owned *next = each->next;
        CHECK(each->released == 1);
        free(each);
        each = next;
    }
    CHECK(count == 2 * session->pushed);
}

static inline void check_text(const session *session, const char *found, const char *expected)
{
    bool is_same = strcmp(found, expected) == 0;
    CHECK(is_same);
    if (!is_same)
        fprintf(stderr, "%s\nplayed in way %u\n  expected: %s\n     found: %s\n", session->script,
                session->ways, expected, found);
}

/* Returns the commands of a message, in memory of their exact size. */
static inline csmtp_chunk *new_commands(size_t number, size_t recipients)
{
    csmtp_chunk *commands = (csmtp_chunk *)exact_room((1 + recipients) * sizeof *commands);
    for (size_t i = 0; i <= recipients; i++) {
        char line[WORD];
        int count = i == 0 ? snprintf(line, sizeof line, "M%zu\r\n", number)
                           : snprintf(line, sizeof line, "R%zu.%zu\r\n", number, i);
        commands[i].bytes = exact_copy((const uint8_t *)line, (size_t)count);
        commands[i].count = (size_t)count;
    }
    return commands;
}

static inline void free_commands(csmtp_chunk *commands, size_t recipients)
{
    for (size_t i = 0; i <= recipients; i++)
        free((void *)(uintptr_t)commands[i].bytes);
    free(commands);
}

/* Pushes a message. Its content is two chunks that are adjacent in memory, with an empty one
 * between them, and another. Returns false if there is no memory. */
static inline bool push(session *session, size_t recipients, bool is_empty)
{
    static const uint8_t terminator[] = ".\r\n";
    size_t number = session->pushed + 1;
    bool is_chunked = session->pipeline.steps.mode == CSMTP_CHUNKING;
    owned *tag = (owned *)exact_room(sizeof *tag), *owner = (owned *)exact_room(sizeof *owner);
    tag->number = number;

    char text[WORD] = "";
    if (!is_empty)
        snprintf(text, sizeof text, "T%zu\r\n", number);
    size_t count = strlen(text), chunk_count = 0;
    owner->bytes = exact_copy((const uint8_t *)text, count);
    if (count > 0)
        owner->chunks[chunk_count++] = (csmtp_chunk){owner->bytes, 1};
    owner->chunks[chunk_count++] = (csmtp_chunk){NULL, 0};
    if (count > 0)
        owner->chunks[chunk_count++] = (csmtp_chunk){owner->bytes + 1, count - 1};
    if (!is_chunked)
        owner->chunks[chunk_count++] = (csmtp_chunk){terminator, sizeof terminator - 1};

    csmtp_chunk *commands = new_commands(number, recipients);
    bool is_pushed = csmtp_pipeline_push(&session->pipeline, tag, owner, commands, 1 + recipients,
                                         owner->chunks, chunk_count,
                                         (int64_t)count - (is_chunked ? 1 : 0));
    free_commands(commands, recipients);
    if (!is_pushed) {
        release(owner);
        free(owner);
        free(tag);
        return false;
    }
    tag->next = owner;
    owner->next = session->owned;
    session->owned = tag;
    session->pushed++;
    return true;
}

/* Gets everything that is to be written; returns its length. */
static inline size_t gather(const session *session, uint8_t *bytes)
{
    static csmtp_chunk chunks[GATHERED];
    size_t count = 0;
    size_t filled = csmtp_pipeline_gather(&session->pipeline, chunks, GATHERED, SIZE_MAX);
    for (size_t i = 0; i < filled; i++) {
        if (bytes)
            memcpy(bytes + count, chunks[i].bytes, chunks[i].count);
        count += chunks[i].count;
    }
    return count;
}

/* Writes that many bytes, or only reports it if nothing is left after a fault. */
static inline void write_bytes(session *session, size_t count)
{
    csmtp_pipeline *pipeline = &session->pipeline;
    if (!(session->ways & WRITE_BYTES)) {
        csmtp_pipeline_wrote(pipeline, count);
        return;
    }
    for (; count > 0; count--) {
        csmtp_chunk chunk = {NULL, 0};
        size_t expected = pipeline->fault ? 0 : 1;
        CHECK(csmtp_pipeline_gather(pipeline, &chunk, 1, 1) == expected);
        CHECK(chunk.count == expected);
        csmtp_pipeline_wrote(pipeline, 1);
    }
}

static inline void write_expected(session *session, const char *expected)
{
    uint8_t found[TEXT];
    size_t count = gather(session, found);
    found[count] = 0;
    check_text(session, (char *)found, expected);
    CHECK(!(csmtp_pipeline_want(&session->pipeline) & CSMTP_WANT_WRITE) == (count == 0));
    write_bytes(session, count);
    CHECK(!(csmtp_pipeline_want(&session->pipeline) & CSMTP_WANT_WRITE));
}

/* Appends to the report on the messages. */
static inline void tell(session *session, const char *what)
{
    size_t count = strlen(session->told);
    snprintf(session->told + count, TEXT - count, "%s%s", count > 0 ? " " : "", what);
}

static inline const char *stage_name(csmtp_stage stage)
{
    static const char *const names[] = {"lost", "doubt", "mail", "rcpt", "data", "content"};
    return names[stage];
}

/* Shows a reply as ":550#3", an incomplete one as it is; nothing for none. */
static inline void show_reply(const session *session, const csmtp_stored_reply *reply,
                              char shown[WORD])
{
    char code[WORD] = "";
    if (reply->code != 0)
        snprintf(code, sizeof code, ":%03d", reply->code);
    const uint8_t *texts = session->pipeline.texts;
    snprintf(shown, WORD, "%s%.*s", code, (int)reply->text_count,
             texts ? (const char *)texts + reply->text : "");
}

static inline void tell_message(session *session, const csmtp_message *message)
{
    char reply[WORD], line[2 * WORD];
    size_t number = ((owned *)message->tag)->number;
    show_reply(session, &message->reply, reply);
    snprintf(line, sizeof line, "%zu=%s%s", number, stage_name(message->stage), reply);
    tell(session, line);
    size_t own_replies = 0;
    for (size_t i = 0; i < message->recipient_count; i++) {
        const csmtp_recipient *recipient = &message->recipients[i];
        if (recipient->stage == CSMTP_LOST)
            continue;
        own_replies++;
        show_reply(session, &recipient->reply, reply);
        snprintf(line, sizeof line, "%zu.%zu=%s%s", number, i + 1, stage_name(recipient->stage),
                 reply);
        tell(session, line);
    }
    CHECK(own_replies == message->own_replies);
}

/* Reports the messages that are completed, in order, and drops them. */
static inline void take(session *session)
{
    const csmtp_message *message;
    while ((message = csmtp_pipeline_completed(&session->pipeline))) {
        const owned *tag = message->tag, *owner = message->owner;
        CHECK(tag->number == ++session->completed && tag->released == 0);
        tell_message(session, message);
        csmtp_pipeline_drop(&session->pipeline, release);
        CHECK(tag->released == 1 && owner->released == 1);
    }
}

/* Reports a fault while its reply can be read. */
static inline void look_for_fault(session *session)
{
    static const char *const names[] = {
        "",       "surplus", "premature", "no-smtp",   "wrong",
        "closed", "amidst",  "unknown",   "no-memory", "timeout", "unreadable",
    };
    const csmtp_pipeline *pipeline = &session->pipeline;
    if (pipeline->fault == CSMTP_NO_FAULT)
        return;
    CHECK(pipeline->count == 0 && pipeline->byte_count == 0 && csmtp_pipeline_want(pipeline) == 0);
    CHECK(gather(session, NULL) == 0);
    if (session->fault[0] != 0)
        return;
    char reply[WORD];
    show_reply(session, &pipeline->fault_reply, reply);
    snprintf(session->fault, sizeof session->fault, "fault=%s%s", names[pipeline->fault], reply);
}

static inline void after_action(session *session)
{
    look_for_fault(session);
    if (!(session->ways & DROP_LATE))
        take(session);
    if (session->ways & BOOK)
        CHECK(session->pipeline.booked == session->replies);
}

static inline void receive_bytes(session *session, const char *bytes, size_t count)
{
    uint8_t *room = csmtp_receive_reserve(&session->receive, count);
    CHECK(room);
    if (count > 0)
        memcpy(room, bytes, count);
    session->receive.end += count;
    CHECK(csmtp_pipeline_receive(&session->pipeline) == CSMTP_REPLY_MORE);
    after_action(session);
}

static inline void receive_replies(session *session, const char *replies)
{
    size_t count = strlen(replies);
    if (!(session->ways & READ_BYTES)) {
        receive_bytes(session, replies, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        receive_bytes(session, replies + i, 1);
}

static inline void check_phase(const session *session, const char *name)
{
    static const char *const names[] = {"command", "data",  "block",
                                        "content", "probe", "early"};
    check_text(session, names[csmtp_pipeline_phase(&session->pipeline)], name);
}

static inline void act(session *session, const char *word)
{
    size_t number = (size_t)strtoul(word + 1, NULL, 10);
    switch (word[0]) {
    case '+':
    case '=':
        CHECK(push(session, number, word[0] == '='));
        break;
    case '*':
        write_bytes(session, word[1] ? number : gather(session, NULL));
        break;
    case '@':
        check_phase(session, word + 1);
        break;
    case '^':
        csmtp_pipeline_send_content(&session->pipeline);
        break;
    default:
        csmtp_pipeline_fail(&session->pipeline, CSMTP_UNREADABLE, word[0] == '!');
        break;
    }
    after_action(session);
}

static inline bool next_word(const char **script, char word[WORD])
{
    *script += strspn(*script, " ");
    size_t count = strcspn(*script, " ");
    if (count >= WORD)
        abort();
    memcpy(word, *script, count);
    word[count] = 0;
    *script += count;
    return count > 0;
}

/* Without strict, DATA is written as smtplib writes its commands. */
static inline const char *command_of(const session *session, const char *word)
{
    return !session->pipeline.strict && strcmp(word, "DATA") == 0 ? "data" : word;
}

static inline void add_line(char *lines, const char *word)
{
    char *end = lines + strlen(lines);
    for (; *word; word++)
        *end++ = *word == '_' ? ' ' : *word;
    memcpy(end, "\r\n", 3);
}

static inline void add_reply(session *session, char *lines, const char *code)
{
    char text[WORD];
    int count = snprintf(text, sizeof text, "#%zu", ++session->replies);
    if (session->ways & BOOK) {
        csmtp_pipeline_book(&session->pipeline, atoi(code), (uint8_t *)text, (size_t)count);
        after_action(session);
        return;
    }
    char *end = lines + strlen(lines);
    snprintf(end, TEXT - (size_t)(end - lines), "%s %s\r\n", code, text);
}

/* Plays a script; it is kept for the report of failures. */
static inline void play(session *session, const char *script)
{
    char word[WORD], lines[TEXT] = "", side = 0;
    session->script = script;
    for (bool is_word = true; is_word;) {
        is_word = next_word(&script, word);
        if (is_word && !strchr("<>+=*!?^@", word[0])) {
            if (side == '>')
                add_line(lines, command_of(session, word));
            else
                add_reply(session, lines, word);
            continue;
        }
        if (side == '>')
            write_expected(session, lines);
        else if (side == '<' && !(session->ways & BOOK))
            receive_replies(session, lines);
        lines[0] = 0;
        side = word[0] == '<' || word[0] == '>' ? word[0] : 0;
        if (is_word && !side)
            act(session, word);
    }
}

/* Returns the report on all messages and the connection. */
static inline const char *outcome(session *session)
{
    take(session);
    if (session->fault[0])
        tell(session, session->fault);
    return session->told;
}

#endif
