/* protobuf's arenas. Its messages live in memory that `google/_upb/_message` takes from malloc, which no hook of Python's
   sees. That library's own entries for malloc and its kin are pointed here, nobody else's. It calls them with the GIL. */
#include "heap.h"

bool arenas_seen;

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
bool arenas_check(void) { return true; }
void arenas_remove(void) {}
#else
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __x86_64__
#define IS_POINTER(type) ((type) == R_X86_64_JUMP_SLOT || (type) == R_X86_64_GLOB_DAT || (type) == R_X86_64_64)
#else
#define IS_POINTER(type) ((type) == R_AARCH64_JUMP_SLOT || (type) == R_AARCH64_GLOB_DAT || (type) == R_AARCH64_ABS64)
#endif

/* Invariant, of all four: what they do and answer is what malloc and its kin would have. */
static void *took(void *block, size_t size) {
    if (block && (sampler.left -= (int64_t)size) < 0) sample(block, size, PROTOBUF);
    return block;
}

static void *arena_malloc(size_t size) { return took(malloc(size), size); }

static void *arena_calloc(size_t number, size_t size) { return took(calloc(number, size), number * size); }

static void *arena_realloc(void *old, size_t size) {
    uintptr_t known = old && may_know(&sampler.table, old) ? (uintptr_t)old : 0;
    void *block = realloc(old, size);
    if (block && known && may_run()) table_remove(&sampler.table, known);
    return took(block, size);
}

static void arena_free(void *block) {
    if (may_know(&sampler.table, block) && may_run()) table_remove(&sampler.table, (uintptr_t)block);
    free(block);
}

static const struct {
    const char *name;
    void *ours, *theirs;
} calls[] = {{"malloc", arena_malloc, malloc}, {"calloc", arena_calloc, calloc},
             {"realloc", arena_realloc, realloc}, {"free", arena_free, free}};

typedef struct {
    bool is_install;
    int ours, changed;
} Visit;

/* Entries that were not used yet lead to the linker, and some libraries have theirs read-only after the start. */
static void point(void **entry, void *target, Visit *visit) {
    uintptr_t page = (uintptr_t)entry & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    if (mprotect((void *)page, (uintptr_t)(entry + 1) - page, PROT_READ | PROT_WRITE)) return;
    __atomic_store_n(entry, target, __ATOMIC_RELEASE);
    visit->changed++;
}

static void visit_entries(const ElfW(Dyn) *dynamic, ElfW(Addr) base, Visit *visit) {
    ElfW(Addr) found[DT_JMPREL + 1] = {0}; /* by tag */
    for (; dynamic->d_tag != DT_NULL; dynamic++)
        if (dynamic->d_tag > 0 && dynamic->d_tag <= DT_JMPREL) found[dynamic->d_tag] = dynamic->d_un.d_val;
    static const int tables[][2] = {{DT_JMPREL, DT_PLTRELSZ}, {DT_RELA, DT_RELASZ}}, addresses[] = {DT_SYMTAB, DT_STRTAB, DT_JMPREL, DT_RELA};
    for (int at = 0; at < 4; at++)
        if (found[addresses[at]] && found[addresses[at]] < base) found[addresses[at]] += base; /* musl: as in the file */
    const ElfW(Sym) *symbols = (void *)found[DT_SYMTAB];
    for (int table = 0; table < 2; table++) {
        const ElfW(Rela) *relocation = (void *)found[tables[table][0]];
        const ElfW(Rela) *end = relocation + found[tables[table][1]] / sizeof *relocation;
        for (; relocation && relocation < end; relocation++) {
            const char *name = (char *)found[DT_STRTAB] + symbols[ELF64_R_SYM(relocation->r_info)].st_name;
            void **entry = (void **)(base + relocation->r_offset);
            for (int call = 0; call < 4 && IS_POINTER(ELF64_R_TYPE(relocation->r_info)); call++) {
                if (strcmp(name, calls[call].name)) continue;
                void *target = visit->is_install ? calls[call].ours : calls[call].theirs;
                if ((*entry == calls[call].ours) != visit->is_install) point(entry, target, visit);
                visit->ours += *entry == calls[call].ours;
            }
        }
    }
}

static int visit_object(struct dl_phdr_info *object, size_t Py_UNUSED(size), void *visit) {
    if (!object->dlpi_name || !strstr(object->dlpi_name, "/google/_upb/_message")) return 0;
    for (int at = 0; at < object->dlpi_phnum; at++)
        if (object->dlpi_phdr[at].p_type == PT_DYNAMIC)
            visit_entries((void *)(object->dlpi_addr + object->dlpi_phdr[at].p_vaddr), object->dlpi_addr, visit);
    return 1;
}

static bool is_arenas(const Entry *entry, int64_t Py_UNUSED(none)) { return entry->kind == PROTOBUF; }

/* Be in place, if that library is there yet. False when somebody had taken our place: frees were missed, so that what
   is known may be gone. */
bool arenas_check(void) {
    Visit visit = {.is_install = true};
    dl_iterate_phdr(visit_object, &visit);
    bool was_there = !arenas_seen || !visit.changed;
    arenas_seen = visit.ours != 0;
    if (!was_there) table_drop(&sampler.table, is_arenas, 0);
    return was_there;
}

void arenas_remove(void) {
    dl_iterate_phdr(visit_object, &(Visit){.is_install = false});
    arenas_seen = false;
}
#endif
