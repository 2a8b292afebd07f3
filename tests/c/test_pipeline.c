/* The pipeline: whole sessions with a scripted server, in every mode. */
#include "check.h"
#include "denial.h"
#include "pipeline.h"
#include "scripts.h"

typedef struct {
    csmtp_mode mode;
    unsigned flags;
    const char *script, *outcome;
} scene;

/* One command at a time. */
static const scene sequential[] = {
    {CSMTP_SEQUENTIAL, STRICT,
     "> @block +1 @block > M1 @command < 250 @block > R1.1 @command < 250 > DATA @data < 354 "
     "@block *2 @block * @content < 250 @block >",
     "1=content:250#4"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > ^ > T1 . < 250 >",
     "1=content:250#4"},
    {CSMTP_SEQUENTIAL, STRICT, "=1 > M1 < 250 > R1.1 < 250 > DATA < 354 > . < 250 >",
     "1=content:250#4"},
    {CSMTP_SEQUENTIAL, STRICT,
     "+2 +1 > M1 < 250 > R1.1 < 251 > R1.2 < 250 > DATA < 354 > T1 . < 200 > M2 < 250 > R2.1 < 250 "
     "> DATA < 354 > T2 . < 299 >",
     "1=content:200#5 2=content:299#9"},
    {CSMTP_SEQUENTIAL, STRICT | PROVED,
     "+1 +1 > M1 < 250 > R1.1 < 250 > DATA < 354 > T1 . < 250 > M2 < 250 > R2.1",
     "1=content:250#4"},
    {CSMTP_SEQUENTIAL, STRICT,
     "+3 > M1 < 250 > R1.1 < 550 > R1.2 < 250 > R1.3 < 450 > DATA < 354 > T1 . < 250 >",
     "1=content:250#6 1.1=rcpt:550#2 1.3=rcpt:450#4"},
    /* All recipients refused: the transaction is closed. */
    {CSMTP_SEQUENTIAL, STRICT,
     "+2 +1 > M1 < 250 > R1.1 < 550 > R1.2 < 450 > RSET @command < 250 > M2 < 550 > RSET",
     "1=rcpt 1.1=rcpt:550#2 1.2=rcpt:450#3 2=mail:550#5"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 +1 > M1 < 250 > R1.1 < 550 > RSET < 502 > M2 < 550 > RSET",
     "1=rcpt 1.1=rcpt:550#2 2=mail:550#4"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 550 >", "1=rcpt 1.1=rcpt:550#2"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 +1 > M1 < 550 > RSET < 250 > M2 < 451 > RSET < 250 >",
     "1=mail:550#1 2=mail:451#3"},
    {CSMTP_SEQUENTIAL, 0, "+1 +1 > M1 < 550 > M2 < 451 >", "1=mail:550#1 2=mail:451#2"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 +1 > M1 < 250 > R1.1 < 250 > DATA < 554 > RSET < 250 > M2",
     "1=data:554#3"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < 554 >", "1=data:554#3"},
    {CSMTP_SEQUENTIAL, STRICT,
     "+2 > M1 < 250 > R1.1 < 550 > R1.2 < 250 > DATA < 451 > RSET < 250 >",
     "1=data:451#4 1.1=rcpt:550#2"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 +1 > M1 < 250 > R1.1 < 250 > DATA < 354 > T1 . < 554 > M2",
     "1=content:554#4"},
    /* In LMTP a single recipient gets a single reply. */
    {CSMTP_SEQUENTIAL, STRICT | LMTP,
     "+2 > M1 < 250 > R1.1 < 550 > R1.2 < 250 > DATA < 354 > T1 . < 250 >",
     "1=content:250#5 1.1=rcpt:550#2"},
    {CSMTP_SEQUENTIAL, STRICT | LMTP,
     "+3 > M1 < 250 > R1.1 < 250 > R1.2 < 550 > R1.3 < 250 > DATA < 354 > T1 . < 452 @content < "
     "250 @block >",
     "1=content 1.1=content:452#6 1.2=rcpt:550#3 1.3=content:250#7"},
    {CSMTP_SEQUENTIAL, STRICT | LMTP, "+2 > M1 < 250 > R1.1 < 550 > R1.2 < 550 > RSET",
     "1=rcpt 1.1=rcpt:550#2 1.2=rcpt:550#3"},
};

/* Commands together, content behind 354. */
static const scene pipelined[] = {
    {CSMTP_PIPELINING, STRICT,
     "+2 @block > M1 R1.1 R1.2 DATA @command < 250 250 250 @data < 354 @block > T1 . @content < "
     "250 @block >",
     "1=content:250#5"},
    {CSMTP_PIPELINING, STRICT, "=1 > M1 R1.1 DATA < 250 250 354 > . < 250 >", "1=content:250#4"},
    /* Nothing follows the first message until it has come through, which proves the mode. */
    {CSMTP_PIPELINING, STRICT,
     "+1 +1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . RSET < 250 @probe > < 250 > M2 R2.1 DATA < 250 "
     "250 354 > T2 . M3 R3.1 DATA < 250 250 250 354 > T3 . < 250 >",
     "1=content:250#4 2=content:250#9 3=content:250#13"},
    {CSMTP_PIPELINING, STRICT,
     "+1 +1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . RSET < 554 250 > M2 R2.1 DATA < 250 250 354 > "
     "T2 . < 250 > M3 R3.1 DATA",
     "1=content:554#4 2=content:250#9"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . M2 R2.1 DATA @content < 250 @early < 250 "
     "@command < 250 @data < 354 > T2 . < 250 >",
     "1=content:250#4 2=content:250#8"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 > M1 R1.1 DATA < 250 250 +1 > < 354 > T1 . M2 R2.1 DATA +1 > < 250 250 250 354 > T2 . M3 "
     "R3.1 DATA",
     "1=content:250#4"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . M2 R2.1 DATA < 554 250 250 354 > T2 . < 250 >",
     "1=content:554#4 2=content:250#8"},
    /* The size does not matter, as the content waits anyway. */
    {CSMTP_PIPELINING, STRICT | PROVED | SMALL,
     "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . M2 R2.1 DATA", ""},
    {CSMTP_PIPELINING, STRICT, "+2 > M1 R1.1 R1.2 DATA < 250 250 550 354 > T1 . < 250 >",
     "1=content:250#5 1.2=rcpt:550#3"},
    {CSMTP_PIPELINING, STRICT, "+2 > M1 R1.1 R1.2 DATA < 250 250 550 451 > RSET < 250 >",
     "1=data:451#4 1.2=rcpt:550#3"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 250 451 >", "1=data:451#3"},
    /* All recipients refused, DATA too. */
    {CSMTP_PIPELINING, STRICT, "+1 +1 > M1 R1.1 DATA < 250 550 503 > RSET < 250 > M2 R2.1 DATA",
     "1=rcpt 1.1=rcpt:550#2"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 550 503 > RSET M2 R2.1 DATA < 250 250 250 354 > T2 . < 250",
     "1=rcpt 1.1=rcpt:550#2 2=content:250#8"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 550 503 >", "1=rcpt 1.1=rcpt:550#2"},
    /* All recipients refused, but not DATA: the server gets an empty message. */
    {CSMTP_PIPELINING, STRICT,
     "+2 > M1 R1.1 R1.2 DATA < 250 550 551 @data < 354 @block > . @content < 554 @block >",
     "1=rcpt 1.1=rcpt:550#2 1.2=rcpt:551#3"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 550 354 > . M2 R2.1 DATA < 250 250 250 354 > T2 . < 250 >",
     "1=rcpt 1.1=rcpt:550#2 2=content:250#8"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 550 354 > . < 250 >", "1=rcpt 1.1=rcpt:550#2"},
    {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 550 503 354 > . < 554 >", "1=mail:550#1"},
    /* MAIL refused: the replies to RCPT do not matter. */
    {CSMTP_PIPELINING, STRICT,
     "+2 +1 > M1 R1.1 R1.2 DATA < 550 503 503 503 > RSET < 250 > M2 R2.1 DATA", "1=mail:550#1"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 DATA < 550 503 503 > RSET M2 R2.1 DATA < 250 250 250 354 > T2 . < 250 >",
     "1=mail:550#1 2=content:250#8"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 550 250 503 >", "1=mail:550#1"},
    {CSMTP_PIPELINING, STRICT | LMTP | PROVED,
     "+3 +2 > M1 R1.1 R1.2 R1.3 DATA < 250 250 550 250 354 > T1 . @content < 452 @content > < 250 "
     "> M2 R2.1 R2.2 DATA < 250 250 250 354 > T2 . < 250 250 >",
     "1=content 1.1=content:452#6 1.2=rcpt:550#3 1.3=content:250#7 2=content 2.1=content:250#12 "
     "2.2=content:250#13"},
    /* In LMTP the next message waits for all replies, whether they are for several recipients, for
     * one, or to RSET: a missing one would be replaced by one of the next message. */
    {CSMTP_PIPELINING, STRICT | LMTP | PROVED,
     "+2 +1 > M1 R1.1 R1.2 DATA < 250 250 250 354 > T1 . < 250 > +1 > !",
     "1=doubt 1.1=content:250#5 2=lost 3=lost fault=unreadable"},
    {CSMTP_PIPELINING, STRICT | LMTP | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . @content < 250 > M2 R2.1 DATA", "1=content:250#4"},
    {CSMTP_PIPELINING, LMTP | PROVED,
     "^ +1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . < 554 > M2 R2.1 DATA", "1=content:554#4"},
    {CSMTP_PIPELINING, STRICT | LMTP | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 550 503 > RSET < 250 > M2 R2.1 DATA", "1=rcpt 1.1=rcpt:550#2"},
    {CSMTP_PIPELINING, STRICT | LMTP | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 550 354 > . < 554 > M2 R2.1 DATA", "1=rcpt 1.1=rcpt:550#2"},
};

/* A command that was sent early is refused, maybe for that reason. */
static const scene doubtful[] = {
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . M2 R2.1 DATA < 250 503 503 503 > RSET < 250 > "
     "M2 @command < 250 > R2.1 < 250 > DATA < 354 > T2 . < 250 > M3 R3.1 DATA < 250 250 354 > T3 .",
     "1=content:250#4 2=content:250#12"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . M2 R2.1 DATA < 250 503 503 503 > RSET < 250 > "
     "M2 < 503 > RSET M3 R3.1 DATA",
     "1=content:250#4 2=mail:503#9"},
    {CSMTP_PIPELINING, STRICT,
     "+2 +1 > M1 R1.1 R1.2 DATA < 250 500 502 503 > RSET < 250 > M1 < 250 > R1.1 < 250 > R1.2 < "
     "250 > DATA < 354 > T1 . < 250 > M2 < 250 > R2.1",
     "1=content:250#10"},
    {CSMTP_PIPELINING, STRICT, "+2 > M1 R1.1 R1.2 DATA < 250 500 250 354 > T1 . < 250 >",
     "1=content:250#5 1.1=rcpt:500#2"},
    {CSMTP_PIPELINING, STRICT,
     "+1 > M1 R1.1 DATA < 250 250 502 > RSET < 250 > M1 < 250 > R1.1 < 250 > DATA < 502 > RSET",
     "1=data:502#7"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . M2 R2.1 DATA < 250 503 !",
     "1=content:250#4 2=lost fault=unreadable"},
    {CSMTP_PIPELINING, STRICT | PROVED, "+1 > M1 R1.1 DATA < 250 503 503 > RSET < 250 > M1 < 250 !",
     "1=lost fault=unreadable"},
    {CSMTP_PIPELINING, STRICT,
     "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . RSET < 250 503 > M2 R2.1 DATA", "1=content:250#4"},
    {CSMTP_PIPELINING, STRICT, "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . RSET < 250 @probe !",
     "1=content:250#4 2=lost fault=unreadable"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 503 > RSET", "1=rcpt 1.1=rcpt:503#2"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 503 503 >", "1=rcpt 1.1=rcpt:503#2"},
};

/* Whole transactions. */
static const scene chunked[] = {
    /* The first message waits, then they stream, each behind RSET. */
    {CSMTP_CHUNKING, STRICT,
     "+1 +1 +1 > M1 R1.1 @command < 250 250 > BDAT_4_LAST T1 @content < 250 > RSET M2 R2.1 "
     "BDAT_4_LAST T2 RSET @command < 250 250 250 @content < 250 @probe > < 250 +1 > M3 R3.1 "
     "BDAT_4_LAST T3 RSET M4 R4.1 BDAT_4_LAST T4 < 250 250 250 250 @command < 250 250 @content < "
     "250 @block >",
     "1=content:250#3 2=content:250#7 3=content:250#11 4=content:250#15"},
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +2 > M1 R1.1 BDAT_4_LAST T1 RSET M2 R2.1 R2.2 BDAT_4_LAST T2 < 250 250 250 250 250 250 "
     "550 250 >",
     "1=content:250#3 2=content:250#8 2.2=rcpt:550#7"},
    {CSMTP_CHUNKING, STRICT | PROVED,
     "=1 @block *23 @command < 250 250 @content < 250 > =1 > RSET M2 R2.1 BDAT_0_LAST",
     "1=content:250#3"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 *24 < 250 250 @block * @content < 250",
     "1=content:250#3"},
    {CSMTP_CHUNKING, STRICT,
     "+1 +1 > M1 R1.1 < 250 550 > RSET < 250 > M2 R2.1 < 250 250 > BDAT_4_LAST T2 < 250 >",
     "1=rcpt 1.1=rcpt:550#2 2=content:250#6"},
    {CSMTP_CHUNKING, STRICT, "+1 +1 > M1 R1.1 < 550 503 > RSET < 250 > M2 R2.1", "1=mail:550#1"},
    /* BDAT is not known, and no other message was sent. */
    {CSMTP_CHUNKING, STRICT, "+1 +1 > M1 R1.1 < 250 250 > BDAT_4_LAST T1 < 500",
     "1=lost 2=lost fault=unknown:500#3"},
    {CSMTP_CHUNKING, 0, "+2 > M1 R1.1 R1.2 < 250 250 550 ^ > BDAT_4_LAST T1 < 504",
     "1=lost 1.2=rcpt:550#3 fault=unknown:504#4"},
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 > M1 R1.1 BDAT_4_LAST T1 < 250 250 502 > RSET < 250 > "
     "M1 < 250 > R1.1 < 250 > BDAT_4_LAST T1 < 502 > RSET",
     "1=content:502#7"},
    /* The transaction may have been left open. */
    {CSMTP_CHUNKING, STRICT,
     "+1 +1 > M1 R1.1 < 250 250 > BDAT_4_LAST T1 < 505 > RSET < 250 > M2 R2.1", "1=content:505#3"},
    {CSMTP_CHUNKING, 0, "+1 +1 > M1 R1.1 < 250 250 ^ > BDAT_4_LAST T1 < 505 > RSET M2 R2.1",
     "1=content:505#3"},
    {CSMTP_CHUNKING, 0, "+1 > M1 R1.1 < 250 250 ^ > BDAT_4_LAST T1 < 505 > +1 > RSET M2 R2.1",
     "1=content:505#3"},
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 > M1 R1.1 BDAT_4_LAST T1 < 250 250 554 > RSET +1 > M2 R2.1 BDAT_4_LAST T2 < 250 250 250 "
     "250 >",
     "1=content:554#3 2=content:250#7"},
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 BDAT_4_LAST T1 RSET M2 R2.1 BDAT_4_LAST T2 < 250 250 554 > RSET < 250 250 "
     "250 250 250 >",
     "1=content:554#3 2=content:250#7"},
    /* Refused while the content is being sent. */
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 BDAT_4_LAST T1 RSET M2 R2.1 BDAT_4_LAST T2 < 250 550 503 > RSET < 250 250 "
     "250 250 250 >",
     "1=rcpt 1.1=rcpt:550#2 2=content:250#7"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 > M1 R1.1 BDAT_4_LAST T1 < 250 550 250 >",
     "1=rcpt 1.1=rcpt:550#2"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+2 > M1 R1.1 R1.2 BDAT_4_LAST T1 < 550 503 503 503 > RSET",
     "1=mail:550#1"},
    /* A message is dropped when the next is already refused, whose text moves. */
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 +1 * < 250 250 250 250 551 < 503 503 250 551 > RSET < 503 503",
     "1=content:250#3 2=mail:551#5 3=mail:551#9"},
    /* The second is done when the third is about to be sent again; the text of the fourth, which
     * came before both, stays. */
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 +2 +1 * < 250 250 250 250 503 503 503 250 503 503 503 503 250 250 250 250 * < 250 * < "
     "503 * < 250 * < 250 * < 550 * < 550 *",
     "1=content:250#3 2=mail:503#18 3=rcpt 3.1=rcpt:550#21 3.2=rcpt:550#22 4=content:250#16"},
    /* Refused after RCPT, and not while it waits for those replies. */
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 BDAT_4_LAST T1 RSET M2 R2.1 BDAT_4_LAST T2 < 250 250 503 > RSET < 250 250 "
     "250 250 250 > M1 < 250 > R1.1 < 250 > BDAT_4_LAST T1 < 250 > +1 > RSET M3 R3.1 < 250 250 250 > "
     "BDAT_4_LAST T3",
     "1=content:250#11 2=content:250#7"},
    /* Large contents wait for the replies to RCPT. */
    {CSMTP_CHUNKING, STRICT | PROVED | SMALL,
     "+1 +1 > M1 R1.1 < 250 250 > BDAT_4_LAST T1 RSET M2 R2.1 < 554 250 250 250 > BDAT_4_LAST T2 < "
     "250 >",
     "1=content:554#3 2=content:250#7"},
    {CSMTP_CHUNKING, STRICT | PROVED | SMALL,
     "+1 +1 > M1 R1.1 < 250 550 > RSET M2 R2.1 < 250 250 250 > BDAT_4_LAST T2 < 250 >",
     "1=rcpt 1.1=rcpt:550#2 2=content:250#6"},
    {CSMTP_CHUNKING, STRICT | PROVED | SMALL,
     "+1 +1 > M1 R1.1 < 550 503 > RSET M2 R2.1 < 250 250 250 > BDAT_4_LAST T2 < 250 >",
     "1=mail:550#1 2=content:250#6"},
    {CSMTP_CHUNKING, STRICT | LMTP | PROVED,
     "+2 +1 > M1 R1.1 R1.2 BDAT_4_LAST T1 < 250 250 250 250 @content > < 452 > RSET < 250 > M2 "
     "R2.1 BDAT_4_LAST T2 < 250 250 250 >",
     "1=content 1.1=content:250#4 1.2=content:452#5 2=content:250#9"},
    {CSMTP_CHUNKING, STRICT | LMTP | PROVED,
     "+2 +1 > M1 R1.1 R1.2 BDAT_4_LAST T1 < 250 250 250 452 > < 250 > RSET M2 R2.1 BDAT_4_LAST T2 "
     "< 250 250 250 250 >",
     "1=content 1.1=content:452#4 1.2=content:250#5 2=content:250#9"},
    {CSMTP_CHUNKING, STRICT | LMTP | PROVED,
     "+1 +1 > M1 R1.1 BDAT_4_LAST T1 < 250 250 > < 250 > RSET M2 R2.1 BDAT_4_LAST T2",
     "1=content:250#3"},
    /* An LMTP server that does not know BDAT says so once; after other replies it is no such
     * answer. */
    {CSMTP_CHUNKING, STRICT | LMTP, "+2 +1 > M1 R1.1 R1.2 < 250 250 250 > BDAT_4_LAST T1 < 500",
     "1=lost 2=lost fault=unknown:500#4"},
    {CSMTP_CHUNKING, LMTP, "+3 > M1 R1.1 R1.2 R1.3 < 250 250 550 250 ^ > BDAT_4_LAST T1 < 504 504",
     "1=lost 1.2=rcpt:550#3 fault=unknown:504#5"},
    {CSMTP_CHUNKING, STRICT | LMTP, "+2 > M1 R1.1 R1.2 < 250 550 250 > BDAT_4_LAST T1 < 502",
     "1=lost 1.1=rcpt:550#2 fault=unknown:502#4"},
    {CSMTP_CHUNKING, STRICT | LMTP,
     "+2 > M1 R1.1 R1.2 < 250 250 250 > BDAT_4_LAST T1 < 250 500 > RSET",
     "1=content 1.1=content:250#4 1.2=content:500#5"},
    {CSMTP_CHUNKING, STRICT | LMTP | PROVED,
     "+2 > M1 R1.1 R1.2 BDAT_4_LAST T1 < 250 250 250 500 > < 501 > RSET",
     "1=content 1.1=content:500#4 1.2=content:501#5"},
    /* The success of any recipient proves the mode, and no failure does. */
    {CSMTP_CHUNKING, STRICT | LMTP,
     "+2 +1 > M1 R1.1 R1.2 < 250 250 250 > BDAT_4_LAST T1 < 250 452 > RSET < 250 > M2 R2.1 "
     "BDAT_4_LAST T2",
     "1=content 1.1=content:250#4 1.2=content:452#5"},
    {CSMTP_CHUNKING, STRICT | LMTP,
     "+2 +1 > M1 R1.1 R1.2 < 250 250 250 > BDAT_4_LAST T1 < 452 502 > RSET < 250 > M2 R2.1 < 250 "
     "250 > BDAT_4_LAST T2 < 500",
     "1=content 1.1=content:452#4 1.2=content:502#5 2=lost fault=unknown:500#9"},
};

/* The connection ends, with 421 or without a reply. */
static const scene ends[] = {
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "< 421", "fault=closed:421#1"},
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "+1 < 421", "1=lost fault=closed:421#1"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 +1 > M1 < 421 >", "1=mail:421#1 2=lost fault=closed:421#1"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 421 >",
     "1=rcpt 1.1=rcpt:421#2 fault=closed:421#2"},
    {CSMTP_SEQUENTIAL, 0, "+2 > M1 < 250 > R1.1 < 421 >",
     "1=lost 1.1=rcpt:421#2 fault=closed:421#2"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 421 >",
     "1=data:421#3 fault=closed:421#3"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > T1 . < 421 >",
     "1=content:421#4 fault=closed:421#4"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 550 > RSET < 421 >",
     "1=rcpt 1.1=rcpt:550#2 fault=closed:421#3"},
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "+1 > M1 < 550 > RSET < 250 421",
     "1=mail:550#1 fault=closed:421#3"},
    {CSMTP_PIPELINING, STRICT | PROVED, "+1 +1 > M1 R1.1 DATA < 421 250",
     "1=mail:421#1 2=lost fault=closed:421#1"},
    {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 250 421",
     "1=data:421#3 fault=closed:421#3"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . M2 R2.1 DATA < 421 >",
     "1=content:421#4 2=lost fault=closed:421#4"},
    {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 550 354 > . < 421 >",
     "1=rcpt 1.1=rcpt:550#2 fault=closed:421#4"},
    /* No server processes the second message, although it was sent. */
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 BDAT_4_LAST T1 RSET M2 R2.1 BDAT_4_LAST T2 < 250 250 421 >",
     "1=content:421#3 2=lost fault=closed:421#3"},
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 BDAT_4_LAST T1 RSET M2 R2.1 BDAT_4_LAST T2 < 250 250 250 421 >",
     "1=content:250#3 2=lost fault=closed:421#4"},
    {CSMTP_CHUNKING, STRICT, "+1 > M1 R1.1 < 250 250 > BDAT_4_LAST T1 < 421 >",
     "1=content:421#3 fault=closed:421#3"},
    {CSMTP_SEQUENTIAL, STRICT | LMTP,
     "+3 > M1 < 250 > R1.1 < 250 > R1.2 < 250 > R1.3 < 250 > DATA < 354 > T1 . < 250 421 >",
     "1=doubt 1.1=content:250#6 1.2=content:421#7 fault=closed:421#7"},
    {CSMTP_PIPELINING, STRICT | LMTP | PROVED,
     "+3 +1 > M1 R1.1 R1.2 R1.3 DATA < 250 250 550 250 354 > T1 . < 421 >",
     "1=doubt 1.1=content:421#6 1.2=rcpt:550#3 2=lost fault=closed:421#6"},
    {CSMTP_CHUNKING, STRICT | LMTP, "+2 +1 > M1 R1.1 R1.2 < 250 250 250 > BDAT_4_LAST T1 < 421 >",
     "1=doubt 1.1=content:421#4 2=lost fault=closed:421#4"},
    {CSMTP_SEQUENTIAL, STRICT | LMTP,
     "+2 > M1 < 250 > R1.1 < 250 > R1.2 < 250 > DATA < 354 > T1 . < 250 421 >",
     "1=content 1.1=content:250#5 1.2=content:421#6 fault=closed:421#6"},

    {CSMTP_SEQUENTIAL, STRICT, "! > +1 >", "1=lost fault=unreadable"},
    {CSMTP_SEQUENTIAL, STRICT, "! ? ! +1 +1 < 250 421 ! +1",
     "1=lost 2=lost 3=lost fault=unreadable"},
    /* What a driver reports after that changes nothing. */
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 *30 ! *9 ^ > +1 *40 ^ < 250 250 *1 >",
     "1=doubt 2=lost 3=lost fault=unreadable"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 250 354 > ! *3 ^ > +2 *99 ^ > *",
     "1=lost 2=lost fault=unreadable"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > T1 . ! >",
     "1=doubt fault=unreadable"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > T1 . ? +1 >",
     "1=lost 2=lost fault=unreadable"},
    {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 550 !", "1=mail:550#1 fault=unreadable"},
    /* Replies are missing, maybe not the last ones. */
    {CSMTP_PIPELINING, STRICT, "+2 > M1 R1.1 R1.2 DATA < 250 550 !", "1=lost fault=unreadable"},
    {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 550 !", "1=lost fault=unreadable"},
    {CSMTP_PIPELINING, STRICT, "+3 > M1 R1.1 R1.2 R1.3 DATA < 250 550 421 >",
     "1=lost 1.2=rcpt:421#3 fault=closed:421#3"},
    {CSMTP_SEQUENTIAL, STRICT, "+2 > M1 < 250 > R1.1 < 550 > R1.2 !",
     "1=lost 1.1=rcpt:550#2 fault=unreadable"},
    {CSMTP_PIPELINING, STRICT, "+2 > M1 R1.1 R1.2 DATA < 250 250 550 354 > T1 . !",
     "1=doubt 1.2=rcpt:550#3 fault=unreadable"},
    {CSMTP_PIPELINING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 DATA < 250 250 354 > T1 . M2 R2.1 DATA +1 !",
     "1=doubt 2=lost 3=lost fault=unreadable"},
    {CSMTP_SEQUENTIAL, STRICT | LMTP,
     "+3 > M1 < 250 > R1.1 < 550 > R1.2 < 250 > R1.3 < 250 > DATA < 354 > T1 . < 250 !",
     "1=doubt 1.1=rcpt:550#2 1.2=content:250#6 fault=unreadable"},
    /* Completed messages stay as they are. */
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 * < 250 250 250 !",
     "1=content:250#3 2=doubt fault=unreadable"},
};

