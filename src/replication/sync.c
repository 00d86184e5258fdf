/* SPDX-License-Identifier: BSD-3-Clause */
#include "replication/sync.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "os/file.h"
#include "os/socket.h"
#include "os/thread.h"
#include "persist/load_stream.h"
#include "persist/log/history.h"
#include "persist/rdb/record.h"

#define MARK_SIZE 40
#define PIECE (256 * 1024)
/* While the connection is made nothing can end the wait. */
#define CONNECT_MS_MOST 5000
/* A primary keeps a waiting replica's line alive with empty lines; this many are no keeping
 * alive. */
#define EMPTY_LINES_MOST 100000

struct sync {
    struct sync_options options;
    struct sync_result result;
    struct peer *peer;
    struct os_file file;
    bool file_made;
    bool loads;        /* does not change */
    bool same_history; /* does not change any more when the transfer has begun */
    pthread_t thread;
    pthread_mutex_t lock; /* of fd and cancelled */
    int fd;               /* -1: there is none to be shut down */
    bool cancelled;
    /* Atomic. */
    enum sync_stage stage;
    uint64_t read, total;
    int64_t last_io_us;
};

static void set_stage(struct sync *y, enum sync_stage stage)
{
    __atomic_store_n(&y->stage, stage, __ATOMIC_RELEASE);
}

static void note_io(struct sync *y)
{
    __atomic_store_n(&y->last_io_us, clock_monotonic_us(), __ATOMIC_RELAXED);
}

static bool is_cancelled(struct sync *y)
{
    pthread_mutex_lock(&y->lock);
    bool cancelled = y->cancelled;
    pthread_mutex_unlock(&y->lock);
    return cancelled;
}

static bool failed(struct sync *y, const char *what)
{
    return error_set(&y->result.error, ERROR_SYSTEM, "%s: %s", what, peer_why(y->peer));
}

/* What the other side says may hold anything: only what can be shown is shown. */
static void show(struct slice line, char out[128])
{
    size_t n = line.size < 127 ? line.size : 127;
    for (size_t i = 0; i < n; i++)
        out[i] = isprint((unsigned char)line.data[i]) ? line.data[i] : '?';
    out[n] = '\0';
}

static bool unexpected(struct sync *y, const char *what, struct slice line)
{
    char text[128];
    show(line, text);
    return error_set(&y->result.error, ERROR_INVALID, "%s was answered by '%s'", what, text);
}

/* ---- the handshake ---- */

static bool publish_fd(struct sync *y, int fd)
{
    pthread_mutex_lock(&y->lock);
    y->fd = fd;
    bool cancelled = y->cancelled;
    pthread_mutex_unlock(&y->lock);
    if (!cancelled)
        return true;
    return error_set(&y->result.error, ERROR_CANCELLED, "it was given up");
}

static bool connect_it(struct sync *y)
{
    const struct sync_options *o = &y->options;
    int timeout = o->timeout_ms < CONNECT_MS_MOST ? o->timeout_ms : CONNECT_MS_MOST;
    char why[TLS_ERROR_SIZE];
    y->peer = peer_connect(o->host, o->port, o->source, o->tls, timeout, why);
    if (y->peer == NULL)
        return error_set(&y->result.error, ERROR_SYSTEM, "connecting: %.400s", why);
    peer_set_timeout(y->peer, o->timeout_ms);
    return publish_fd(y, peer_fd(y->peer));
}

/* The next line that is not empty. */
static bool read_line(struct sync *y, const char *what, struct slice *line)
{
    for (int i = 0; i < EMPTY_LINES_MOST; i++) {
        if (!peer_read_line(y->peer, line))
            return failed(y, what);
        note_io(y);
        if (line->size != 0)
            return true;
    }
    return error_set(&y->result.error, ERROR_INVALID, "%s was answered by empty lines", what);
}

static bool ask(struct sync *y, const char *what, const struct slice *argv, int argc,
                struct slice *line)
{
    if (!peer_send(y->peer, argv, argc))
        return failed(y, what);
    return read_line(y, what, line);
}

