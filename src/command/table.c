/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/table.h"

#include <endian.h>

#include "base/mem.h"
#include "base/number.h"
#include "command/docs.h"
#include "command/table_data.h"

static const char *const flag_names[] = {
    "write",    "readonly",     "denyoom",           "admin",
    "pubsub",   "noscript",     "blocking",          "loading",
    "stale",    "skip_monitor", "skip_slowlog",      "asking",
    "fast",     "no_auth",      "no_mandatory_keys", "no_async_loading",
    "no_multi", "movablekeys",  "allow_busy",
};
static const char *const acl_names[] = {
    "keyspace", "read",   "write",       "set",       "sortedset",  "list",        "hash",
    "string",   "bitmap", "hyperloglog", "geo",       "stream",     "pubsub",      "admin",
    "fast",     "slow",   "blocking",    "dangerous", "connection", "transaction", "scripting",
};
static const char *const key_flag_names[] = {
    "RO",     "RW",     "OW",      "RM",         "access",         "update",
    "insert", "delete", "not_key", "incomplete", "variable_flags",
};
static const char *const arg_type_names[] = {
    "string", "integer", "double", "key", "pattern", "unix-time", "pure-token", "oneof", "block",
};

#define NAME_AT(names, bit) ((bit) < sizeof(names) / sizeof(names[0]) ? names[bit] : NULL)

const char *command_flag_name(unsigned bit)
{
    return NAME_AT(flag_names, bit);
}

const char *command_acl_name(unsigned bit)
{
    return NAME_AT(acl_names, bit);
}

const char *key_spec_flag_name(unsigned bit)
{
    return NAME_AT(key_flag_names, bit);
}

const char *command_arg_type_name(enum command_arg_type type)
{
    return NAME_AT(arg_type_names, type);
}

/* Eight ASCII bytes at once to lower case; other bytes stay as they are. */
static uint64_t lower_word(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101U;
    uint64_t low7 = w & (ones * 0x7f);
    uint64_t from_a = low7 + ones * (0x80 - 'A');      /* bit 7 set: >= 'A' */
    uint64_t above_z = low7 + ones * (0x80 - 'Z' - 1); /* bit 7 set: > 'Z' */
    uint64_t upper = from_a & ~above_z & ~w & (ones * 0x80);
    return w | upper >> 2;
}

static uint64_t load64(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof(w));
    return le64toh(w);
}

static uint64_t load32(const char *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof(w));
    return le32toh(w);
}

/* The first and the last eight bytes of a name, overlapping when it is shorter than 16; a name
 * below eight bytes fits in the first word. The generator computes the same. */
static void name_load(struct slice name, uint64_t *low, uint64_t *high)
{
    const unsigned char *p = (const unsigned char *)name.data;
    size_t n = name.size;
    *high = 0;
    if (n >= 8) {
        *low = lower_word(load64(name.data));
        *high = lower_word(load64(name.data + n - 8));
    } else if (n >= 4) {
        *low = lower_word(load32(name.data) | load32(name.data + n - 4) << 32);
    } else {
        *low = lower_word((uint64_t)p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16);
    }
}

static uint32_t name_hash(uint64_t low, uint64_t high, size_t size)
{
    uint64_t h = low ^ high * 0x9e3779b97f4a7c15U ^ size;
    h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9U;
    return (uint32_t)(h >> 40);
}

/* What is searched: the generated slots, or, when commands were renamed, slots made of `names`: one
 * for each command of the table, lower case, NULL when it was taken away. */
static const struct command_slot *slots = command_slots;
static struct command_slot *own_slots;
static char **names;

const struct command *command_find(struct slice name)
{
    if (name.size == 0 || name.size > UINT16_MAX)
        return NULL;
    uint64_t low, high;
    name_load(name, &low, &high);
    uint32_t at = name_hash(low, high, name.size);
    for (;; at++) {
        const struct command_slot *slot = &slots[at & command_slot_mask];
        if (slot->size == 0)
            return NULL;
        if (slot->low == low && slot->high == high && slot->size == name.size) {
            const struct command *cmd = &command_table[slot->index];
            if (name.size <= 16 || slice_is(name, names ? names[slot->index] : cmd->name))
                return cmd;
        }
    }
}

/* There are never more names than commands, and the generator made room for those. */
static void make_slots(void)
{
    if (!own_slots)
        own_slots = mem_alloc((command_slot_mask + 1) * sizeof(*own_slots));
    memset(own_slots, 0, (command_slot_mask + 1) * sizeof(*own_slots));
    for (int i = 0; i < command_table_size; i++) {
        if (!names[i])
            continue;
        struct command_slot s = {0, 0, (uint16_t)strlen(names[i]), (uint16_t)i};
        name_load(slice_of(names[i], s.size), &s.low, &s.high);
        uint32_t at = name_hash(s.low, s.high, s.size);
        while (own_slots[at & command_slot_mask].size)
            at++;
        own_slots[at & command_slot_mask] = s;
    }
    slots = own_slots;
}

