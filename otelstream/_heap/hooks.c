#include "heap.h"

#include <time.h>

typedef struct {
    PyMemAllocatorDomain domain;
    PyMemAllocatorEx ours, next; /* who was there before us: every block is his, with nothing of ours in it */
} Hook;

static Hook hooks[2];

/* Invariant: the table changes under the main interpreter's GIL only. The hooks are the process's, so threads of other
   interpreters come by, too, which may have a GIL of their own from 3.12 on: they count down `left`, no more. */
bool may_run(void) {
    PyThreadState *thread = PyThreadState_GetUnchecked();
    return thread && thread->interp == PyInterpreterState_Main() && PyGILState_Check() && !Py_IsFinalizing();
}

/* Invariant: `block` has no sample. */
void sample(void *block, size_t size, enum kind kind) {
    if (!sampler.interval) sampler.left = INT64_MAX; /* off, but still in somebody's chain */
    if (!sampler.interval) return;
    double weight = sampler_take(&sampler, size); /* also for a block that can't be known: its point is not another's */
    if (!may_run()) return;
    Site *site = site_here();
    Entry *entry = site ? table_add(&sampler.table, block, kind) : NULL;
    if (!entry) return; /* no memory for it */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    entry->site = site;
    entry->size = size;
    entry->weight = weight;
    entry->time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    site_count(site, 1);
}

static inline void count(void *block, size_t size) {
    if (block && (sampler.left -= (int64_t)size) < 0) sample(block, size, PYTHON);
}

static inline void *hook_malloc(Hook *hook, size_t size) {
    const PyMemAllocatorEx *next = &hook->next;
    void *block = next->malloc(next->ctx, size);
    count(block, size);
    return block;
}

static inline void *hook_calloc(Hook *hook, size_t number, size_t size) {
    const PyMemAllocatorEx *next = &hook->next;
    void *block = next->calloc(next->ctx, number, size); /* NULL where the product overflows */
    count(block, number * size);
    return block;
}

/* Invariant: a block that could not be resized is known as before; one that was is a new one. */
static inline void *hook_realloc(Hook *hook, void *old, size_t size) {
    const PyMemAllocatorEx *next = &hook->next;
    uintptr_t known = old && may_know(&sampler.table, old) ? (uintptr_t)old : 0;
    void *block = next->realloc(next->ctx, old, size);
    if (block && known && may_run()) table_remove(&sampler.table, known);
    count(block, size);
    return block;
}

/* Invariant: a block is forgotten before its address can be another's. */
static inline void hook_free(Hook *hook, void *block) {
    const PyMemAllocatorEx *next = &hook->next;
    if (may_know(&sampler.table, block) && may_run()) table_remove(&sampler.table, (uintptr_t)block);
    next->free(next->ctx, block);
}

/* A set for each domain, for what it is called with is not ours: an interpreter with a GIL of its own reads function and
   context one after the other while we come or go, and any function of ours or next's must do with that context. */
#define HOOKS(name, hook)                                                                                               \
    static void *malloc_##name(void *Py_UNUSED(context), size_t size) { return hook_malloc(hook, size); }              \
    static void *calloc_##name(void *Py_UNUSED(context), size_t number, size_t size) {                                 \
        return hook_calloc(hook, number, size);                                                                        \
    }                                                                                                                  \
    static void *realloc_##name(void *Py_UNUSED(context), void *old, size_t size) {                                    \
        return hook_realloc(hook, old, size);                                                                          \
    }                                                                                                                  \
    static void free_##name(void *Py_UNUSED(context), void *block) { hook_free(hook, block); }

HOOKS(mem, &hooks[0])
HOOKS(obj, &hooks[1])

static Hook hooks[] = {
    {.domain = PYMEM_DOMAIN_MEM, .ours = {NULL, malloc_mem, calloc_mem, realloc_mem, free_mem}},
    {.domain = PYMEM_DOMAIN_OBJ, .ours = {NULL, malloc_obj, calloc_obj, realloc_obj, free_obj}},
};

static bool is_first(const Hook *hook) {
    PyMemAllocatorEx found;
    PyMem_GetAllocator(hook->domain, &found);
    return found.malloc == hook->ours.malloc;
}

/* Who came after us has us in his chain: only being called tells that. It is told by the countdown, which no sample may
   draw anew meanwhile: the same could come out. Without memory nothing is told, and to be in place twice made a loop. */
static bool is_called(const Hook *hook) {
    int64_t left = sampler.left;
    sampler.left = INT64_MAX;
    bool is_mem = hook->domain == PYMEM_DOMAIN_MEM;
    void *block = is_mem ? PyMem_Malloc(16) : PyObject_Malloc(16);
    bool found = !block || sampler.left != INT64_MAX;
    sampler.left = left;
    (is_mem ? PyMem_Free : PyObject_Free)(block);
    return found;
}

bool hooks_are_called(void) { return is_called(&hooks[0]) && is_called(&hooks[1]); }

static bool is_pythons(const Entry *entry, int64_t Py_UNUSED(none)) { return entry->kind != PROTOBUF; }

/* Be in place. False when we were not: somebody has put back what was there before us, and frees were missed, so that
   what is known may be gone. To go where we are called already would make a loop. */
bool hooks_check(void) {
    bool was_there = true;
    for (Hook *hook = hooks; hook < hooks + 2; hook++) {
        if (is_called(hook)) continue;
        PyMem_GetAllocator(hook->domain, &hook->next);
        hook->ours.ctx = hook->next.ctx;
        PyMem_SetAllocator(hook->domain, &hook->ours);
        was_there = false;
    }
    if (!was_there) table_drop(&sampler.table, is_pythons, 0);
    return was_there;
}

/* Where somebody came after us we stay, and only hand on. */
void hooks_remove(void) {
    for (Hook *hook = hooks; hook < hooks + 2; hook++)
        if (is_first(hook)) PyMem_SetAllocator(hook->domain, &hook->next);
}

extern int _PyObject_DebugMallocStats(FILE *) __attribute__((weak));

/* CPython withholds pymalloc's statistics while its allocator is hooked: it is asked without us for that moment, which
   nobody can see, for the GIL is held. */
PyObject *print_pymalloc(PyObject *Py_UNUSED(module), PyObject *stream) {
    FILE *file = PyLong_AsVoidPtr(stream);
    if (!file || !_PyObject_DebugMallocStats) return PyErr_Occurred() ? NULL : PyLong_FromLong(0);
    bool is_hooked = is_first(&hooks[1]);
    if (is_hooked) PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &hooks[1].next);
    int printed = _PyObject_DebugMallocStats(file);
    if (is_hooked) PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &hooks[1].ours);
    return PyLong_FromLong(printed);
}