static bool begins_with(struct slice line, const char *text)
{
    size_t n = strlen(text);
    return line.size >= n && memcmp(line.data, text, n) == 0;
}

static bool say_ping(struct sync *y)
{
    struct slice line, argv[] = {SLICE("PING")};
    if (!ask(y, "PING", argv, 1, &line))
        return false;
    /* It answers, if only to say that it wants to know more. */
    return begins_with(line, "+") || begins_with(line, "-NOAUTH") ||
           begins_with(line, "-NOPERM") || begins_with(line, "-ERR operation not permitted") ||
           unexpected(y, "PING", line);
}

static bool say_auth(struct sync *y)
{
    const struct sync_options *o = &y->options;
    struct slice line, argv[3];
    int argc = peer_auth_arguments(o->user, o->password, argv);
    if (argc == 0)
        return true;
    if (!ask(y, "AUTH", argv, argc, &line))
        return false;
    return begins_with(line, "+") || unexpected(y, "AUTH (masterauth)", line);
}

/* What it does not know it refuses, which does no harm. */
static bool say_replconf(struct sync *y, const struct slice *more, int count)
{
    struct slice line, argv[1 + 2 * LINEAGE_MOST] = {SLICE("REPLCONF")};
    memcpy(argv + 1, more, (size_t)count * sizeof(*more));
    if (!ask(y, "REPLCONF", argv, count + 1, &line))
        return false;
    if (begins_with(line, "-NOAUTH"))
        return unexpected(y, "REPLCONF", line);
    return begins_with(line, "+") || begins_with(line, "-") || unexpected(y, "REPLCONF", line);
}

/* "+EPOCH <epoch> <lsn>": in which it was elected, and where that begins. */
static bool join_quorum(struct sync *y)
{
    const struct sync_options *o = &y->options;
    struct sync_result *r = &y->result;
    char promised[NUMBER_INT64_SIZE];
    int64_t epoch, lsn;
    struct slice line, argv[] = {
        SLICE("REPLCONF"), SLICE("quorum-node"), slice_cstr(o->node), SLICE("quorum-promised"),
        slice_of(promised, number_format_int64(promised, (int64_t)o->promised))};
    if (o->node[0] == '\0' || o->failover)
        return true;
    if (!ask(y, "REPLCONF", argv, 5, &line))
        return false;
    const char *blank = line.size > 7 ? memchr(line.data + 7, ' ', line.size - 7) : NULL;
    if (!begins_with(line, "+EPOCH ") || blank == NULL ||
        !number_parse_int64(slice_of(line.data + 7, (size_t)(blank - line.data) - 7), &epoch) ||
        !number_parse_int64(slice_of(blank + 1, (size_t)(line.data + line.size - blank) - 1), &lsn))
        return unexpected(y, "REPLCONF quorum-node", line);
    y->result.unelected = epoch <= 0;
    if (epoch <= 0 || (uint64_t)epoch < o->promised)
        return error_set(
            &y->result.error, ERROR_INVALID,
            "it has not been elected by a majority of quorum-nodes, or in an older epoch");
    r->epoch = (uint64_t)epoch;
    r->epoch_lsn = (uint64_t)lsn;
    return true;
}

/* `past` is Holdfast's: if the history that is asked for is not known to the primary, one before it
 * may be. */
static bool say_pasts(struct sync *y)
{
    const struct lineage *l = &y->options.pasts;
    char texts[LINEAGE_MOST][LINEAGE_TEXT];
    struct slice words[2 * LINEAGE_MOST];
    for (int i = 0; i < l->count; i++) {
        lineage_format(&l->pasts[i], texts[i]);
        words[2 * i] = SLICE("past");
        words[2 * i + 1] = slice_cstr(texts[i]);
    }
    return l->count == 0 || y->options.given_up || say_replconf(y, words, 2 * l->count);
}