enum command_rename_result command_rename(struct slice from, struct slice to)
{
    const struct command *cmd = command_find(from);
    if (!cmd)
        return COMMAND_RENAME_UNKNOWN;
    if (to.size > UINT16_MAX || memchr(to.data, '\0', to.size) || command_find(to))
        return COMMAND_RENAME_TAKEN;
    if (!names) {
        names = mem_alloc((size_t)command_table_size * sizeof(*names));
        for (int i = 0; i < command_table_size; i++)
            names[i] = mem_dup(command_table[i].name, strlen(command_table[i].name));
    }
    char **name = &names[cmd - command_table];
    mem_free(*name);
    *name = to.size ? mem_dup(to.data, to.size) : NULL;
    for (size_t i = 0; i < to.size; i++)
        if ((*name)[i] >= 'A' && (*name)[i] <= 'Z')
            (*name)[i] = (char)((*name)[i] + ('a' - 'A'));
    make_slots();
    return COMMAND_RENAMED;
}

void command_rename_undo(void)
{
    slots = command_slots;
    for (int i = 0; names && i < command_table_size; i++)
        mem_free(names[i]);
    mem_free(names);
    mem_free(own_slots);
    names = NULL;
    own_slots = NULL;
}

const struct command *command_find_sub(const struct command *container, struct slice name)
{
    for (int i = 0; i < container->subcommand_count; i++)
        if (slice_is(name, container->subcommands[i].name))
            return &container->subcommands[i];
    return NULL;
}

const struct command *command_at(int index)
{
    return index >= 0 && index < command_table_size ? &command_table[index] : NULL;
}

bool command_has_keys(const struct command *cmd)
{
    for (int i = 0; i < cmd->doc->key_spec_count; i++)
        if (!(cmd->doc->key_specs[i].flags & KEY_SPEC_NOT_KEY))
            return true;
    return cmd->first_key != 0;
}

/* Where the keys that a command found go. */
struct key_list {
    struct command_key *keys;
    int max, count;
};

static void key_add(struct key_list *list, int position, unsigned flags)
{
    if (list->count < list->max)
        list->keys[list->count] = (struct command_key){position, flags};
    list->count++;
}

/* The position where the keys of a specification begin; 0 when its keyword is not there. */
static int spec_begin(const struct key_spec *spec, const struct slice *argv, int argc)
{
    if (spec->begin == KEY_BEGIN_INDEX)
        return spec->begin_index;
    int from = spec->begin_index > 0 ? spec->begin_index : argc + spec->begin_index;
    int step = spec->begin_index > 0 ? 1 : -1;
    for (int i = from; i >= 1 && i < argc; i += step) {
        const char *word = spec->keyword;
        struct slice s = argv[i];
        size_t n = 0;
        while (n < s.size && word[n] != '\0' && (s.data[n] & ~0x20) == word[n])
            n++;
        if (n == s.size && word[n] == '\0')
            return i + 1;
    }
    return 0;
}

static bool spec_keys(const struct key_spec *spec, const struct slice *argv, int argc,
                      struct key_list *list)
{
    if (spec->flags & KEY_SPEC_NOT_KEY)
        return true;
    if (spec->flags & KEY_SPEC_INCOMPLETE || spec->begin == KEY_BEGIN_UNKNOWN ||
        spec->find == KEY_FIND_UNKNOWN)
        return false;
    int first = spec_begin(spec, argv, argc);
    if (first == 0)
        return true;
    int64_t last;
    int step;
    if (spec->find == KEY_FIND_RANGE) {
        step = spec->find_b;
        if (spec->find_a >= 0)
            last = first + spec->find_a;
        else if (spec->find_c == 0)
            last = argc + spec->find_a;
        else
            last = first + (argc - first) / spec->find_c + spec->find_a;
    } else {
        int64_t number;
        if (first + spec->find_a >= argc ||
            !number_parse_int64(argv[first + spec->find_a], &number) || number < 0)
            return false;
        step = spec->find_c;
        first += spec->find_b;
        if (number == 0 || number > argc || first + (number - 1) * step >= argc)
            return false;
        last = first + (number - 1) * step;
    }
    /* What is missing is reported by the command itself as a wrong number of arguments. */
    for (int i = first; i <= last && i < argc; i += step)
        key_add(list, i, spec->flags);
    return true;
}

static void sort_keys(const struct slice *argv, int argc, struct key_list *list)
{
    key_add(list, 1, KEY_SPEC_RO | KEY_SPEC_ACCESS);
    int store = 0;
    for (int i = 2; i < argc; i++) {
        if (slice_is(argv[i], "limit"))
            i += 2;
        else if (slice_is(argv[i], "get") || slice_is(argv[i], "by"))
            i += 1;
        else if (slice_is(argv[i], "store") && i + 1 < argc)
            store = ++i;
    }
    if (store)
        key_add(list, store, KEY_SPEC_OW | KEY_SPEC_UPDATE);
}

