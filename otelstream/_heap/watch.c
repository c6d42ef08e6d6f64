/* Messages that are followed until they are freed, by the address of their block: protobuf's take no weak references.
   A message is followed when `watch_every` divides a hash of that address: it is 1 until there are `watch_limit` at
   once, and what is sent again and again is chosen always or never. */
#include "heap.h"

#include <stdlib.h>

uint32_t watched, watch_every = 1, watch_limit;

/* By from the block to the object in it: what the garbage collector and the type have before it. -1 for an object whose
   block may become another's without being freed (a free list), or that equal ones share. */
static int header_of(PyObject *item) {
    PyTypeObject *type = Py_TYPE(item);
    int pair = 2 * sizeof(PyObject *);
    if (type == &PyBytes_Type || type == &PyUnicode_Type) return PyObject_Size(item) > 1 ? 0 : -1;
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE)) return -1;
    if (type->tp_free != PyObject_GC_Del && type->tp_free != PyObject_Free) return -1;
#if PY_VERSION_HEX >= 0x030C0000
    bool has_more = type->tp_flags & (Py_TPFLAGS_MANAGED_DICT | Py_TPFLAGS_MANAGED_WEAKREF);
#elif PY_VERSION_HEX >= 0x030B0000
    bool has_more = type->tp_flags & Py_TPFLAGS_MANAGED_DICT;
#else
    bool has_more = false;
#endif
    return (PyType_IS_GC(type) ? pair : 0) + (has_more ? pair : 0);
}

static bool is_left_out(const Entry *entry, int64_t every) {
    return entry->kind == WATCHED && (int64_t)chain_of(entry->address) % every;
}

/* follow((group, call_id, sent, other), message, number, size, now_ns) -> a number that the next message's is above, so
   that it is wanted, too: `record.Follow`. `other` is called for a message whose memory says nothing of it. The first
   four are one argument because a `partial` with more than five takes memory for each call. */
PyObject *follow(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 5 || !PyTuple_Check(args[0]) || PyTuple_GET_SIZE(args[0]) != 4)
        return PyErr_Format(PyExc_TypeError, "follow() takes a tuple of 4 and 4 arguments");
    int header = header_of(args[1]);
    if (header < 0) return PyObject_Vectorcall(PyTuple_GET_ITEM(args[0], 3), args + 1, 4, NULL);
    long group = PyLong_AsLong(PyTuple_GET_ITEM(args[0], 0));
    long long call_id = PyLong_AsLongLong(PyTuple_GET_ITEM(args[0], 1));
    long long size = PyLong_AsLongLong(args[3]), now = PyLong_AsLongLong(args[4]);
    if (PyErr_Occurred()) return NULL;
    void *block = (char *)args[1] - header;
    bool is_chosen = sampler.interval && chain_of((uintptr_t)block) % watch_every == 0;
    bool is_known = is_chosen && may_know(&sampler.table, block) && table_find(&sampler.table, block, (int32_t)group);
    Entry *entry = is_chosen && !is_known ? table_add(&sampler.table, block, WATCHED) : NULL;
    if (entry) {
        bool sent = PyTuple_GET_ITEM(args[0], 2) == Py_True;
        *entry = (Entry){.address = entry->address, .next = entry->next, .kind = WATCHED, .size = (uint64_t)size,
                         .time_ns = now, .call_id = call_id, .group = (int32_t)group, .sent = sent,
                         .header = (uint8_t)header};
        if (++watched > watch_limit && watch_every < CHAINS) {
            watch_every *= 2;
            table_drop(&sampler.table, is_left_out, watch_every);
        }
    }
    return Py_NewRef(args[2]);
}

/* No free has been missed: what is known is there. */
static bool is_sure(void) { return may_run() && hooks_are_called(); }

static int compare(const void *a, const void *b) {
    return (*(const int64_t *)a > *(const int64_t *)b) - (*(const int64_t *)a < *(const int64_t *)b);
}

/* tally(now_ns, after_ns, settled_ns, open, of_open, counts, sizes): what is `after_ns` old, or of a call that is not
   among `open` (sorted ids), is retained. Adds it to the place of its call in `of_open`, and to that of its group; a
   group whose size is below 0 is somebody else's, and left alone. */
PyObject *tally(PyObject *Py_UNUSED(module), PyObject *args) {
    long long now, after, settled;
    Py_buffer open, of_open, counts, sizes;
    if (!PyArg_ParseTuple(args, "LLLy*w*w*w*", &now, &after, &settled, &open, &of_open, &counts, &sizes)) return NULL;
    size_t groups = (size_t)Py_MIN(sizes.len, counts.len) / sizeof(double);
    size_t number = (size_t)Py_MIN(open.len, of_open.len) / sizeof(int64_t);
    bool is_told = watched && is_sure();
    for (uint32_t at = 1; is_told && at < sampler.table.capacity; at++) {
        Entry *entry = &sampler.table.entries[at];
        double *size = (double *)sizes.buf + entry->group, *count = (double *)counts.buf + entry->group;
        if (entry->kind != WATCHED || (size_t)entry->group >= groups || *size < 0) continue;
        int64_t *id = bsearch(&entry->call_id, open.buf, number, sizeof *id, compare);
        long long age = now - entry->time_ns; /* below 0: the clock was set back */
        entry->retained = age < 0 || age >= after || (age >= settled && !id);
        if (!entry->retained) continue;
        if (id) ((double *)of_open.buf)[id - (int64_t *)open.buf] += watch_every;
        *count += watch_every;
        *size += (double)entry->size * watch_every;
    }
    PyBuffer_Release(&open), PyBuffer_Release(&of_open), PyBuffer_Release(&counts), PyBuffer_Release(&sizes);
    Py_RETURN_NONE;
}

/* retained(group, since_ns, sent, most) -> (count, objects): what the last tally found of those that came at `since_ns`
   or later and went that way (sent: 1, 0, or -1 for both), and up to `most` of them. */
PyObject *retained(PyObject *Py_UNUSED(module), PyObject *args) {
    int group, sent;
    long long since;
    Py_ssize_t most, number = 0;
    if (!PyArg_ParseTuple(args, "iLin", &group, &since, &sent, &most)) return NULL;
    PyObject *items = PyList_New(0);
    bool is_told = items && is_sure(); /* after the list is made: that may run anything */
    for (uint32_t at = 1; is_told && items && at < sampler.table.capacity; at++) {
        Entry *entry = &sampler.table.entries[at]; /* found anew each time: a list that grows may move them */
        bool is_asked_for = entry->group == group && entry->time_ns >= since && (sent < 0 || entry->sent == sent);
        if (entry->kind != WATCHED || !entry->retained || !is_asked_for) continue;
        number++;
        PyObject *item = (PyObject *)(entry->address + entry->header);
        if (Py_REFCNT(item) < 1 || PyList_GET_SIZE(items) >= most) continue; /* below 1: it is being destroyed */
        if (PyList_Append(items, item) < 0) Py_CLEAR(items);
    }
    return items ? Py_BuildValue("(nN)", number * watch_every, items) : NULL;
}

static bool is_of(const Entry *entry, int64_t group) { return entry->kind == WATCHED && entry->group == group; }

PyObject *unwatch(PyObject *Py_UNUSED(module), PyObject *group) {
    long number = PyLong_AsLong(group);
    if (number == -1 && PyErr_Occurred()) return NULL;
    table_drop(&sampler.table, is_of, number);
    Py_RETURN_NONE;
}