static bool introduce(struct sync *y)
{
    const struct sync_options *o = &y->options;
    char port[NUMBER_INT64_SIZE];
    struct slice listening[] = {SLICE("listening-port"),
                                slice_of(port, number_format_int64(port, o->listening_port))};
    struct slice ip[] = {SLICE("ip-address"), slice_cstr(o->announce_ip)};
    /* `regression` is Holdfast's: the primary says so when this side has seen more than it. */
    /* `diverged`: it says so when its history went another way. */
    struct slice capa[] = {SLICE("capa"),   SLICE("eof"),  SLICE("capa"),
                           SLICE("psync2"), SLICE("capa"), SLICE("diverged")};
    bool insists = !o->accept_regression && !o->given_up;
    struct slice regression[] = {SLICE("capa"), SLICE("regression")};
    /* `own`: it says so instead of sending everything that has nothing to do with what is here. */
    struct slice own[] = {SLICE("capa"), SLICE("own")};
    return say_replconf(y, listening, 2) && (o->announce_ip[0] == '\0' || say_replconf(y, ip, 2)) &&
           say_replconf(y, capa, o->given_up ? 4 : 6) &&
           (!insists || say_replconf(y, regression, 2)) && (!o->own || say_replconf(y, own, 2)) &&
           say_pasts(y) && join_quorum(y);
}

static bool take_id(struct slice *rest, char id[SYNC_ID_SIZE + 1])
{
    if (rest->size < SYNC_ID_SIZE)
        return false;
    for (size_t i = 0; i < SYNC_ID_SIZE; i++)
        if (!isxdigit((unsigned char)rest->data[i]))
            return false;
    memcpy(id, rest->data, SYNC_ID_SIZE);
    id[SYNC_ID_SIZE] = '\0';
    *rest = slice_of(rest->data + SYNC_ID_SIZE, rest->size - SYNC_ID_SIZE);
    return true;
}

static bool refuse(struct sync *y, const char *why)
{
    y->result.outcome = SYNC_REFUSED;
    return error_set(&y->result.error, ERROR_INVALID, "%s", why);
}

/* What is behind the position that was asked for is in a journal, and what the primary may know
 * nothing of in a file, before everything is taken. False: there is nothing of either. */
static bool keep_first(struct sync *y, bool unrelated)
{
    const struct sync_options *o = &y->options;
    struct sync_result *r = &y->result;
    bool more = o->has_history && o->end > o->lsn;
    if (!more && !unrelated)
        return false;
    r->unrelated = unrelated;
    r->lsn = more ? o->lsn : o->end;
    r->outcome = SYNC_DIVERGED;
    r->everything = true;
    return true;
}

static bool full(struct sync *y, struct slice line)
{
    const struct sync_options *o = &y->options;
    struct sync_result *r = &y->result;
    struct slice rest = slice_of(line.data + 12, line.size - 12);
    int64_t lsn;
    if (!take_id(&rest, r->history) || rest.size < 2 || rest.data[0] != ' ' ||
        !number_parse_int64(slice_of(rest.data + 1, rest.size - 1), &lsn) || lsn < 0)
        return unexpected(y, "PSYNC", line);
    r->lsn = (uint64_t)lsn;
    if (o->has_history && strcmp(r->history, o->history) == 0 && r->lsn < o->lsn &&
        !o->accept_regression)
        return refuse(y, "it is of the same history but has less of it than this replica");
    bool unrelated = o->own && !(o->has_history && strcmp(r->history, o->history) == 0);
    if (!keep_first(y, unrelated))
        r->outcome = SYNC_FULL;
    return true;
}

static bool continues(struct sync *y, struct slice line)
{
    struct sync_result *r = &y->result;
    struct slice rest = slice_of(line.data + 9, line.size - 9);
    if (!y->options.has_history)
        return unexpected(y, "PSYNC", line);
    memcpy(r->history, y->options.history, sizeof(r->history));
    if (rest.size != 0) {
        rest = slice_of(rest.data + 1, rest.size - 1);
        if (rest.data[-1] != ' ' || !take_id(&rest, r->history) || rest.size != 0)
            return unexpected(y, "PSYNC", line);
    }
    r->lsn = y->options.lsn;
    r->outcome = y->options.end > r->lsn ? SYNC_DIVERGED : SYNC_CONTINUES;
    return true;
}

/* "-DIVERGED <lsn>", of the history that was asked for, or "-DIVERGED <lsn> <id>", of one before
 * it. */