/* Replies that are not allowed. */
static const scene faults[] = {
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "< 250", "fault=surplus:250#1"},
    {CSMTP_SEQUENTIAL, 0, "< 550 +1", "1=lost fault=surplus:550#1"},
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "+1 < 250", "1=lost fault=surplus:250#1"},
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "+1 *3 < 250", "1=lost fault=surplus:250#1"},
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "+1 +1 > M1 < 250 250", "1=lost 2=lost fault=surplus:250#2"},
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "+1 +1 > M1 < 550 550",
     "1=mail:550#1 2=lost fault=surplus:550#2"},
    {CSMTP_PIPELINING, STRICT | WHOLE, "+1 > M1 R1.1 DATA < 250 250 354 250",
     "1=lost fault=surplus:250#4"},
    {CSMTP_PIPELINING, STRICT | WHOLE, "+1 > M1 R1.1 DATA < 250 250 354 > T1 . < 250 250",
     "1=content:250#4 fault=surplus:250#5"},
    {CSMTP_PIPELINING, STRICT | WHOLE, "+1 > M1 R1.1 DATA < 250 550 354 554",
     "1=rcpt 1.1=rcpt:550#2 fault=surplus:554#4"},
    {CSMTP_SEQUENTIAL, STRICT | LMTP | WHOLE,
     "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > T1 . < 250 250",
     "1=content:250#4 fault=surplus:250#5"},

    /* A refusal while the content is being sent. */
    {CSMTP_SEQUENTIAL, STRICT, "+1 +1 > M1 < 250 > R1.1 < 250 > DATA < 354 *2 < 554",
     "1=content:554#4 2=lost fault=premature:554#4"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 *2 < 421",
     "1=content:421#4 fault=amidst:421#4"},
    {CSMTP_PIPELINING, STRICT | LMTP, "+2 > M1 R1.1 R1.2 DATA < 250 250 250 354 *6 < 452 250",
     "1=content:452#5 fault=premature:452#5"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 *24 < 250 250 554",
     "1=content:554#3 2=lost fault=premature:554#3"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 *24 < 250 250 421", "1=content:421#3 fault=amidst:421#3"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 *11 < 250 250 554",
     "1=content:554#3 fault=premature:554#3"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+2 *30 < 250 550 250 452",
     "1=content:452#4 1.1=rcpt:550#2 fault=premature:452#4"},
    /* T11: not before a part of it was sent. */
    {CSMTP_CHUNKING, STRICT | PROVED | WHOLE, "+1 +1 *10 < 250 250 554",
     "1=lost 2=lost fault=surplus:554#3"},
    {CSMTP_CHUNKING, STRICT | PROVED | WHOLE, "+1 *10 < 250 250 421", "1=lost fault=closed:421#3"},
    {CSMTP_CHUNKING, STRICT | WHOLE, "+1 > M1 R1.1 < 250 250 554", "1=lost fault=surplus:554#3"},
    {CSMTP_CHUNKING, STRICT | LMTP | WHOLE, "+2 > M1 R1.1 R1.2 < 250 250 250 452",
     "1=lost fault=surplus:452#4"},
    {CSMTP_SEQUENTIAL, STRICT | WHOLE, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 554",
     "1=lost fault=surplus:554#4"},
    /* A recipient that was refused before keeps that reply. */
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 *24 < 550 503 554",
     "1=mail:550#1 2=lost fault=premature:554#3"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 *24 < 550 503 421", "1=mail:550#1 fault=amidst:421#3"},
    {CSMTP_CHUNKING, STRICT | PROVED, "+2 *30 < 250 550 551 554",
     "1=rcpt 1.1=rcpt:550#2 1.2=rcpt:551#3 fault=premature:554#4"},
    {CSMTP_CHUNKING, STRICT | PROVED | WHOLE, "+1 *24 < 250 250 250", "1=lost fault=surplus:250#3"},

    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 199", "1=lost fault=no-smtp:199#1"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 600", "1=lost fault=no-smtp:600#1"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 100", "1=lost fault=no-smtp:100#1"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 199", "1=lost fault=no-smtp:199#1"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > T1 . < 150",
     "1=doubt fault=no-smtp:150#4"},

    /* Unexpected successes. */
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 220", "1=lost fault=wrong:220#1"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 354", "1=lost fault=wrong:354#1"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 221", "1=lost fault=wrong:221#2"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 354", "1=lost fault=wrong:354#2"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 250",
     "1=lost fault=wrong:250#3"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > T1 . < 354",
     "1=doubt fault=wrong:354#4"},
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 550 > RSET < 354",
     "1=rcpt 1.1=rcpt:550#2 fault=wrong:354#3"},
    {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 550 250", "1=mail:550#1 fault=wrong:250#2"},
    {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 550 354 > . < 354",
     "1=rcpt 1.1=rcpt:550#2 fault=wrong:354#4"},
    {CSMTP_PIPELINING, 0, "+2 > M1 R1.1 R1.2 DATA < 550 250 503 354 >",
     "1=mail:550#1 fault=wrong:354#4"},
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 BDAT_4_LAST T1 RSET M2 R2.1 BDAT_4_LAST T2 < 250 250 250 250 354",
     "1=content:250#3 2=doubt fault=wrong:354#5"},
    {CSMTP_CHUNKING, STRICT | PROVED,
     "+1 +1 > M1 R1.1 BDAT_4_LAST T1 RSET M2 R2.1 BDAT_4_LAST T2 < 354",
     "1=doubt 2=doubt fault=wrong:354#1"},

    /* smtplib takes any other code for a refusal. */
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 251 >", "1=mail:251#1"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 999 >", "1=mail:999#1"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 252 >", "1=rcpt 1.1=rcpt:252#2"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < 250 >", "1=data:250#3"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > ^ > T1 . < 354 >",
     "1=content:354#4"},
    {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 ^ *2 < 354",
     "1=lost fault=surplus:354#4"},
};

