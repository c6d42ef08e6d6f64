/* A sampling profiler of what was allocated and is not freed yet. README.md beside this file tells how it works.

   All of it runs with the GIL of the main interpreter held, so nothing takes a lock. Inside the hooks nothing may
   allocate from Python, run Python code, or drop a last reference: what is let go there waits for `sites_sweep`. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030D0000
#define PyThreadState_GetUnchecked _PyThreadState_UncheckedGet
#define Py_IsFinalizing _Py_IsFinalizing
#endif

enum kind { FREE, PYTHON, PROTOBUF, WATCHED };

typedef struct site Site; /* a stack in the call that it belongs to, see stacks.c */

/* What is known of one block. */
typedef struct {
    uintptr_t address;
    Site *site;
    uint64_t size; /* By: of the block; of a watched message, on the wire */
    double weight; /* blocks that a sample stands for */
    int64_t time_ns, call_id;
    uint32_t next; /* in its chain, by place */
    int32_t group; /* of watched messages, see watch.c */
    uint8_t kind, header;
    bool sent, retained;
} Entry;

/* The blocks that are known, by address. `filter` has 8 bits for each chain, and one of them is set for each block in it:
   for almost every block that is freed its bit is 0, and that one load is all the cost. */
#define CHAINS 65536
typedef struct {
    uint8_t filter[CHAINS];
    uint32_t chains[CHAINS]; /* place of the first entry; 0 for none */
    Entry *entries;          /* the one at 0 is not used */
    uint32_t capacity, used, unused;
} Table;

typedef struct {
    int64_t left; /* By to go until the next sample */
    double interval;
    uint64_t random;
    double from_malloc[2]; /* By, estimates: in Python's blocks that are too large for pymalloc, and in protobuf's */
    Table table;
} Sampler;

static inline size_t bit_of(uintptr_t address) { return (address * 0x9E3779B97F4A7C15u) >> 45; }

static inline size_t chain_of(uintptr_t address) { return bit_of(address) / 8; }

static inline bool may_know(const Table *table, const void *block) {
    size_t bit = bit_of((uintptr_t)block);
    return table->filter[bit / 8] >> bit % 8 & 1;
}

extern Sampler sampler;

/* sampler.c */
void sampler_seed(Sampler *, double interval, uint64_t seed);
double sampler_take(Sampler *, size_t size);
Entry *table_add(Table *, void *block, enum kind);
Entry *table_find(Table *, void *block, int32_t group);
void table_remove(Table *, uintptr_t address);
void count_from_malloc(const Entry *, int sign);
void table_drop(Table *, bool (*is_wanted)(const Entry *, int64_t), int64_t argument);

/* stacks.c */
extern PyObject *origin_variable;
Site *site_here(void);
void site_count(Site *, int by);
void sites_sweep(void);
PyObject *attributed(PyObject *, PyObject *const *args, Py_ssize_t count);
PyObject *snapshot(PyObject *, PyObject *since_ns);

/* hooks.c */
bool may_run(void);
void sample(void *block, size_t size, enum kind);
bool hooks_are_called(void);
bool hooks_check(void);
void hooks_remove(void);
PyObject *print_pymalloc(PyObject *, PyObject *stream);

/* arenas.c */
extern bool arenas_seen;
bool arenas_check(void);
void arenas_remove(void);

/* watch.c */
extern uint32_t watched, watch_every, watch_limit;
PyObject *follow(PyObject *, PyObject *const *args, Py_ssize_t count);
PyObject *tally(PyObject *, PyObject *args);
PyObject *retained(PyObject *, PyObject *args);
PyObject *unwatch(PyObject *, PyObject *group);
