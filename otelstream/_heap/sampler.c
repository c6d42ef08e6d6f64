#include "heap.h"

#include <math.h>
#include <stdlib.h>

#define LARGEST_OF_PYMALLOC 512

Sampler sampler = {.left = INT64_MAX};

/* xorshift64* (Vigna, 2016): 53 bits of it, as a number above 0 and up to 1. */
static double uniform(Sampler *s) {
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return ((double)((s->random * 0x2545F4914F6CDD1Du) >> 11) + 1.0) / 9007199254740992.0;
}

static void draw(Sampler *s) { s->left = (int64_t)(-log(uniform(s)) * s->interval); }

void sampler_seed(Sampler *s, double interval, uint64_t seed) {
    s->interval = interval;
    s->random = seed ? seed : 1;
    draw(s);
}

/* Bytes are a line on which points fall at random, one in `interval` on average (a Poisson process), and a block that
   one falls on is sampled. So a block of n bytes is with probability 1 - exp(-n / interval), and then stands for the
   inverse of that. The way to the next point does not depend on what was before: it is drawn anew. */
double sampler_take(Sampler *s, size_t size) {
    draw(s);
    return -1.0 / expm1(-(double)(size ? size : 1) / s->interval);
}

static bool has_room(Table *table) {
    if (table->unused) return true;
    uint32_t capacity = table->capacity ? 2 * table->capacity : 1024;
    Entry *entries = capacity < 1u << 31 ? realloc(table->entries, capacity * sizeof *entries) : NULL;
    if (!entries) return false;
    for (uint32_t at = capacity; at-- > (table->capacity ? table->capacity : 1);) {
        entries[at] = (Entry){.next = table->unused};
        table->unused = at;
    }
    entries[0] = (Entry){0};
    table->entries = entries;
    table->capacity = capacity;
    return true;
}

/* A block may have several: a sample, and one of each group that watches it. Moves the others. NULL without memory. */
Entry *table_add(Table *table, void *block, enum kind kind) {
    if (!has_room(table)) return NULL;
    size_t chain = chain_of((uintptr_t)block);
    uint32_t at = table->unused;
    Entry *entry = &table->entries[at];
    table->unused = entry->next;
    *entry = (Entry){.address = (uintptr_t)block, .kind = kind, .next = table->chains[chain]};
    table->chains[chain] = at;
    table->used++;
    table->filter[chain] |= (uint8_t)(1 << bit_of((uintptr_t)block) % 8);
    return entry;
}

/* The entry by which this group watches `block`; NULL for none. */
Entry *table_find(Table *table, void *block, int32_t group) {
    for (uint32_t at = table->chains[chain_of((uintptr_t)block)]; at; at = table->entries[at].next) {
        Entry *entry = &table->entries[at];
        if (entry->address == (uintptr_t)block && entry->kind == WATCHED && entry->group == group) return entry;
    }
    return NULL;
}

void count_from_malloc(const Entry *entry, int sign) {
    if (entry->kind == WATCHED || (entry->kind == PYTHON && entry->size <= LARGEST_OF_PYMALLOC)) return;
    sampler.from_malloc[entry->kind - PYTHON] += sign * entry->weight * (double)entry->size;
}

static bool has_address(const Entry *entry, int64_t address) { return entry->address == (uintptr_t)address; }

static void prune(Table *table, size_t chain, bool (*is_wanted)(const Entry *, int64_t), int64_t argument) {
    uint8_t filter = 0;
    for (uint32_t *link = &table->chains[chain]; *link;) {
        uint32_t at = *link;
        Entry *entry = &table->entries[at];
        if (!is_wanted(entry, argument)) {
            filter |= (uint8_t)(1 << bit_of(entry->address) % 8);
            link = &entry->next;
            continue;
        }
        *link = entry->next;
        if (entry->site) site_count(entry->site, -1);
        if (entry->kind == WATCHED && --watched == 0) watch_every = 1;
        count_from_malloc(entry, -1);
        *entry = (Entry){.next = table->unused};
        table->unused = at;
        table->used--;
    }
    table->filter[chain] = filter;
}

void table_remove(Table *table, uintptr_t address) {
    prune(table, chain_of(address), has_address, (int64_t)address);
}

void table_drop(Table *table, bool (*is_wanted)(const Entry *, int64_t), int64_t argument) {
    for (size_t chain = 0; chain < CHAINS; chain++) prune(table, chain, is_wanted, argument);
}
