/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/crash_symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const ElfW(Sym) *symbols; /* NULL: none */
static size_t symbol_count;
static const char *names;
static size_t names_size;
static uintptr_t base; /* where the program was loaded */

/* The first object is the program. */
static int note_base(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    (void)ctx;
    base = info->dlpi_addr;
    return 1;
}

static bool within(size_t file_size, uint64_t at, uint64_t size)
{
    return at <= file_size && size <= file_size - at;
}

/* The symbol table and its names, if all of it lies in the file. */
static void find_table(const char *file, size_t size)
{
    const ElfW(Ehdr) *header = (const void *)file;
    if (size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_shentsize != sizeof(ElfW(Shdr)) ||
        !within(size, header->e_shoff, (uint64_t)header->e_shnum * sizeof(ElfW(Shdr))))
        return;
    const ElfW(Shdr) *sections = (const void *)(file + header->e_shoff);
    for (size_t i = 0; i < header->e_shnum; i++) {
        const ElfW(Shdr) *s = &sections[i];
        if (s->sh_type != SHT_SYMTAB || s->sh_link >= header->e_shnum ||
            s->sh_entsize != sizeof(ElfW(Sym)) || !within(size, s->sh_offset, s->sh_size))
            continue;
        const ElfW(Shdr) *strings = &sections[s->sh_link];
        if (strings->sh_size == 0 || !within(size, strings->sh_offset, strings->sh_size) ||
            file[strings->sh_offset + strings->sh_size - 1] != '\0')
            continue;
        names = file + strings->sh_offset;
        names_size = strings->sh_size;
        symbol_count = s->sh_size / sizeof(ElfW(Sym));
        symbols = (const void *)(file + s->sh_offset);
        return;
    }
}

void crash_symbols_open(void)
{
    dl_iterate_phdr(note_base, NULL);
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_size > 0) {
        void *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file != MAP_FAILED)
            find_table(file, (size_t)st.st_size);
        if (file != MAP_FAILED && symbols == NULL)
            munmap(file, (size_t)st.st_size);
    }
    close(fd);
}

const char *crash_symbols_find(const void *address, uint64_t *offset)
{
    uintptr_t at = (uintptr_t)address - base;
    for (size_t i = 0; symbols != NULL && i < symbol_count; i++) {
        const ElfW(Sym) *s = &symbols[i];
        if (ELF64_ST_TYPE(s->st_info) == STT_FUNC && s->st_value <= at &&
            at - s->st_value < s->st_size && s->st_name < names_size) {
            *offset = at - s->st_value;
            return names + s->st_name;
        }
    }
    return NULL;
}
