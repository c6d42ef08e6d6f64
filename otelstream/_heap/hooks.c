#include "heap.h"

#include <time.h>

typedef struct {
    PyMemAllocatorDomain domain;
    PyMemAllocatorEx next; /* who was there before us: every block is his, with nothing of ours in it */
} Hook;

static Hook hooks[] = {{.domain = PYMEM_DOMAIN_MEM}, {.domain = PYMEM_DOMAIN_OBJ}};

/* Invariant: the table changes under the main interpreter's GIL only. The hooks are the process's, so threads of other
   interpreters come by, too, which may have a GIL of their own from 3.12 on: they only ever count down `left`. */
bool may_run(void) {
    PyThreadState *thread = PyThreadState_GetUnchecked();
    return thread && thread->interp == PyInterpreterState_Main() && PyGILState_Check() && !Py_IsFinalizing();
}

/* Invariant: `block` has no sample. NULL: the bytes that were counted are none, so the way to the next sample is drawn
   anew and nothing is known. */
void sample(void *block, size_t size, enum kind kind) {
    if (!sampler.interval) sampler.left = INT64_MAX; /* off, but still in somebody's chain */
    if (!sampler.interval || !may_run()) return;
    double weight = sampler_take(&sampler, size);
    Site *site = block ? site_here() : NULL;
    Entry *entry = site ? table_add(&sampler.table, block, kind) : NULL;
    if (!entry) return; /* no block, or no memory for what is known of it */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    entry->site = site;
    entry->size = size;
    entry->weight = weight;
    entry->time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    site_count(site, 1);
    sampler.large_bytes += large_bytes_of(entry);
}

/* What is due or known is looked at in functions of their own, never inlined: so a hook has no frame and ends in a jump
   to the next in the chain, which a third of its cost was spent on. A block is counted before it is there. */
#define RARE static __attribute__((noinline, cold))

static inline bool is_due(size_t size) { return (sampler.left -= (int64_t)size) < 0; }

RARE void *malloc_due(PyMemAllocatorEx *next, size_t size) {
    void *block = next->malloc(next->ctx, size);
    sample(block, size, PYTHON);
    return block;
}

static void *hook_malloc(void *context, size_t size) {
    PyMemAllocatorEx *next = &((Hook *)context)->next;
    return is_due(size) ? malloc_due(next, size) : next->malloc(next->ctx, size);
}

RARE void *calloc_due(PyMemAllocatorEx *next, size_t number, size_t size) {
    void *block = next->calloc(next->ctx, number, size);
    sample(block, number * size, PYTHON);
    return block;
}

static void *hook_calloc(void *context, size_t number, size_t size) { /* CPython has seen to it that the product fits */
    PyMemAllocatorEx *next = &((Hook *)context)->next;
    return is_due(number * size) ? calloc_due(next, number, size) : next->calloc(next->ctx, number, size);
}

/* Invariant: a block that could not be resized is known as before; one that was is a new one. */
RARE void *realloc_rare(PyMemAllocatorEx *next, void *old, size_t size) {
    uintptr_t known = may_know(&sampler.table, old) ? (uintptr_t)old : 0;
    void *block = next->realloc(next->ctx, old, size);
    if (block && known && may_run()) table_remove(&sampler.table, known);
    if (sampler.left < 0) sample(block, size, PYTHON);
    return block;
}

static void *hook_realloc(void *context, void *old, size_t size) {
    PyMemAllocatorEx *next = &((Hook *)context)->next;
    bool is_rare = is_due(size) || may_know(&sampler.table, old);
    return is_rare ? realloc_rare(next, old, size) : next->realloc(next->ctx, old, size);
}

RARE void free_known(PyMemAllocatorEx *next, void *block) {
    if (may_run()) table_remove(&sampler.table, (uintptr_t)block);
    next->free(next->ctx, block);
}

/* Invariant: a block is forgotten before its address can be another's. */
static void hook_free(void *context, void *block) {
    PyMemAllocatorEx *next = &((Hook *)context)->next;
    if (may_know(&sampler.table, block)) free_known(next, block);
    else next->free(next->ctx, block);
}

static PyMemAllocatorEx ours(Hook *hook) {
    return (PyMemAllocatorEx){hook, hook_malloc, hook_calloc, hook_realloc, hook_free};
}

static bool is_first(Hook *hook) {
    PyMemAllocatorEx found;
    PyMem_GetAllocator(hook->domain, &found);
    return found.malloc == hook_malloc && found.ctx == hook;
}

/* Who came after us has us in his chain: only being called tells that. No sample may come in between, for then what is
   left is drawn anew, and may be what it was before. */
static bool is_called(const Hook *hook) {
    int64_t left = sampler.left;
    sampler.left = INT64_MAX;
    if (hook->domain == PYMEM_DOMAIN_MEM) PyMem_Free(PyMem_Malloc(16));
    else PyObject_Free(PyObject_Malloc(16));
    bool is_counted = sampler.left != INT64_MAX;
    sampler.left = left;
    return is_counted;
}

static bool is_pythons(const Entry *entry, int64_t Py_UNUSED(none)) { return entry->kind != PROTOBUF; }

/* Be in place. False when we were not: somebody has put back what was there before us, and frees were missed, so that
   what is known may be gone. To go where we are called already would make a loop. */
bool hooks_check(void) {
    bool was_there = true;
    for (Hook *hook = hooks; hook < hooks + 2; hook++) {
        if (is_called(hook)) continue;
        PyMemAllocatorEx allocator = ours(hook);
        PyMem_GetAllocator(hook->domain, &hook->next);
        PyMem_SetAllocator(hook->domain, &allocator);
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
    PyMemAllocatorEx allocator = ours(&hooks[1]);
    bool is_hooked = is_first(&hooks[1]);
    if (is_hooked) PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &hooks[1].next);
    int printed = _PyObject_DebugMallocStats(file);
    if (is_hooked) PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &allocator);
    return PyLong_FromLong(printed);
}
