/* A queue in an array that wraps around. The items are of one size; their owner casts `items`. */
#ifndef CSMTP_RING_H
#define CSMTP_RING_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    void *items;
    size_t first, count, room; /* room is a power of two, or 0 */
} csmtp_ring;

/* Moves the items to an array with room for at least `room` items. Returns false if there is no
 * memory; then nothing changes. */
bool csmtp_ring_grow(csmtp_ring *ring, size_t room, size_t item_size);

/* Makes room for `more` items in addition to those there are; see csmtp_ring_grow. */
static inline bool csmtp_ring_reserve(csmtp_ring *ring, size_t more, size_t item_size)
{
    size_t room = ring->count + more;
    return room <= ring->room || csmtp_ring_grow(ring, room, item_size);
}

/* Where in the array the item stands that has `place` others before it. */
static inline size_t csmtp_ring_index(const csmtp_ring *ring, size_t place)
{
    return (ring->first + place) & (ring->room - 1);
}

/* Adds an item, which the caller writes to the index that this returns. There must be room. */
static inline size_t csmtp_ring_append(csmtp_ring *ring)
{
    return csmtp_ring_index(ring, ring->count++);
}

static inline void csmtp_ring_drop_first(csmtp_ring *ring)
{
    ring->first = csmtp_ring_index(ring, 1);
    ring->count--;
}

#endif
