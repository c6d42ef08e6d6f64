/* Frames are read from the interpreter's own structs: the public functions make objects, which in a hook ends in a
   crash (ddtrace #14550, #15388, #16661). */
#define Py_BUILD_CORE 1
#include "heap.h"

#include <stdlib.h>
#include <string.h>

#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_interpframe.h" /* no such interpreter was at hand: compiled for, untested */
#elif PY_VERSION_HEX >= 0x030B0000
#include "internal/pycore_frame.h"
#else
#include <frameobject.h>
#endif
#include "internal/pycore_context.h"

#define DEEPEST 64
#define BUCKETS 16384

typedef struct {
    PyCodeObject *code;
    intptr_t instruction; /* as wide as the pointer: frames are compared as bytes, and padding has any value */
} Frame;

/* Of Python's blocks, then of protobuf's: how many, By, variance of By. */
typedef struct {
    double of[6];
} Sums;

/* Interned, so that samples from one place cost a pointer each. Owns its references. */
struct site {
    Site *next;
    uint64_t hash;
    size_t live; /* samples, and who looks at it */
    PyObject *origin;
    Sums sums; /* of the snapshot that is being made */
    uint32_t depth;
    Frame frames[];
};

PyObject *origin_variable;              /* the ContextVar that says which call a context belongs to */
static _Thread_local PyObject *current; /* says it where no context does; borrowed from who waits in `attributed` */
static Site *buckets[BUCKETS];
static size_t number;

#if PY_VERSION_HEX < 0x030B0000
typedef PyFrameObject Running;
#define FIRST(thread) ((thread)->frame)
#define OUTER(frame) ((frame)->f_back)
#define CODE(frame) ((frame)->f_code)
#define INSTRUCTION(frame) ((frame)->f_lasti)
#define IS_COMPLETE(frame) true
#else
typedef _PyInterpreterFrame Running;
#define OUTER(frame) ((frame)->previous)
#define INSTRUCTION(frame) _PyInterpreterFrame_LASTI(frame)
#define IS_COMPLETE(frame) (!_PyFrame_IsIncomplete(frame))
#if PY_VERSION_HEX >= 0x030E0000
#define FIRST(thread) ((thread)->current_frame)
#define CODE(frame) _PyFrame_GetCode(frame)
#elif PY_VERSION_HEX >= 0x030D0000
#define FIRST(thread) ((thread)->current_frame)
#define CODE(frame) ((PyCodeObject *)(frame)->f_executable)
#else
#define FIRST(thread) ((thread)->cframe->current_frame)
#define CODE(frame) ((frame)->f_code)
#endif
#endif

/* Which call runs here, a new reference; NULL for none. To read the variable neither allocates nor runs Python. It notes
   what it found, without a reference: undone, for this may be in the midst of the variable being set or reset. */
static PyObject *origin_here(void) {
    if (current) return Py_NewRef(current);
    PyObject *found = NULL;
    PyContextVar *variable = (PyContextVar *)origin_variable;
    bool was_noted = variable->var_cached != NULL;
    if (PyContextVar_Get(origin_variable, NULL, &found) < 0) PyErr_Clear();
    if (!was_noted) variable->var_cached = NULL;
    if (found == Py_None) Py_CLEAR(found);
    return found;
}

/* attributed(origin, codec, data) -> codec(data), what is allocated meanwhile being `origin`'s. When it is over it is
   nobody's, whoever came before: greenlets leave in any order, and what they have left must not be used. */
PyObject *attributed(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 3) return PyErr_Format(PyExc_TypeError, "attributed() takes 3 arguments");
    current = args[0];
    PyObject *result = PyObject_CallOneArg(args[1], args[2]);
    current = NULL;
    return result;
}