/* Content that is held until it is known that none of several servers refuses it. */
static const scene held[] = {
    {CSMTP_SEQUENTIAL, 0,
     "+1 +1 > M1 < 250 > R1.1 < 250 > DATA < 354 > @block +1 > ^ > T1 . < 250 > M2 < 250 > R2.1 < "
     "250 > DATA < 354 > T2 . < 250 > M3",
     "1=content:250#4 2=content:250#8"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 250 354 > ^ > T1 . ^ > < 250 >",
     "1=content:250#4"},
    {CSMTP_PIPELINING, 0, "^ +1 > M1 R1.1 DATA < 250 250 354 > T1 . < 250 >", "1=content:250#4"},
    {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 250 ^ > < 354 > T1 .", ""},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 250 354 > < 421", "1=lost fault=closed:421#4"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 250 354 > < 554", "1=lost fault=surplus:554#4"},
    {CSMTP_PIPELINING, 0, "+1 > M1 R1.1 DATA < 250 250 354 > ! ^ > +1 ^ >",
     "1=lost 2=lost fault=unreadable"},
    {CSMTP_CHUNKING, 0, "+1 > M1 R1.1 < 250 250 ^ > BDAT_4_LAST T1 < 250 >", "1=content:250#3"},
};

static void play_all(const scene *scenes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (unsigned ways = 0; ways < ALL_WAYS; ways++) {
            if ((scenes[i].flags & WHOLE) && (ways & READ_BYTES))
                continue;
            session session;
            begin(&session, scenes[i].mode, scenes[i].flags, ways);
            play(&session, scenes[i].script);
            check_text(&session, outcome(&session), scenes[i].outcome);
            end(&session);
        }
    }
}

