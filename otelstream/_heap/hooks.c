#include "heap.h"

#include <time.h>

typedef struct {
    PyMemAllocatorDomain domain;
    PyMemAllocatorEx ours, next; /* next: who was there before us; every block is his, with nothing of ours in it */
} Hook;

static Hook hooks[2];

/* Invariant: the table changes under the main interpreter's GIL only. The hooks are the process's, so threads of other
   interpreters come by, too, which may have a GIL of their own from 3.12 on: they count down `left` and draw it anew, and
   what one of two at once writes is lost, no more. */
bool may_run(void) {
    PyThreadState *thread = PyThreadState_GetUnchecked();
    return thread && thread->interp == PyInterpreterState_Main() && PyGILState_Check() && !Py_IsFinalizing();
}

/* Invariant: `block` has no sample. Also for one that can't be known, or that there was no memory for (NULL), the way to
   the next sample is drawn anew: its point is not another's. */
void sample(void *block, size_t size, enum kind kind) {
    if (!sampler.interval) sampler.left = INT64_MAX; /* off, but still in somebody's chain */
    if (!sampler.interval) return;
    double weight = sampler_take(&sampler, size);
    Site *site = block && may_run() ? site_here() : NULL;
    Entry *entry = site ? table_add(&sampler.table, block, kind) : NULL;
    if (!entry) return; /* no block, or no memory for what is known of it */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    entry->site = site;
    entry->size = size;
    entry->weight = weight;
    entry->time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    site_count(site, 1);
    count_from_malloc(entry, 1);
}

/* What is due or known is looked at in functions of their own, never inlined: so a hook has no frame and ends in a jump
   to the next in the chain, which a third of its cost was spent on. A block is counted before it is there. */
#define RARE static __attribute__((noinline, cold))

static inline bool is_due(size_t size) { return (sampler.left -= (int64_t)size) < 0; }

RARE void *malloc_due(const PyMemAllocatorEx *next, size_t size) {
    void *block = next->malloc(next->ctx, size);
    sample(block, size, PYTHON);
    return block;
}

RARE void *calloc_due(const PyMemAllocatorEx *next, size_t number, size_t size) {
    void *block = next->calloc(next->ctx, number, size);
    sample(block, number * size, PYTHON);
    return block;
}

/* Invariant: a block that could not be resized is known as before; one that was is a new one. */
RARE void *realloc_rare(const PyMemAllocatorEx *next, void *old, size_t size) {
    uintptr_t known = may_know(&sampler.table, old) ? (uintptr_t)old : 0;
    void *block = next->realloc(next->ctx, old, size);
    if (block && known && may_run()) table_remove(&sampler.table, known);
    if (sampler.left < 0) sample(block, size, PYTHON);
    return block;
}

/* Invariant: a block is forgotten before its address can be another's. */
RARE void free_known(const PyMemAllocatorEx *next, void *block) {
    if (may_run()) table_remove(&sampler.table, (uintptr_t)block);
    next->free(next->ctx, block);
}

/* A set for each domain, for what it is called with is not ours: an interpreter with a GIL of its own reads function and
   context one after the other while we come or go, and any function of ours or next's must do with that context. CPython
   has seen to it that the product of calloc fits. */
#define HOOKS(name, next)                                                                                               \
    static void *malloc_##name(void *Py_UNUSED(context), size_t size) {                                                \
        return is_due(size) ? malloc_due(next, size) : (next)->malloc((next)->ctx, size);                              \
    }                                                                                                                  \
    static void *calloc_##name(void *Py_UNUSED(context), size_t number, size_t size) {                                 \
        return is_due(number * size) ? calloc_due(next, number, size) : (next)->calloc((next)->ctx, number, size);     \
    }                                                                                                                  \
    static void *realloc_##name(void *Py_UNUSED(context), void *old, size_t size) {                                    \
        bool is_rare = is_due(size) || may_know(&sampler.table, old);                                                  \
        return is_rare ? realloc_rare(next, old, size) : (next)->realloc((next)->ctx, old, size);                      \
    }                                                                                                                  \
    static void free_##name(void *Py_UNUSED(context), void *block) {                                                   \
        if (may_know(&sampler.table, block)) free_known(next, block);                                                  \
        else (next)->free((next)->ctx, block);                                                                         \
    }

HOOKS(mem, &hooks[0].next)
HOOKS(obj, &hooks[1].next)

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