/* The place that runs in this thread now, innermost frame first; NULL without memory. */
Site *site_here(void) {
    Frame frames[DEEPEST];
    uint32_t depth = 0;
    for (Running *frame = FIRST(PyThreadState_GetUnchecked()); frame && depth < DEEPEST; frame = OUTER(frame))
        if (IS_COMPLETE(frame)) frames[depth++] = (Frame){CODE(frame), INSTRUCTION(frame)};
    PyObject *origin = origin_here();
    uint64_t hash = (uintptr_t)origin;
    for (const Frame *frame = frames; frame < frames + depth; frame++)
        hash = (hash ^ (uintptr_t)frame->code ^ ((uint64_t)frame->instruction << 48)) * 0x9E3779B97F4A7C15u;
    Site **bucket = &buckets[hash >> 32 & (BUCKETS - 1)], *site = *bucket;
    while (site && !(site->hash == hash && site->origin == origin && site->depth == depth &&
                     !memcmp(site->frames, frames, depth * sizeof *frames)))
        site = site->next;
    if (!site && (site = malloc(sizeof *site + depth * sizeof *frames))) {
        *site = (Site){.next = *bucket, .hash = hash, .origin = origin, .depth = depth};
        memcpy(site->frames, frames, depth * sizeof *frames);
        for (const Frame *frame = frames; frame < frames + depth; frame++) Py_INCREF(frame->code);
        *bucket = site;
        number++;
    } else Py_XDECREF(origin); /* not the last one: the site has its own, or its context */
    return site;
}

void site_count(Site *site, int by) { site->live += (size_t)by; }

/* Let go of the places that nothing alive comes from. They are out of the table before a reference is dropped, which
   may run anything, this function too. */
void sites_sweep(void) {
    Site *gone = NULL;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++)
        for (Site **link = &buckets[bucket], *site; (site = *link);) {
            if (site->live) {
                link = &site->next;
                continue;
            }
            *link = site->next;
            site->next = gone;
            gone = site;
            number--;
        }
    for (Site *next; gone; gone = next) {
        next = gone->next;
        for (uint32_t at = 0; at < gone->depth; at++) Py_DECREF(gone->frames[at].code);
        Py_XDECREF(gone->origin);
        free(gone);
    }
}

static PyObject *as_object(const Site *site, const double *of) {
    PyObject *frames = PyTuple_New(2 * (Py_ssize_t)site->depth);
    for (Py_ssize_t at = 0; frames && at < (Py_ssize_t)site->depth; at++) {
        PyTuple_SET_ITEM(frames, 2 * at, Py_NewRef((PyObject *)site->frames[at].code));
        PyTuple_SET_ITEM(frames, 2 * at + 1, PyLong_FromSsize_t(site->frames[at].instruction));
        if (!PyTuple_GET_ITEM(frames, 2 * at + 1)) Py_CLEAR(frames);
    }
    PyObject *origin = site->origin ? site->origin : Py_None;
    return frames ? Py_BuildValue("(ON(ddd)(ddd))", origin, frames, of[0], of[1], of[2], of[3], of[4], of[5]) : NULL;
}

/* snapshot(since_ns) -> [(origin, (code, instruction, …), of Python, of protobuf), …]: what was allocated since and is
   not freed, by place, each as (blocks, By, variance of By). Added up before the first object is made, for that alone
   changes the table. No garbage is collected meanwhile: there is none, and up to 3.11 it doubles the time. */
PyObject *snapshot(PyObject *Py_UNUSED(module), PyObject *since_ns) {
    int64_t since = PyLong_AsLongLong(since_ns);
    if (since == -1 && PyErr_Occurred()) return NULL;
    sites_sweep();
    struct {
        Site *site;
        Sums sums;
    } *rows = malloc((number + 1) * sizeof *rows);
    if (!rows) return PyErr_NoMemory();
    size_t length = 0;
    for (uint32_t at = 1; at < sampler.table.capacity; at++) {
        const Entry *entry = &sampler.table.entries[at];
        if (!entry->site || entry->time_ns < since) continue;
        double size = (double)entry->size, *of = &entry->site->sums.of[entry->kind == PROTOBUF ? 3 : 0];
        of[0] += entry->weight;
        of[1] += entry->weight * size;
        of[2] += entry->weight * (entry->weight - 1) * size * size; /* Horvitz and Thompson, 1952 */
    }
    for (size_t bucket = 0; bucket < BUCKETS; bucket++)
        for (Site *site = buckets[bucket]; site; site = site->next) {
            rows[length].site = site;
            rows[length].sums = site->sums;
            site->sums = (Sums){0};
            if (rows[length].sums.of[0] + rows[length].sums.of[3] > 0) rows[length++].site->live++; /* pinned */
        }
    int collects = PyGC_Disable();
    PyObject *list = PyList_New(0);
    for (size_t at = 0; at < length; at++) {
        PyObject *row = list ? as_object(rows[at].site, rows[at].sums.of) : NULL;
        if (list && (!row || PyList_Append(list, row) < 0)) Py_CLEAR(list);
        Py_XDECREF(row);
        rows[at].site->live--;
    }
    if (collects) PyGC_Enable();
    free(rows);
    return list;
}
