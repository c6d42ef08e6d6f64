/* Drives a sampler of its own as the hooks drive theirs: what tests/unit/heap/test_twin.py compares with the twin. */
#include "heap.h"

#include <stdlib.h>

uint32_t watched, watch_every;
void site_count(Site *site, int by) { (void)site, (void)by; }

typedef struct {
    uint64_t old, new, size; /* addresses: 0 for none */
} Step;

size_t bits; /* of the filter that were set at the end */

/* The entries at the end, at most `most`, and how many. */
size_t replay(double interval, uint64_t seed, const Step *steps, size_t count, Entry *found, size_t most) {
    Sampler *own = calloc(1, sizeof *own);
    sampler_seed(own, interval, seed);
    for (const Step *step = steps; step < steps + count; step++) {
        if (may_know(&own->table, (void *)step->old)) table_remove(&own->table, step->old);
        if (!step->new || (own->left -= (int64_t)step->size) >= 0) continue;
        double weight = sampler_take(own, step->size);
        Entry *entry = table_add(&own->table, (void *)step->new, PYTHON);
        entry->size = step->size;
        entry->weight = weight;
    }
    size_t known = 0;
    for (uint32_t at = 1; at < own->table.capacity && known < most; at++)
        if (own->table.entries[at].kind != FREE) found[known++] = own->table.entries[at];
    bits = 0;
    for (size_t chain = 0; chain < CHAINS; chain++) bits += (size_t)__builtin_popcount(own->table.filter[chain]);
    free(own->table.entries);
    free(own);
    return known;
}
