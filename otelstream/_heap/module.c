#include "heap.h"

/* start(interval, seed, variable, most_watched): sample every `interval` By on average; again, to change it. */
static PyObject *start(PyObject *Py_UNUSED(module), PyObject *args) {
    double interval;
    unsigned long long seed;
    PyObject *variable;
    if (!PyArg_ParseTuple(args, "dKOI", &interval, &seed, &variable, &watch_limit)) return NULL;
    Py_XSETREF(origin_variable, Py_NewRef(variable));
    sampler_seed(&sampler, interval, seed);
    hooks_check();
    arenas_check();
    Py_RETURN_NONE;
}

static bool is_any(const Entry *entry, int64_t Py_UNUSED(none)) { return entry->kind != FREE; }

static PyObject *stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
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
static PyObject *check(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    if (!sampler.interval) Py_RETURN_TRUE;
    bool hooks_were = hooks_check(), arenas_were = arenas_check();
    sites_sweep();
    return PyBool_FromLong(hooks_were && arenas_were);
}

static PyObject *statistics(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    return Py_BuildValue("{sIsIsIsdsdsO}", "samples", sampler.table.used - watched, "watched", watched, "watched_every",
                         watch_every, "large_bytes", sampler.from_malloc[0], "protobuf_bytes", sampler.from_malloc[1],
                         "sees_protobuf", arenas_seen ? Py_True : Py_False);
}

static PyMethodDef functions[] = {
    {"start", start, METH_VARARGS, NULL}, {"stop", stop, METH_NOARGS, NULL},
    {"check", check, METH_NOARGS, NULL}, {"snapshot", snapshot, METH_O, NULL},
    {"statistics", statistics, METH_NOARGS, NULL},
    {"attributed", (PyCFunction)(void (*)(void))attributed, METH_FASTCALL, NULL},
    {"follow", (PyCFunction)(void (*)(void))follow, METH_FASTCALL, NULL},
    {"tally", tally, METH_VARARGS, NULL}, {"retained", retained, METH_VARARGS, NULL},
    {"unwatch", unwatch, METH_O, NULL}, {"print_pymalloc", print_pymalloc, METH_O, NULL}, {0}};
/* A size of 0, not -1: with that, Python 3.10 and 3.11 hand the module on to a subinterpreter without asking it. */
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "native", .m_size = 0, .m_methods = functions};

PyMODINIT_FUNC PyInit_native(void) {
#ifdef Py_GIL_DISABLED
    return PyErr_Format(PyExc_ImportError, "it needs the GIL, which this Python does not have");
#else
    if (PyInterpreterState_Get() != PyInterpreterState_Main())
        return PyErr_Format(PyExc_ImportError, "it is for the main interpreter, and this is a subinterpreter");
    return PyModule_Create(&definition);
#endif
}