#define PLAY_ALL(scenes) play_all(scenes, sizeof scenes / sizeof *scenes)

/* Messages in every state are freed without having been dropped. */
static void test_free(void)
{
    static const char *const scripts[] = {
        "", "+1", "+1 +2 *1", "+1 +1 * < 250", "+1 +1 +1 * < 250 250 250", "+1 +1 !", "! +1 +1",
    };
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        session session;
        begin(&session, CSMTP_CHUNKING, STRICT | PROVED, DROP_LATE);
        play(&session, scripts[i]);
        end(&session);
    }
    session session;
    begin(&session, CSMTP_SEQUENTIAL, STRICT, 0);
    csmtp_pipeline_free(&session.pipeline, NULL);
    end(&session);
}

/* Sessions that end anywhere in what is to be written next, and how much of that must be sent for
 * the server to have each of the messages. */
static const struct {
    csmtp_mode mode;
    unsigned flags;
    const char *script;
    size_t messages, needed[4], all;
} cut_off[] = {
    {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354", 1, {5}, 7},
    {CSMTP_SEQUENTIAL, STRICT, "=1 > M1 < 250 > R1.1 < 250 > DATA < 354", 1, {1}, 3},
    {CSMTP_PIPELINING, STRICT | PROVED, "+1 +1 > M1 R1.1 DATA < 250 250 354", 2, {5, SIZE_MAX}, 23},
    {CSMTP_CHUNKING, STRICT, "+1 > M1 R1.1 < 250 250", 1, {17}, 17},
    {CSMTP_CHUNKING, STRICT, "=1 > M1 R1.1 < 250 250", 1, {13}, 13},
    {CSMTP_CHUNKING, STRICT | PROVED, "+1 +2 =1 +1", 4, {27, 66, 95, 128}, 128},
};

static void test_every_cut(void)
{
    for (size_t i = 0; i < sizeof cut_off / sizeof *cut_off; i++) {
        for (size_t cut = 0; cut <= cut_off[i].all; cut++) {
            for (unsigned in_doubt = 0; in_doubt < 2; in_doubt++) {
                session session;
                begin(&session, cut_off[i].mode, cut_off[i].flags, 0);
                play(&session, cut_off[i].script);
                CHECK(gather(&session, NULL) == cut_off[i].all);
                write_bytes(&session, cut);
                play(&session, in_doubt ? "!" : "?");

                char expected[TEXT] = "";
                for (size_t number = 1; number <= cut_off[i].messages; number++) {
                    bool has_left = cut >= cut_off[i].needed[number - 1];
                    size_t count = strlen(expected);
                    snprintf(expected + count, TEXT - count, "%zu=%s ", number,
                             in_doubt && has_left ? "doubt" : "lost");
                }
                strcat(expected, "fault=unreadable");
                check_text(&session, outcome(&session), expected);
                end(&session);
            }
        }
    }
}

/* T1: what was handed to the system may be sent before the system reports it. Messages are in doubt
 * because of it, until it turns out that less was written. If brief, with some of the cuts. */
static void test_every_hand(void)
{
    enum { STEP = IS_BRIEF ? 5 : 1 };
    for (size_t i = 0; i < sizeof cut_off / sizeof *cut_off; i++) {
        size_t all = cut_off[i].all;
        for (size_t cut = 0; cut <= all; cut += STEP) {
            for (size_t handed = 0; cut + handed <= all; handed += STEP) {
                for (size_t wrote = 0; wrote <= handed + 1; wrote++) {
                    session session;
                    begin(&session, cut_off[i].mode, cut_off[i].flags, 0);
                    play(&session, cut_off[i].script);
                    write_bytes(&session, cut);
                    csmtp_pipeline_hand(&session.pipeline, handed);
                    /* One more than was handed stands for: nothing is known of it. */
                    size_t left = cut + (wrote <= handed ? wrote : handed);
                    if (wrote <= handed)
                        csmtp_pipeline_wrote(&session.pipeline, wrote);
                    play(&session, "!");

                    char expected[TEXT] = "";
                    for (size_t number = 1; number <= cut_off[i].messages; number++) {
                        size_t count = strlen(expected);
                        bool has_left = left >= cut_off[i].needed[number - 1];
                        snprintf(expected + count, TEXT - count, "%zu=%s ", number,
                                 has_left ? "doubt" : "lost");
                    }
                    strcat(expected, "fault=unreadable");
                    check_text(&session, outcome(&session), expected);
                    end(&session);
                }
            }
        }
    }
}

/* A reply anywhere in the content and in what follows it. */
static void test_reply_at_every_cut(void)
{
    static const struct {
        const char *reply, *before, *before_end, *in_terminator, *behind;
    } replies[] = {
        {"< 554", "1=lost 2=lost fault=surplus:554#4",
         "1=content:554#4 2=lost fault=premature:554#4",
         "1=content:554#4 2=lost fault=premature:554#4", "1=content:554#4"},
        {"< 421", "1=lost 2=lost fault=closed:421#4", "1=content:421#4 2=lost fault=amidst:421#4",
         "1=content:421#4 2=lost fault=amidst:421#4", "1=content:421#4 2=lost fault=closed:421#4"},
        {"< 250", "1=lost 2=lost fault=surplus:250#4", "1=lost 2=lost fault=surplus:250#4",
         "1=doubt 2=lost fault=surplus:250#4",
         "1=content:250#4"},
    };
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        for (size_t cut = 0; cut <= 23; cut++) {
            session session;
            begin(&session, CSMTP_PIPELINING, STRICT | PROVED, 0);
            play(&session, "+1 +1 > M1 R1.1 DATA < 250 250 354");
            write_bytes(&session, cut);
            play(&session, replies[i].reply);
            check_text(&session, outcome(&session),
                       cut < 1   ? replies[i].before
                       : cut < 5 ? replies[i].before_end
                       : cut < 7 ? replies[i].in_terminator
                                 : replies[i].behind);
            end(&session);
        }
    }
}