static bool diverged(struct sync *y, struct slice line)
{
    const struct sync_options *o = &y->options;
    struct sync_result *r = &y->result;
    struct slice rest = slice_of(line.data + 10, line.size - 10);
    const char *blank = memchr(rest.data, ' ', rest.size);
    uint64_t most = o->lsn;
    int64_t lsn;
    if (blank != NULL) {
        struct slice id = slice_of(blank + 1, (size_t)(rest.data + rest.size - blank) - 1);
        const struct lineage_past *past = lineage_find(&o->pasts, id);
        if (past == NULL)
            return unexpected(y, "PSYNC", line);
        memcpy(r->history, past->id, sizeof(r->history));
        rest.size = (size_t)(blank - rest.data);
        most = past->lsn + 1;
        r->past = true;
    }
    if (!o->has_history || !number_parse_int64(rest, &lsn) || lsn < 0 || (uint64_t)lsn >= most)
        return unexpected(y, "PSYNC", line);
    r->lsn = (uint64_t)lsn;
    r->outcome = SYNC_DIVERGED;
    return true;
}

static bool ask_for_stream(struct sync *y)
{
    const struct sync_options *o = &y->options;
    char lsn[NUMBER_INT64_SIZE];
    struct slice line, argv[] = {SLICE("PSYNC"), SLICE("?"), SLICE("-1"),
                                                  SLICE("FAILOVER")};
    if (o->has_history) {
        argv[1] = slice_cstr(o->history);
        argv[2] = slice_of(lsn, number_format_int64(lsn, (int64_t)o->lsn + 1));
    }
    y->result.failover_sent = o->failover;
    if (!ask(y, "PSYNC", argv, o->failover ? 4 : 3, &line))
        return false;
    if (begins_with(line, "+FULLRESYNC "))
        return full(y, line);
    if (begins_with(line, "+CONTINUE"))
        return continues(y, line);
    y->result.rejected = true;
    if (begins_with(line, "-DIVERGED "))
        return diverged(y, line);
    if (o->own && begins_with(line, "-UNRELATED "))
        return keep_first(y, true);
    if (begins_with(line, "-REGRESSION"))
        return refuse(y, "it has less of this history than this replica");
    return unexpected(y, "PSYNC", line);
}

/* ---- the transfer ---- */

static bool put(struct sync *y, const char *data, size_t size)
{
    __atomic_fetch_add(&y->read, size, __ATOMIC_RELAXED);
    note_io(y);
    return os_file_write(&y->file, data, size, &y->result.error);
}

static bool read_some(struct sync *y, char *data, size_t room, size_t *got)
{
    return peer_read_some(y->peer, data, room, got) || failed(y, "the transfer");
}

static bool take_sized(struct sync *y, uint64_t size, char *piece)
{
    __atomic_store_n(&y->total, size, __ATOMIC_RELAXED);
    while (size > 0) {
        size_t got;
        if (!read_some(y, piece, size < PIECE ? (size_t)size : PIECE, &got) || !put(y, piece, got))
            return false;
        size -= got;
    }
    return true;
}

/* Up to the mark. What stands behind it is the stream's. The last bytes are kept back, as they may
 * be the mark's first ones. */
static bool take_marked(struct sync *y, const char mark[MARK_SIZE], char *piece)
{
    size_t have = 0;
    for (;;) {
        size_t got;
        if (!read_some(y, piece + have, PIECE - have, &got))
            return false;
        have += got;
        const char *found = have >= MARK_SIZE ? memmem(piece, have, mark, MARK_SIZE) : NULL;
        if (found != NULL) {
            size_t before = (size_t)(found - piece), rest = have - before - MARK_SIZE;
            if (rest > sizeof(y->result.rest))
                return error_set(&y->result.error, ERROR_INVALID,
                                 "the stream began before the data was acknowledged");
            memcpy(y->result.rest, found + MARK_SIZE, rest);
            y->result.rest_size = rest;
            return put(y, piece, before);
        }
        size_t kept = have < MARK_SIZE - 1 ? have : MARK_SIZE - 1;
        if (!put(y, piece, have - kept))
            return false;
        memmove(piece, piece + have - kept, kept);
        have = kept;
    }
}