static void set_keys(const struct slice *argv, int argc, struct key_list *list)
{
    for (int i = 3; i < argc; i++) {
        if (slice_is(argv[i], "get")) {
            key_add(list, 1, KEY_SPEC_RW | KEY_SPEC_ACCESS | KEY_SPEC_UPDATE);
            return;
        }
    }
    key_add(list, 1, KEY_SPEC_OW | KEY_SPEC_UPDATE);
}

/* Whoever writes, or writes something that is not understood, changes the key. */
static void bitfield_keys(const struct slice *argv, int argc, struct key_list *list)
{
    unsigned flags = KEY_SPEC_RO | KEY_SPEC_ACCESS;
    for (int i = 2; i < argc; i++) {
        int left = argc - i - 1;
        if (slice_is(argv[i], "get") && left >= 2) {
            i += 2;
        } else if (slice_is(argv[i], "overflow") && left >= 1) {
            i += 1;
        } else {
            flags = KEY_SPEC_RW | KEY_SPEC_ACCESS | KEY_SPEC_UPDATE;
            break;
        }
    }
    key_add(list, 1, flags);
}

/* The third argument, or, when it is empty, those behind KEYS. (A KEYS with none behind it is not
 * looked at, as Redis does.) */
static void migrate_keys(const struct slice *argv, int argc, struct key_list *list)
{
    int first = 3, last = 3;
    for (int i = 6; i < argc - 1; i++) {
        if (slice_is(argv[i], "keys")) {
            if (argv[3].size != 0)
                return;
            first = i + 1;
            last = argc - 1;
            break;
        }
        if (slice_is(argv[i], "auth"))
            i += 1;
        else if (slice_is(argv[i], "auth2"))
            i += 2;
    }
    for (int i = first; i <= last && i < argc; i++)
        key_add(list, i, KEY_SPEC_RW | KEY_SPEC_ACCESS | KEY_SPEC_DELETE);
}

/* The last STORE or STOREDIST is the one that counts. */
/* `options`: where they begin; what stands before is no STORE. */
static void georadius_keys(const struct slice *argv, int argc, int options, struct key_list *list)
{
    key_add(list, 1, KEY_SPEC_RO | KEY_SPEC_ACCESS);
    int store = 0;
    for (int i = options; i + 1 < argc; i++) {
        if (slice_is(argv[i], "store") || slice_is(argv[i], "storedist"))
            store = ++i;
    }
    if (store)
        key_add(list, store, KEY_SPEC_OW | KEY_SPEC_UPDATE);
}

/* A number of keys that cannot be is told by the command itself. */
static void eval_keys(const struct command_doc *doc, const struct slice *argv, int argc,
                      struct key_list *list)
{
    int64_t count;
    if (argc < 3 || !number_parse_int64(argv[2], &count) || count < 1 || count > argc - 3)
        return;
    for (int i = 3; i < 3 + count; i++)
        key_add(list, i, doc->key_specs[0].flags);
}

int command_keys_flags(const struct command *cmd, const struct slice *argv, int argc,
                       struct command_key *keys, int max)
{
    struct key_list list = {keys, max, 0};
    const struct command_doc *doc = cmd->doc;
    switch (doc->getkeys) {
    case GETKEYS_SORT:
        sort_keys(argv, argc, &list);
        return list.count;
    case GETKEYS_FIRST:
        key_add(&list, 1, doc->key_specs[0].flags);
        return list.count;
    case GETKEYS_SET:
        set_keys(argv, argc, &list);
        return list.count;
    case GETKEYS_BITFIELD:
        bitfield_keys(argv, argc, &list);
        return list.count;
    case GETKEYS_MIGRATE:
        migrate_keys(argv, argc, &list);
        return list.count;
    case GETKEYS_GEORADIUS:
        georadius_keys(argv, argc, -cmd->arity, &list);
        return list.count;
    case GETKEYS_EVAL:
        eval_keys(doc, argv, argc, &list);
        return list.count;
    case GETKEYS_SPECS:
        break;
    }
    for (int i = 0; i < doc->key_spec_count; i++)
        if (!spec_keys(&doc->key_specs[i], argv, argc, &list))
            return -1;
    return list.count;
}

int command_keys(const struct command *cmd, const struct slice *argv, int argc, int *positions,
                 int max)
{
    int count = 0;
    if (!(cmd->flags & COMMAND_MOVABLEKEYS)) {
        if (cmd->first_key == 0)
            return 0;
        int last = cmd->last_key >= 0 ? cmd->last_key : argc + cmd->last_key;
        for (int i = cmd->first_key; i <= last && i < argc; i += cmd->key_step) {
            if (count < max)
                positions[count] = i;
            count++;
        }
        return count;
    }
    struct command_key few[16];
    struct command_key *keys = few;
    if (max > 16)
        keys = mem_alloc((size_t)max * sizeof(*keys));
    count = command_keys_flags(cmd, argv, argc, keys, max > 16 ? max : 16);
    for (int i = 0; i < count && i < max; i++)
        positions[i] = keys[i].position;
    if (keys != few)
        mem_free(keys);
    return count;
}