/* The pipeline waits for the rest of a refusal that begins after any byte of the content, whether
 * more of the content is written or not. */
static void test_refusal_begun_at_every_cut(void)
{
    static const struct {
        const char *reply, *amidst, *behind;
    } refusals[] = {
        {"554 #4\r\n", "1=content:554#4 2=lost fault=premature:554#4", "1=content:554#4"},
        {"400\r\n", "1=content:400 2=lost fault=premature:400", "1=content:400"},
        {"554-#3\r\n554 #4\r\n", "1=content:554#3\n#4 2=lost fault=premature:554#3\n#4",
         "1=content:554#3\n#4"},
        {"421 #4\r\n", "1=content:421#4 2=lost fault=amidst:421#4",
         "1=content:421#4 2=lost fault=closed:421#4"},
    };
    enum { CONTENT = 7, ALL = 23 };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const char *reply = refusals[i].reply;
        for (size_t begun = 1; begun < strlen(reply); begun++) {
            for (size_t cut = 1; cut < CONTENT; cut++) {
                for (size_t end_cut = cut; end_cut <= ALL; end_cut++) {
                    session session;
                    begin(&session, CSMTP_PIPELINING, STRICT | PROVED, 0);
                    play(&session, "+1 +1 > M1 R1.1 DATA < 250 250 354");
                    write_bytes(&session, cut);
                    receive_bytes(&session, reply, begun);
                    CHECK(session.pipeline.fault == CSMTP_NO_FAULT && session.pipeline.count == 2);
                    CHECK(gather(&session, NULL) == ALL - cut);
                    write_bytes(&session, end_cut - cut);
                    receive_bytes(&session, reply + begun, strlen(reply) - begun);
                    check_text(&session, outcome(&session),
                               end_cut < CONTENT ? refusals[i].amidst : refusals[i].behind);
                    end(&session);
                }
            }
        }
    }
}