/* What is announced: so many bytes, or (size 0) all up to the mark. */
static bool read_announcement(struct sync *y, uint64_t *size, char mark[MARK_SIZE])
{
    struct slice line;
    int64_t number;
    if (!read_line(y, "PSYNC", &line))
        return false;
    *size = 0;
    if (begins_with(line, "$EOF:") && line.size == 5 + MARK_SIZE) {
        memcpy(mark, line.data + 5, MARK_SIZE);
        return true;
    }
    if (line.data[0] != '$' ||
        !number_parse_int64(slice_of(line.data + 1, line.size - 1), &number) || number <= 0)
        return unexpected(y, "PSYNC", line);
    *size = (uint64_t)number;
    return true;
}

static bool read_for_load(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct sync *y = ctx;
    if (!peer_read_some(y->peer, data, room, got))
        return error_set(err, ERROR_SYSTEM, "the transfer: %s", peer_why(y->peer));
    __atomic_fetch_add(&y->read, *got, __ATOMIC_RELAXED);
    note_io(y);
    return true;
}

static bool load_cancelled(void *ctx)
{
    return is_cancelled(ctx);
}

/* Behind the data, of which `rest` has been read, comes the mark, and behind that the stream. */
static bool take_mark(struct sync *y, const char mark[MARK_SIZE], const char *rest,
                      size_t rest_size)
{
    struct sync_result *result = &y->result;
    char found[MARK_SIZE];
    size_t have = rest_size < MARK_SIZE ? rest_size : MARK_SIZE;
    memcpy(found, rest, have);
    while (have < MARK_SIZE) {
        size_t got;
        if (!read_some(y, found + have, MARK_SIZE - have, &got))
            return false;
        have += got;
    }
    if (memcmp(found, mark, MARK_SIZE) != 0)
        return error_set(&result->error, ERROR_CORRUPT, "the data does not end with its mark");
    if (rest_size <= MARK_SIZE)
        return true;
    result->rest_size = rest_size - MARK_SIZE;
    if (result->rest_size > sizeof(result->rest))
        return error_set(&result->error, ERROR_INVALID,
                         "the stream began before the data was acknowledged");
    memcpy(result->rest, rest + MARK_SIZE, result->rest_size);
    return true;
}

static bool refuse_if_empty(struct sync *y)
{
    if (y->result.keys == 0 && y->options.has_data && !y->options.accept_regression)
        return refuse(y, "it has no data at all, and this replica has");
    return true;
}

/* Into the keyspace, as it comes. */
static bool transfer_and_load(struct sync *y)
{
    struct load_stream stream = {.read = read_for_load,
                                 .cancelled = load_cancelled,
                                 .ctx = y,
                                 .path = y->options.path};
    struct rdb_load_stats stats;
    struct error err;
    char mark[MARK_SIZE], *rest;
    size_t rest_size;
    if (!read_announcement(y, &stream.size, mark))
        return false;
    __atomic_store_n(&y->total, stream.size, __ATOMIC_RELAXED);
    y->same_history = strcmp(y->result.history, y->options.history) == 0;
    set_stage(y, SYNC_TRANSFER);
    y->options.wake(y->options.ctx);
    if (!load_stream(y->options.into, &stream, &y->options.load, &stats, &rest, &rest_size, &err)) {
        y->result.error = err;
        return error_prefix(&y->result.error, "the data that the primary sent");
    }
    y->result.keys = stats.keys;
    y->result.stream_db = stats.stream_db;
    bool ok = stream.size != 0 || take_mark(y, mark, rest, rest_size);
    mem_free(rest);
    return ok && refuse_if_empty(y);
}

static bool transfer(struct sync *y)
{
    char mark[MARK_SIZE];
    uint64_t size;
    struct error ignored;
    if (!read_announcement(y, &size, mark))
        return false;
    os_unlink(y->options.path, &ignored);
    if (!os_file_open(&y->file, y->options.path, OS_OPEN_CREATE_EXCLUSIVE, &y->result.error))
        return false;
    y->file_made = true;
    char *piece = mem_alloc(PIECE);
    set_stage(y, SYNC_TRANSFER);
    bool ok = size != 0 ? take_sized(y, size, piece) : take_marked(y, mark, piece);
    mem_free(piece);
    return ok;
}

