#include "heap.h"

#include <stdlib.h>

static uint64_t generation; /* how often samples were dropped because frees had been missed */

/* start(interval, seed, variable, most_watched): sample every `interval` By on average; again, to change it. */
static PyObject *start(PyObject *module, PyObject *args) {
    double interval;
    unsigned long long seed;
    PyObject *variable;
    (void)module;
    if (!PyArg_ParseTuple(args, "dKOI", &interval, &seed, &variable, &watch_limit)) return NULL;
    if (!PyContextVar_CheckExact(variable)) return PyErr_Format(PyExc_TypeError, "variable must be a ContextVar");
    if (!(interval >= 1)) return PyErr_Format(PyExc_ValueError, "interval must be 1 By or more");
    Py_XSETREF(origin_variable, Py_NewRef(variable));
    sampler_seed(&sampler, interval, seed);
    hooks_check();
    arenas_check();
    Py_RETURN_NONE;
}

static bool is_any(const Entry *entry, int64_t unused) { return (void)unused, entry->kind != FREE; }

static PyObject *stop(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    arenas_remove();
    hooks_remove();
    sampler.interval = 0;
    sampler.left = INT64_MAX;
    watch_every = 1;
    table_drop(&sampler.table, is_any, 0);
    sites_sweep();
    Py_RETURN_NONE;
}

/* See to it that the hooks are in place; True when they were. */
static PyObject *check(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (!sampler.interval) Py_RETURN_TRUE;
    bool hooks_were = hooks_check(), arenas_were = arenas_check();
    sites_sweep();
    generation += !(hooks_were && arenas_were);
    return PyBool_FromLong(hooks_were && arenas_were);
}

/* line(code, instruction), as in the stacks of a snapshot: -1 for none. */
static PyObject *line(PyObject *module, PyObject *args) {
    PyObject *code;
    int instruction;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!i", &PyCode_Type, &code, &instruction)) return NULL;
    return PyLong_FromLong(PyCode_Addr2Line((PyCodeObject *)code, 2 * instruction)); /* two By each in all versions */
}

static PyObject *statistics(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return Py_BuildValue("{sdsIsIsIsKsKsLsO}", "interval", sampler.interval, "samples", sampler.table.used - watched,
                         "watched", watched, "watched_every", watch_every, "lost", (unsigned long long)sampler.lost,
                         "generation", (unsigned long long)generation, "protobuf_bytes", (long long)arena_bytes,
                         "sees_protobuf", arenas_seen ? Py_True : Py_False);
}

/* replay(interval, seed, [(old, new, size), …]) -> [(address, size, weight), …]: what a sampler of its own knows after
   `old` was given back and `new` taken (0: none), step by step. For the tests to hold against twin.py. */
static PyObject *replay(PyObject *module, PyObject *args) {
    double interval;
    unsigned long long seed;
    PyObject *steps, *found = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "dKO!", &interval, &seed, &PyList_Type, &steps)) return NULL;
    Sampler *own = calloc(1, sizeof *own);
    if (!own) return PyErr_NoMemory();
    sampler_seed(own, interval, seed);
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(steps); at++) {
        Py_ssize_t old, new, size;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(steps, at), "nnn", &old, &new, &size)) goto done;
        if (may_know(&own->table, (void *)old)) table_remove(&own->table, (uintptr_t)old);
        if (!new || (own->left -= size) >= 0) continue;
        double weight = sampler_take(own, (size_t)size);
        Entry *entry = table_add(&own->table, (void *)new, PYTHON);
        if (!entry) goto done;
        entry->size = (size_t)size;
        entry->weight = weight;
    }
    found = PyList_New(0);
    for (uint32_t at = 1; found && at < own->table.capacity; at++) {
        const Entry *entry = &own->table.entries[at];
        if (entry->kind == FREE) continue;
        PyObject *row = Py_BuildValue("(nKd)", (Py_ssize_t)entry->address, (unsigned long long)entry->size, entry->weight);
        if (!row || PyList_Append(found, row) < 0) Py_CLEAR(found);
        Py_XDECREF(row);
    }
done:
    free(own->table.entries);
    free(own);
    return found;
}

static PyMethodDef functions[] = {{"start", start, METH_VARARGS, NULL},
                                  {"stop", stop, METH_NOARGS, NULL},
                                  {"check", check, METH_NOARGS, NULL},
                                  {"snapshot", snapshot, METH_O, NULL},
                                  {"line", line, METH_VARARGS, NULL},
                                  {"statistics", statistics, METH_NOARGS, NULL},
                                  {"attributed", (PyCFunction)(void (*)(void))attributed, METH_FASTCALL, NULL},
                                  {"follow", (PyCFunction)(void (*)(void))follow, METH_FASTCALL, NULL},
                                  {"tally", tally, METH_VARARGS, NULL},
                                  {"retained", retained, METH_VARARGS, NULL},
                                  {"unwatch", unwatch, METH_O, NULL},
                                  {"print_pymalloc", print_pymalloc, METH_O, NULL},
                                  {"replay", replay, METH_VARARGS, NULL},
                                  {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "native", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_native(void) {
#ifdef Py_GIL_DISABLED
    return PyErr_Format(PyExc_ImportError, "it needs the GIL, which this Python does not have");
#else
    if (PyInterpreterState_Get() != PyInterpreterState_Main())
        return PyErr_Format(PyExc_ImportError, "it is for the main interpreter, and this is a subinterpreter");
    return PyModule_Create(&definition);
#endif
}