/* As much as fits, from everywhere in what is to be written. */
static void test_gather(void)
{
    enum { ALL = 99, CHUNKS = 16 };
    for (size_t cut = 0; cut <= ALL; cut++) {
        session session;
        begin(&session, CSMTP_CHUNKING, STRICT | PROVED, 0);
        play(&session, "+1 +2 +1");
        uint8_t all[TEXT], rest[TEXT];
        CHECK(gather(&session, all) == ALL);
        csmtp_pipeline_wrote(&session.pipeline, cut);
        CHECK(gather(&session, rest) == ALL - cut && memcmp(rest, all + cut, ALL - cut) == 0);
        csmtp_chunk chunks[CHUNKS];
        for (size_t max_chunks = 0; max_chunks <= CHUNKS; max_chunks++) {
            for (size_t max_bytes = 0; max_bytes <= ALL + 1; max_bytes++) {
                size_t count = 0, filled = csmtp_pipeline_gather(&session.pipeline, chunks,
                                                                 max_chunks, max_bytes);
                CHECK(filled <= max_chunks);
                for (size_t i = 0; i < filled; count += chunks[i++].count)
                    CHECK(memcmp(chunks[i].bytes, rest + count, chunks[i].count) == 0);
                CHECK(count == max_bytes || filled == max_chunks || count == ALL - cut);
                CHECK(count <= max_bytes);
            }
        }
        end(&session);
    }
}

