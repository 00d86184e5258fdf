/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The recorded directory is kept as a small model of a journalling file system:
 *
 *     names, live     path -> inode, as the program sees it now
 *     names, durable  path -> inode, as of the last sync of the directory
 *     changes         the name operations since then, in order
 *     inode           its durable bytes (as of its last sync) and the writes and truncations since
 *
 * After a power loss the names are the durable ones with the first k changes applied, and each
 * inode is its durable bytes with each later write kept, dropped, or torn at a 512-byte boundary.
 */
#include "os/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/process.h"

int os_fault_active;

#define NAMES_MAX 256
#define FDS_MAX 1024
#define SECTOR 512

struct pending {
    bool truncate;
    uint64_t offset; /* of a truncation: the new size */
    size_t size;
    char *data;
};

struct inode {
    char *durable;
    size_t durable_size;
    struct pending *pending;
    size_t pending_count;
    struct inode *next; /* all inodes, to free them */
};

struct name {
    char path[256];
    struct inode *inode;
};

enum change_kind { CHANGE_LINK, CHANGE_UNLINK };

struct change {
    enum change_kind kind;
    bool with_next; /* the two halves of a rename belong together */
    struct name name;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool plan_set, recording, cut;
static struct os_fault_plan plan;
static uint64_t calls[OS_OP_COUNT + 1];
static enum os_op held;
static int64_t held_us;
static char directory[256];
static struct name live[NAMES_MAX], durable[NAMES_MAX];
static size_t live_count, durable_count;
static struct change *changes;
static size_t change_count;
static struct inode *inodes;
static struct inode *by_fd[FDS_MAX];

static void update_active(void)
{
    __atomic_store_n(&os_fault_active, plan_set || recording || cut || held_us > 0,
                     __ATOMIC_RELAXED);
}

void os_fault_set(const struct os_fault_plan *p)
{
    pthread_mutex_lock(&lock);
    plan_set = p != NULL;
    if (p)
        plan = *p;
    memset(calls, 0, sizeof(calls));
    update_active();
    pthread_mutex_unlock(&lock);
}

void os_fault_hold(enum os_op op, int64_t us)
{
    pthread_mutex_lock(&lock);
    held = op;
    held_us = us;
    update_active();
    pthread_mutex_unlock(&lock);
}

uint64_t os_fault_calls(enum os_op op)
{
    pthread_mutex_lock(&lock);
    uint64_t n = calls[op];
    pthread_mutex_unlock(&lock);
    return n;
}

int os_fault_before(enum os_op op, size_t *allowed)
{
    pthread_mutex_lock(&lock);
    int64_t wait_us = op == held ? held_us : 0;
    pthread_mutex_unlock(&lock);
    if (wait_us > 0)
        os_sleep_us(wait_us);
    pthread_mutex_lock(&lock);
    int result = 0;
    bool changes_disk = op != OS_OP_READ && op != OS_OP_CLOSE;
    calls[op]++;
    if (changes_disk)
        calls[OS_OP_ANY]++;
    if (plan_set && (plan.op == op || (plan.op == OS_OP_ANY && changes_disk))) {
        uint64_t n = calls[plan.op];
        if (n == plan.nth || (plan.sticky && n > plan.nth)) {
            if (plan.cut_power) {
                cut = true;
            } else if (plan.garble) {
                result = op == OS_OP_WRITE ? OS_FAULT_GARBLE : 0;
            } else {
                result = plan.os_errno;
                if (plan.shorten && allowed)
                    *allowed /= 2;
            }
        }
    }
    if (cut && changes_disk)
        result = EIO; /* *allowed is as it was: nothing of the call is carried out */
    pthread_mutex_unlock(&lock);
    return result;
}

/* Names -------------------------------------------------------------------------------------- */

static bool in_directory(const char *path)
{
    size_t n = strlen(directory);
    return strncmp(path, directory, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

static struct name *find_name(struct name *names, size_t count, const char *path)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i].path, path) == 0)
            return &names[i];
    }
    return NULL;
}

static void set_name(struct name *names, size_t *count, const char *path, struct inode *inode)
{
    struct name *n = find_name(names, *count, path);
    if (!n) {
        if (*count == NAMES_MAX)
            return;
        n = &names[(*count)++];
        snprintf(n->path, sizeof(n->path), "%.255s", path);
    }
    n->inode = inode;
}

static void drop_name(struct name *names, size_t *count, const char *path)
{
    struct name *n = find_name(names, *count, path);
    if (n)
        *n = names[--*count];
}