/* ---- the proof ---- */

static bool fill_from_file(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct sync *y = ctx;
    if (is_cancelled(y))
        return error_set(err, ERROR_CANCELLED, "it was given up");
    return os_file_read(&y->file, data, room, got, err);
}

static void note_stream_db(struct sync *y, const struct rdb_record *record)
{
    int64_t db;
    if (slice_equal(record->key, SLICE("repl-stream-db")) &&
        number_parse_int64(record->value.bytes, &db) && db >= 0 && db < INT32_MAX)
        y->result.stream_db = (int)db;
}

static bool decode(struct sync *y, struct rdb_reader *r, struct rdb_loader *l)
{
    struct rdb_records records;
    struct rdb_record record;
    r->later = y->options.later_rdb;
    bool ok = rdb_records_begin(&records, r);
    while (ok && (ok = rdb_records_next(&records, &record)) && record.kind != RDB_RECORD_END) {
        if (record.kind == RDB_RECORD_AUX)
            note_stream_db(y, &record);
        if (record.kind != RDB_RECORD_KEY)
            continue;
        y->result.keys++;
        ok = rdb_check_value(r, record.type, l);
    }
    rdb_records_end(&records);
    if (ok && rdb_reader_left(r) > 0)
        ok = rdb_fail(r, ERROR_CORRUPT, "there is more behind the end");
    return ok;
}

static bool prove(struct sync *y)
{
    struct error *err = &y->result.error;
    struct error ignored;
    uint64_t size;
    set_stage(y, SYNC_VERIFYING);
    os_file_close(&y->file, &ignored);
    if (!os_file_open(&y->file, y->options.path, OS_OPEN_READ, err) ||
        !os_file_size(&y->file, &size, err))
        return false;
    struct epoch epoch;
    struct encoding_limits limits = {.list_max_listpack_size = -2};
    epoch_init(&epoch, false);
    struct rdb_loader *loader = rdb_loader_new(&epoch, &limits);
    struct rdb_reader reader;
    rdb_reader_init_stream(&reader, size, fill_from_file, y, err);
    bool ok = decode(y, &reader, loader);
    rdb_reader_deinit(&reader);
    rdb_loader_free(loader);
    epoch_deinit(&epoch);
    if (!ok)
        return error_prefix(err, "the data that the primary sent");
    return refuse_if_empty(y);
}

/* ---- what is given up ---- */

static bool add_to_journal(void *ctx, struct slice bytes, struct error *err)
{
    return history_journal_add(ctx, bytes, err);
}

static bool write_journal(struct sync *y)
{
    const struct sync_journal *o = &y->options.journal;
    struct error *err = &y->result.error;
    int64_t now_ms = clock_wall_ms();
    struct history_journal *j = history_journal_begin(o->path, o->history, o->from, now_ms, err);
    if (j == NULL)
        return error_prefix(err, "the divergence journal");
    bool ok = o->bytes != NULL
                  ? history_journal_add(j, slice_of(o->bytes, (size_t)(o->until - o->from)), err)
                  : history_read(o->log_directory, o->log_filename, o->from, o->until,
                                 add_to_journal, j, err);
    ok = history_journal_end(j, ok, now_ms, err);
    y->result.journal_written = ok;
    return ok || error_prefix(err, "the divergence journal");
}

static bool run(struct sync *y)
{
    if (y->options.journal.path[0] != '\0' && !write_journal(y))
        return false;
    if (y->options.journal_only) {
        y->result.outcome = SYNC_JOURNAL;
        return true;
    }
    set_stage(y, SYNC_CONNECTING);
    if (!connect_it(y))
        return false;
    set_stage(y, SYNC_HANDSHAKE);
    if (!say_ping(y) || !say_auth(y) || !introduce(y) || !ask_for_stream(y))
        return false;
    if (y->result.outcome != SYNC_FULL)
        return true;
    return y->options.into != NULL ? transfer_and_load(y) : transfer(y) && prove(y);
}