/* A reply that is not SMTP, which the caller has read and books. */
static void test_reply_without_code(void)
{
    static const scene scenes[] = {
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < -1", "1=lost fault=no-smtp:-01#1"},
        {CSMTP_SEQUENTIAL, 0, "+1 +1 > M1 < -1 > M2", "1=mail:-01#1"},
        {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < -1 >", "1=rcpt 1.1=rcpt:-01#2"},
        {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < -1 >", "1=data:-01#3"},
        {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 > ^ > T1 . < -1 >",
         "1=content:-01#4"},
        {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 ^ *2 < -1 >",
         "1=lost fault=surplus:-01#4"},
    };
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        session session;
        begin(&session, scenes[i].mode, scenes[i].flags, BOOK);
        play(&session, scenes[i].script);
        check_text(&session, outcome(&session), scenes[i].outcome);
        end(&session);
    }
}

/* A reply that can't be read stays where it is, and those before it are booked. */
static void test_unreadable(void)
{
    static const char bytes[] = "250 #1\r\n25x\r\n503 #3\r\n";
    session session;
    begin(&session, CSMTP_PIPELINING, 0, 0);
    play(&session, "+1 > M1 R1.1 DATA");
    uint8_t *room = csmtp_receive_reserve(&session.receive, sizeof bytes);
    memcpy(room, bytes, sizeof bytes - 1);
    session.receive.end += sizeof bytes - 1;
    CHECK(csmtp_pipeline_receive(&session.pipeline) == CSMTP_REPLY_BAD_CODE);
    CHECK(session.pipeline.unreadable == CSMTP_REPLY_BAD_CODE);
    CHECK(session.pipeline.booked == 1 && session.receive.scan.line == 5);
    csmtp_pipeline_book(&session.pipeline, -1, (const uint8_t *)"#x", 2);
    csmtp_receive_drop(&session.receive, session.receive.scan.line);
    CHECK(csmtp_pipeline_receive(&session.pipeline) == CSMTP_REPLY_MORE);
    CHECK(session.pipeline.unreadable == CSMTP_REPLY_MORE && session.pipeline.booked == 3);
    check_text(&session, outcome(&session), "1=rcpt 1.1=rcpt:-01#x");
    end(&session);
}

/* The first bytes of a reply that answers nothing. */
static void test_begun_reply(void)
{
    static const struct {
        csmtp_mode mode;
        unsigned flags;
        const char *script, *bytes, *outcome;
    } scenes[] = {
        {CSMTP_SEQUENTIAL, STRICT, "", "2", "fault=surplus2"},
        {CSMTP_SEQUENTIAL, STRICT, "+1", "250 ok\r", "1=lost fault=surplus250 ok\r"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1", "250 ok\r\n25", "1=lost fault=surplus25"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1", "25", ""},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 *5", "250",
         "1=doubt fault=surplus250"},
        {CSMTP_SEQUENTIAL, 0, "+1", "2", ""},
        {CSMTP_SEQUENTIAL, 0, "+1", "421 #", ""},
        {CSMTP_SEQUENTIAL, 0, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 >", "2", ""},

        /* The beginning of 421 is taken for it. */
        {CSMTP_SEQUENTIAL, STRICT, "", "4", "fault=closed:421"},
        {CSMTP_SEQUENTIAL, STRICT, "", "42", "fault=closed:421"},
        {CSMTP_SEQUENTIAL, STRICT, "", "421", "fault=closed:421"},
        {CSMTP_SEQUENTIAL, STRICT, "", "421 ", "fault=closed:421"},
        {CSMTP_SEQUENTIAL, STRICT, "", "421 #1", "fault=closed:421#1"},
        {CSMTP_SEQUENTIAL, STRICT, "+1", "421 #1\r", "1=lost fault=closed:421#1\r"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 *3", "421 #1", "1=lost fault=closed:421#1"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 +1 > M1", "550 #1\r\n421 #2",
         "1=mail:550#1 2=lost fault=closed:421#2"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1", "42", ""},
        {CSMTP_SEQUENTIAL, STRICT, "", "5", "fault=surplus5"},
        {CSMTP_SEQUENTIAL, STRICT, "", "45", "fault=surplus45"},
        {CSMTP_SEQUENTIAL, STRICT, "", "422", "fault=surplus422"},
        {CSMTP_SEQUENTIAL, STRICT, "", "421\r", "fault=closed:421"},
        {CSMTP_SEQUENTIAL, STRICT, "", "421-#1", "fault=closed:421#1"},

        /* While content is being sent, only a refusal may begin. */
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 *2", "421 #4", ""},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 *5", "5", ""},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 *1", "4", ""},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354", "4",
         "1=lost fault=closed:421"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354", "5",
         "1=lost fault=surplus5"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 *2", "3",
         "1=lost fault=surplus3"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 *2", "6",
         "1=lost fault=surplus6"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1 < 250 > R1.1 < 250 > DATA < 354 *2", " 554",
         "1=lost fault=surplus 554"},
        {CSMTP_CHUNKING, STRICT | PROVED, "+1 *24 < 250 250", "5", ""},
        {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 *27 < 250 250", "2", ""},
        {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 *27 < 250 250 250", "5",
         "1=content:250#3 2=lost fault=surplus5"},
        {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 *32 < 250 250 250", "42",
         "1=content:250#3 2=lost fault=closed:421"},
        {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 *33 < 250 250 250", "42", "1=content:250#3"},
        {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 550 354 *1", "5",
         "1=rcpt 1.1=rcpt:550#2 fault=surplus5"},
        {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 550 354 *1", "4",
         "1=rcpt 1.1=rcpt:550#2 fault=closed:421"},
    };
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        session session;
        begin(&session, scenes[i].mode, scenes[i].flags, 0);
        play(&session, scenes[i].script);
        receive_bytes(&session, scenes[i].bytes, strlen(scenes[i].bytes));
        check_text(&session, outcome(&session), scenes[i].outcome);
        end(&session);
    }
}

/* The replies of a long stream: to RSET, MAIL, three RCPT and BDAT, from MAIL of the first on. */
enum { REPLIES = 6, STREAMED = 2000, IN_FLIGHT = 4 };

static bool is_refused(size_t reply)
{
    return (reply * 2654435761u >> 7) % 2 && reply % REPLIES >= 2 && reply % REPLIES <= 4;
}

/* Makes the text of a reply, sometimes empty; returns its length. */
static size_t reply_text(size_t reply, char text[200])
{
    size_t count = reply * 7919 % 5 == 0 ? 0 : reply * 7919 % 200;
    memset(text, 'a' + (int)(reply % 26), count);
    return count;
}

static bool is_kept(const session *session, const csmtp_stored_reply *kept, size_t reply)
{
    char text[200];
    size_t count = reply_text(reply, text);
    return kept->code == (is_refused(reply) ? 550 : 250) &&
           same(session->pipeline.texts + kept->text, kept->text_count, (uint8_t *)text, count);
}

static void check_streamed(session *session)
{
    const csmtp_message *message = csmtp_pipeline_completed(&session->pipeline);
    size_t refused = 0, first = REPLIES * session->completed++ + 2;
    for (size_t i = 0; i < 3; i++) {
        CHECK((message->recipients[i].stage == CSMTP_RCPT) == is_refused(first + i));
        if (!is_refused(first + i))
            continue;
        refused++;
        CHECK(is_kept(session, &message->recipients[i].reply, first + i));
    }
    CHECK(message->own_replies == refused);
    CHECK(message->stage == (refused < 3 ? CSMTP_CONTENT : CSMTP_RCPT));
    if (refused < 3)
        CHECK(is_kept(session, &message->reply, first + 3));
    csmtp_pipeline_drop(&session->pipeline, release);
}

/* Texts stay valid while those before them are dropped and replies to the next message are there.
 * */
static void test_long_stream(unsigned seldom)
{
    session session;
    begin(&session, CSMTP_CHUNKING, STRICT | PROVED, 0);
    uint64_t random = 2920;
    size_t reply = 1;
    while (session.completed < STREAMED) {
        while (session.pushed < STREAMED && session.pipeline.count < IN_FLIGHT)
            CHECK(push(&session, 3, false));
        csmtp_pipeline_wrote(&session.pipeline, gather(&session, NULL));
        size_t more = 1 + next_random(&random) % (2 * REPLIES);
        for (; more > 0 && reply < REPLIES * session.pushed; more--, reply++) {
            char text[200];
            size_t count = reply_text(reply, text);
            csmtp_pipeline_book(&session.pipeline, is_refused(reply) ? 550 : 250, (uint8_t *)text,
                                count);
        }
        CHECK(session.pipeline.fault == CSMTP_NO_FAULT);
        if (reply < REPLIES * STREAMED && next_random(&random) % seldom > 0)
            continue;
        while (csmtp_pipeline_completed(&session.pipeline))
            check_streamed(&session);
    }
    /* Room for what is waiting, not for everything so far. */
    CHECK(seldom > 1 || session.pipeline.text_room < 20 * 200 + 2000);
    CHECK(session.pipeline.expected.room <= 128 && session.pipeline.chunks.room <= 128);
    CHECK(csmtp_pipeline_want(&session.pipeline) == 0 && session.pipeline.byte_count == 0);
    end(&session);
}

static void test_many_recipients(csmtp_mode mode)
{
    enum { RECIPIENTS = 10000 };
    session session;
    begin(&session, mode, STRICT | PROVED, 0);
    for (size_t round = 0; round < 2; round++) {
        CHECK(push(&session, RECIPIENTS, false));
        csmtp_pipeline_wrote(&session.pipeline, gather(&session, NULL));
        if (mode == CSMTP_CHUNKING && round > 0)
            csmtp_pipeline_book(&session.pipeline, 250, NULL, 0);
        csmtp_pipeline_book(&session.pipeline, 250, NULL, 0);
        for (size_t i = 0; i < RECIPIENTS; i++) {
            int code = i % 3 == round ? 550 : 250;
            csmtp_pipeline_book(&session.pipeline, code, (const uint8_t *)&i, sizeof i);
        }
        if (mode == CSMTP_PIPELINING)
            csmtp_pipeline_book(&session.pipeline, 354, NULL, 0);
        csmtp_pipeline_wrote(&session.pipeline, gather(&session, NULL));
        csmtp_pipeline_book(&session.pipeline, 250, (const uint8_t *)"ok", 2);

        const csmtp_message *message = csmtp_pipeline_completed(&session.pipeline);
        CHECK(message && message->stage == CSMTP_CONTENT && message->reply.text_count == 2);
        for (size_t i = 0; i < RECIPIENTS; i++) {
            const csmtp_recipient *recipient = &message->recipients[i];
            bool refused = i % 3 == round;
            CHECK(recipient->accepted == !refused);
            CHECK(recipient->stage == (refused ? CSMTP_RCPT : CSMTP_LOST));
            if (refused)
                CHECK(same(session.pipeline.texts + recipient->reply.text,
                           recipient->reply.text_count, (const uint8_t *)&i, sizeof i));
        }
        csmtp_pipeline_drop(&session.pipeline, release);
    }
    end(&session);
}

/* A push that fails changes nothing, wherever it fails. */
static void test_push_without_memory(void)
{
    for (size_t before = 0; before < 4; before++) {
        session session;
        begin(&session, CSMTP_CHUNKING, STRICT | PROVED, 0);
        for (size_t i = 0; i < before; i++)
            CHECK(push(&session, 2, false));
        bool is_pushed = false;
        for (size_t allowed = 0; !is_pushed; allowed++) {
            size_t count = session.pipeline.count, byte_count = session.pipeline.byte_count;
            size_t wanted = gather(&session, NULL);
            unsigned want = csmtp_pipeline_want(&session.pipeline);
            allocations_left = allowed;
            is_pushed = push(&session, 40, false);
            allocations_left = SIZE_MAX;
            CHECK(is_pushed || (session.pipeline.count == count &&
                                session.pipeline.byte_count == byte_count &&
                                csmtp_pipeline_want(&session.pipeline) == want &&
                                gather(&session, NULL) == wanted));
            CHECK(allowed < 4);
        }
        play(&session, "* !");
        end(&session);
    }
}

/* A reply that can't be stored ends the connection, and answers nothing. */
static void test_reply_without_memory(void)
{
    static const struct {
        csmtp_mode mode;
        unsigned flags;
        const char *script, *reply, *outcome;
    } scenes[] = {
        {CSMTP_SEQUENTIAL, STRICT, "+1 +1 > M1", "< 550", "1=lost 2=lost fault=no-memory"},
        {CSMTP_PIPELINING, STRICT, "+2 > M1 R1.1 R1.2 DATA", "< 250 550",
         "1=lost fault=no-memory"},
        {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 250", "< 451 250",
         "1=lost fault=no-memory"},
        {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 250 354 > T1 .", "< 250",
         "1=doubt fault=no-memory"},
        {CSMTP_PIPELINING, STRICT, "+1 > M1 R1.1 DATA < 250 250 354 *2", "< 554",
         "1=lost fault=no-memory"},
        {CSMTP_PIPELINING, STRICT | LMTP, "+2 > M1 R1.1 R1.2 DATA < 250 250 250 354 > T1 .",
         "< 250", "1=doubt fault=no-memory"},
        {CSMTP_CHUNKING, STRICT, "+1 > M1 R1.1 < 250 250 > BDAT_4_LAST T1", "< 500",
         "1=doubt fault=no-memory"},
        {CSMTP_CHUNKING, STRICT | PROVED, "+1 +1 *27 < 250 250", "< 554",
         "1=doubt 2=lost fault=no-memory"},
        {CSMTP_SEQUENTIAL, STRICT, "+1 > M1", "< 421", "1=lost fault=no-memory"},
        {CSMTP_SEQUENTIAL, STRICT, "", "< 250", "fault=no-memory"},
    };
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        session session;
        begin(&session, scenes[i].mode, scenes[i].flags, BOOK);
        play(&session, scenes[i].script);
        allocations_left = 0;
        play(&session, scenes[i].reply);
        allocations_left = SIZE_MAX;
        check_text(&session, outcome(&session), scenes[i].outcome);
        CHECK(push(&session, 1, false));
        end(&session);
    }
}

/* Messages pushed after a fault are completed at once, and leave nothing behind. */
static void test_pushes_after_a_fault(void)
{
    session session;
    begin(&session, CSMTP_PIPELINING, STRICT, 0);
    play(&session, "+1 !");
    size_t expected = session.pipeline.expected.room, chunks = session.pipeline.chunks.room;
    for (size_t i = 0; i < 1000; i++) {
        CHECK(push(&session, 1, false));
        const csmtp_message *message = csmtp_pipeline_completed(&session.pipeline);
        CHECK(message && message->stage == CSMTP_LOST && message->own_replies == 0);
        csmtp_pipeline_drop(&session.pipeline, release);
    }
    CHECK(csmtp_pipeline_want(&session.pipeline) == 0);
    CHECK(session.pipeline.expected.room == expected && session.pipeline.chunks.room == chunks);
    end(&session);
}

/* A content replaces the one that is held; nothing else changes. */
static void test_replace(void)
{
    static const uint8_t text[] = "other\r\n.\r\n";
    static const csmtp_chunk whole[] = {{text, 7}, {text + 7, 3}};
    session session;
    begin(&session, CSMTP_PIPELINING, WHOLE, 0);
    owned *owner = (owned *)exact_room(sizeof *owner), *former = owner;
    void *given = owner;
    memset(owner, 0, sizeof *owner);
    CHECK(!csmtp_pipeline_replace(&session.pipeline, &given, whole, 2, 7) && given == owner);
    play(&session, "+1 > M1 R1.1 DATA < 250 250");
    CHECK(!csmtp_pipeline_replace(&session.pipeline, &given, whole, 2, 7) && given == owner);
    play(&session, "< 354");
    CHECK(!csmtp_pipeline_replace(&session.pipeline, &given, whole, 5, 7) && given == owner);
    size_t reserved = session.pipeline.unsent_chunks;
    size_t chunks = session.pipeline.unsent->chunk_count;
    CHECK(csmtp_pipeline_replace(&session.pipeline, &given, whole, 2, 7));
    former = given;
    CHECK(former != owner && former->released == 0 && session.pipeline.byte_count == 10);
    CHECK(session.pipeline.unsent_chunks == reserved - chunks + 2);
    csmtp_pipeline_send_content(&session.pipeline);
    uint8_t bytes[TEXT];
    CHECK(same(bytes, gather(&session, bytes), text, 10));
    csmtp_pipeline_wrote(&session.pipeline, 8);
    CHECK(session.pipeline.unsent_chunks == 0);
    csmtp_pipeline_fail(&session.pipeline, CSMTP_UNREADABLE, true);
    CHECK(csmtp_pipeline_completed(&session.pipeline)->stage == CSMTP_IN_DOUBT);
    csmtp_pipeline_drop(&session.pipeline, release);
    CHECK(owner->released == 1 && session.pipeline.byte_count == 0);
    free(owner);
    release(former);
    end(&session);
}

int main(void)
{
    PLAY_ALL(sequential);
    PLAY_ALL(pipelined);
    PLAY_ALL(doubtful);
    PLAY_ALL(chunked);
    PLAY_ALL(held);
    PLAY_ALL(ends);
    PLAY_ALL(faults);
    test_free();
    test_every_cut();
    test_every_hand();
    test_reply_at_every_cut();
    test_refusal_begun_at_every_cut();
    test_gather();
    test_reply_without_code();
    test_unreadable();
    test_begun_reply();
    test_long_stream(1);
    test_long_stream(20);
    test_many_recipients(CSMTP_PIPELINING);
    test_many_recipients(CSMTP_CHUNKING);
    test_push_without_memory();
    test_reply_without_memory();
    test_pushes_after_a_fault();
    test_replace();
    return report_checks();
}