static void add_change(enum change_kind kind, const char *path, struct inode *inode, bool with_next)
{
    changes = mem_realloc(changes, (change_count + 1) * sizeof(*changes));
    struct change *c = &changes[change_count++];
    c->kind = kind;
    c->with_next = with_next;
    snprintf(c->name.path, sizeof(c->name.path), "%s", path);
    c->name.inode = inode;
}

/* Inodes ------------------------------------------------------------------------------------- */

static struct inode *new_inode(void)
{
    struct inode *inode = mem_zalloc(sizeof(*inode));
    inode->next = inodes;
    inodes = inode;
    return inode;
}

static void drop_pending(struct inode *inode)
{
    for (size_t i = 0; i < inode->pending_count; i++)
        mem_free(inode->pending[i].data);
    mem_free(inode->pending);
    inode->pending = NULL;
    inode->pending_count = 0;
}

static void add_pending(struct inode *inode, bool truncate, uint64_t offset, const void *data,
                        size_t size)
{
    inode->pending =
        mem_realloc(inode->pending, (inode->pending_count + 1) * sizeof(*inode->pending));
    struct pending *p = &inode->pending[inode->pending_count++];
    *p = (struct pending){.truncate = truncate, .offset = offset, .size = size};
    if (size)
        p->data = mem_dup(data, size);
}

static void resize(char **bytes, size_t *size, size_t fresh)
{
    *bytes = mem_realloc(*bytes, fresh + 1);
    if (fresh > *size)
        memset(*bytes + *size, 0, fresh - *size);
    *size = fresh;
}

/* Apply [from, to) of one pending operation to an image. */
static void apply(char **bytes, size_t *size, const struct pending *p, size_t from, size_t to)
{
    if (p->truncate) {
        resize(bytes, size, (size_t)p->offset);
        return;
    }
    if (to <= from)
        return;
    if (p->offset + to > *size)
        resize(bytes, size, (size_t)p->offset + to);
    memcpy(*bytes + p->offset + from, p->data + from, to - from);
}

static struct inode *load_inode(const char *path)
{
    struct inode *inode = new_inode();
    FILE *f = fopen(path, "rb");
    if (!f)
        return inode;
    char block[4096];
    size_t n;
    while ((n = fread(block, 1, sizeof(block), f)) > 0) {
        size_t at = inode->durable_size;
        resize(&inode->durable, &inode->durable_size, at + n);
        memcpy(inode->durable + at, block, n);
    }
    fclose(f);
    return inode;
}

/* Recording ---------------------------------------------------------------------------------- */

static void forget(void)
{
    while (inodes) {
        struct inode *next = inodes->next;
        drop_pending(inodes);
        mem_free(inodes->durable);
        mem_free(inodes);
        inodes = next;
    }
    mem_free(changes);
    changes = NULL;
    change_count = live_count = durable_count = 0;
    memset(by_fd, 0, sizeof(by_fd));
    recording = cut = false;
    update_active();
}

void os_fault_forget(void)
{
    pthread_mutex_lock(&lock);
    forget();
    pthread_mutex_unlock(&lock);
}

void os_fault_record(const char *path)
{
    pthread_mutex_lock(&lock);
    forget();
    snprintf(directory, sizeof(directory), "%s", path);
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        char file[512];
        struct stat st;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        if (stat(file, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        struct inode *inode = load_inode(file);
        set_name(live, &live_count, file, inode);
        set_name(durable, &durable_count, file, inode);
    }
    if (dir)
        closedir(dir);
    recording = true;
    update_active();
    pthread_mutex_unlock(&lock);
}

void os_fault_cut(void)
{
    pthread_mutex_lock(&lock);
    cut = true;
    update_active();
    pthread_mutex_unlock(&lock);
}

bool os_fault_is_cut(void)
{
    pthread_mutex_lock(&lock);
    bool is = cut;
    pthread_mutex_unlock(&lock);
    return is;
}

void os_fault_note_open(int fd, const char *path, bool created, bool truncated)
{
    pthread_mutex_lock(&lock);
    if (recording && in_directory(path) && fd < FDS_MAX) {
        struct name *n = find_name(live, live_count, path);
        struct inode *inode;
        if (created || !n) {
            inode = new_inode();
            set_name(live, &live_count, path, inode);
            add_change(CHANGE_LINK, path, inode, false);
        } else {
            inode = n->inode;
            if (truncated)
                add_pending(inode, true, 0, NULL, 0);
        }
        by_fd[fd] = inode;
    }
    pthread_mutex_unlock(&lock);
}

static struct inode *inode_of(int fd)
{
    return recording && fd >= 0 && fd < FDS_MAX ? by_fd[fd] : NULL;
}

void os_fault_note_write(int fd, uint64_t offset, const void *data, size_t size)
{
    pthread_mutex_lock(&lock);
    struct inode *inode = inode_of(fd);
    if (inode)
        add_pending(inode, false, offset, data, size);
    pthread_mutex_unlock(&lock);
}

void os_fault_note_truncate(int fd, uint64_t size)
{
    pthread_mutex_lock(&lock);
    struct inode *inode = inode_of(fd);
    if (inode)
        add_pending(inode, true, size, NULL, 0);
    pthread_mutex_unlock(&lock);
}

void os_fault_note_sync(int fd)
{
    pthread_mutex_lock(&lock);
    struct inode *inode = inode_of(fd);
    if (inode) {
        for (size_t i = 0; i < inode->pending_count; i++) {
            const struct pending *p = &inode->pending[i];
            apply(&inode->durable, &inode->durable_size, p, 0, p->size);
        }
        drop_pending(inode);
    }
    pthread_mutex_unlock(&lock);
}

void os_fault_note_close(int fd)
{
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FDS_MAX)
        by_fd[fd] = NULL;
    pthread_mutex_unlock(&lock);
}

