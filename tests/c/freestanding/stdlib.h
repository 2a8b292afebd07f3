/* What the kernels use of the C library, for targets whose own headers are not at hand. */
#include <stddef.h>

void *malloc(size_t count);
void *realloc(void *bytes, size_t count);
void free(void *bytes);
