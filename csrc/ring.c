#include "ring.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

bool csmtp_ring_grow(csmtp_ring *ring, size_t room, size_t item_size)
{
    size_t new_room = ring->room > 0 ? ring->room : 16;
    while (new_room < room)
        new_room *= 2;
    uint8_t *items = malloc(new_room * item_size);
    if (!items)
        return false;
    if (ring->count > 0) {
        /* The items up to the end of the array, then those that wrapped around. */
        const uint8_t *old = ring->items;
        size_t tail = ring->room - ring->first;
        if (tail > ring->count)
            tail = ring->count;
        memcpy(items, old + ring->first * item_size, tail * item_size);
        memcpy(items + tail * item_size, old, (ring->count - tail) * item_size);
    }
    free(ring->items);
    *ring = (csmtp_ring){items, 0, ring->count, new_room};
    return true;
}