void os_fault_note_rename(const char *from, const char *to)
{
    pthread_mutex_lock(&lock);
    struct name *n = recording ? find_name(live, live_count, from) : NULL;
    if (n) {
        struct inode *inode = n->inode;
        drop_name(live, &live_count, from);
        set_name(live, &live_count, to, inode);
        add_change(CHANGE_UNLINK, from, NULL, true);
        add_change(CHANGE_LINK, to, inode, false);
    }
    pthread_mutex_unlock(&lock);
}

void os_fault_note_unlink(const char *path)
{
    pthread_mutex_lock(&lock);
    if (recording && find_name(live, live_count, path)) {
        drop_name(live, &live_count, path);
        add_change(CHANGE_UNLINK, path, NULL, false);
    }
    pthread_mutex_unlock(&lock);
}

static void apply_changes(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct change *c = &changes[i];
        if (c->kind == CHANGE_LINK)
            set_name(durable, &durable_count, c->name.path, c->name.inode);
        else
            drop_name(durable, &durable_count, c->name.path);
    }
}

void os_fault_note_dir_sync(const char *path)
{
    pthread_mutex_lock(&lock);
    if (recording && strcmp(path, directory) == 0) {
        apply_changes(change_count);
        change_count = 0;
    }
    pthread_mutex_unlock(&lock);
}

/* Loss --------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
    /* SplitMix64 (Steele, Lea, Flood 2014). */
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static void write_file(const char *path, struct inode *inode, uint64_t *random)
{
    char *bytes = NULL;
    size_t size = 0;
    resize(&bytes, &size, inode->durable_size);
    if (size)
        memcpy(bytes, inode->durable, size);
    for (size_t i = 0; i < inode->pending_count; i++) {
        const struct pending *p = &inode->pending[i];
        uint64_t fate = next_random(random) % 4;
        if (fate == 0)
            continue;
        size_t from = 0, to = p->size;
        if (fate == 1 && !p->truncate) {
            /* Torn: whole sectors of the file from one end or the other are there. */
            uint64_t at = p->offset + next_random(random) % (p->size + 1);
            at -= at % SECTOR;
            size_t keep = at > p->offset ? (size_t)(at - p->offset) : 0;
            if (next_random(random) & 1)
                to = keep;
            else
                from = keep;
        }
        apply(&bytes, &size, p, from, to);
    }
    FILE *f = fopen(path, "wb");
    if (f) {
        fwrite(bytes, 1, size, f);
        fclose(f);
    }
    mem_free(bytes);
}

void os_fault_power_loss(uint64_t seed)
{
    pthread_mutex_lock(&lock);
    uint64_t random = seed;
    size_t keep = (size_t)(next_random(&random) % (change_count + 1));
    while (keep > 0 && keep < change_count && changes[keep - 1].with_next)
        keep++;
    apply_changes(keep);
    for (size_t i = 0; i < live_count; i++)
        unlink(live[i].path);
    for (size_t i = 0; i < durable_count; i++)
        write_file(durable[i].path, durable[i].inode, &random);
    forget();
    plan_set = false;
    update_active();
    pthread_mutex_unlock(&lock);
}