static void give_connection(struct sync *y)
{
    char rest[PEER_LINE_MAX];
    size_t size;
    y->result.fd = peer_take_fd(y->peer, &y->result.tls, rest, &size);
    y->peer = NULL;
    /* What the peer had buffered comes behind what stood after the mark; there is only one of them,
     * as the transfer reads the buffer empty before the socket. */
    if (size > sizeof(y->result.rest) - y->result.rest_size)
        size = sizeof(y->result.rest) - y->result.rest_size;
    memcpy(y->result.rest + y->result.rest_size, rest, size);
    y->result.rest_size += size;
}

static void sync_main(void *arg)
{
    struct sync *y = arg;
    struct error ignored;
    bool ok = run(y);
    if (!ok && y->result.outcome != SYNC_REFUSED)
        y->result.outcome = SYNC_FAILED;
    pthread_mutex_lock(&y->lock);
    y->fd = -1;
    pthread_mutex_unlock(&y->lock);
    if (y->file_made) {
        os_file_close(&y->file, &ignored);
        if (!ok)
            os_unlink(y->options.path, &ignored);
    }
    if (ok && y->result.outcome == SYNC_FULL)
        y->result.loaded = y->options.into;
    else if (y->options.into != NULL)
        keyspace_free(y->options.into);
    y->options.into = NULL;
    if (ok && (y->result.outcome == SYNC_CONTINUES || y->result.outcome == SYNC_FULL))
        give_connection(y);
    else if (y->peer != NULL)
        peer_close(y->peer);
    set_stage(y, SYNC_ENDED);
    y->options.wake(y->options.ctx);
}

/* ---- the executor's ---- */

struct sync *sync_start(const struct sync_options *options, struct error *err)
{
    struct sync *y = mem_zalloc(sizeof(*y));
    y->options = *options;
    y->loads = options->into != NULL;
    y->result.fd = -1;
    y->result.stream_db = -1;
    y->file = (struct os_file)OS_FILE_CLOSED;
    y->fd = -1;
    note_io(y);
    pthread_mutex_init(&y->lock, NULL);
    if (!os_thread_start(&y->thread, "hf-sync", sync_main, y, err)) {
        pthread_mutex_destroy(&y->lock);
        tls_context_free(y->options.tls);
        mem_free(y->options.journal.bytes);
        if (y->options.into != NULL)
            keyspace_free(y->options.into);
        mem_free(y);
        return NULL;
    }
    return y;
}

void sync_cancel(struct sync *y)
{
    pthread_mutex_lock(&y->lock);
    y->cancelled = true;
    if (y->fd >= 0)
        socket_shut_down(y->fd);
    pthread_mutex_unlock(&y->lock);
}

bool sync_ended(const struct sync *y)
{
    return __atomic_load_n(&y->stage, __ATOMIC_ACQUIRE) == SYNC_ENDED;
}

void sync_progress(const struct sync *y, struct sync_progress *p)
{
    enum sync_stage stage = __atomic_load_n(&y->stage, __ATOMIC_ACQUIRE);
    *p = (struct sync_progress){.stage = stage,
                                .read = __atomic_load_n(&y->read, __ATOMIC_RELAXED),
                                .total = __atomic_load_n(&y->total, __ATOMIC_RELAXED),
                                .loads = y->loads,
                                .same_history = stage >= SYNC_TRANSFER && y->same_history,
                                .last_io_us = __atomic_load_n(&y->last_io_us, __ATOMIC_RELAXED)};
}

void sync_finish(struct sync *y, struct sync_result *result)
{
    pthread_join(y->thread, NULL);
    *result = y->result;
    tls_context_free(y->options.tls);
    mem_free(y->options.journal.bytes);
    pthread_mutex_destroy(&y->lock);
    mem_free(y);
}

void sync_drop_connection(struct sync_result *result)
{
    tls_free(result->tls);
    if (result->fd >= 0)
        socket_close(result->fd);
    result->tls = NULL;
    result->fd = -1;
}
