/* Sixteen bytes at a time: SSE2 on x86-64, NEON on arm64. CSMTP_SIMD is defined if there is either.
 *
 * A match is a vector whose bytes are 0xff or 0, as a comparison returns it. */
#ifndef CSMTP_BODY_SIMD_H
#define CSMTP_BODY_SIMD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__) || defined(_M_X64)
#define CSMTP_SIMD 1
#include <emmintrin.h>

typedef __m128i bytes16;

static inline bytes16 load16(const uint8_t *bytes)
{
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

static inline void store16(uint8_t *out, bytes16 bytes)
{
    _mm_storeu_si128((__m128i *)(void *)out, bytes);
}

static inline bytes16 all16(uint8_t byte) { return _mm_set1_epi8((char)byte); }
static inline bytes16 equal16(bytes16 a, bytes16 b) { return _mm_cmpeq_epi8(a, b); }
static inline bytes16 and16(bytes16 a, bytes16 b) { return _mm_and_si128(a, b); }
static inline bytes16 or16(bytes16 a, bytes16 b) { return _mm_or_si128(a, b); }
static inline bytes16 xor16(bytes16 a, bytes16 b) { return _mm_xor_si128(a, b); }
static inline bytes16 subtract16(bytes16 a, bytes16 b) { return _mm_sub_epi8(a, b); }

/* The sum of sixteen unsigned bytes. */
static inline size_t sum16(bytes16 counts)
{
    __m128i halves = _mm_sad_epu8(counts, _mm_setzero_si128());
    return (size_t)(_mm_cvtsi128_si32(halves) + _mm_extract_epi16(halves, 4));
}

static inline uint64_t bits16(bytes16 match)
{
    return (uint64_t)(unsigned)_mm_movemask_epi8(match);
}

/* One bit per byte of four matches; the lowest bit is the first byte's. */
static inline uint64_t bits64(bytes16 a, bytes16 b, bytes16 c, bytes16 d)
{
    return bits16(a) | bits16(b) << 16 | bits16(c) << 32 | bits16(d) << 48;
}

#elif defined(__AARCH64EL__) || defined(_M_ARM64)
#define CSMTP_SIMD 1
#include <arm_neon.h>

typedef uint8x16_t bytes16;

static inline bytes16 load16(const uint8_t *bytes) { return vld1q_u8(bytes); }
static inline void store16(uint8_t *out, bytes16 bytes) { vst1q_u8(out, bytes); }
static inline bytes16 all16(uint8_t byte) { return vdupq_n_u8(byte); }
static inline bytes16 equal16(bytes16 a, bytes16 b) { return vceqq_u8(a, b); }
static inline bytes16 and16(bytes16 a, bytes16 b) { return vandq_u8(a, b); }
static inline bytes16 or16(bytes16 a, bytes16 b) { return vorrq_u8(a, b); }
static inline bytes16 xor16(bytes16 a, bytes16 b) { return veorq_u8(a, b); }
static inline bytes16 subtract16(bytes16 a, bytes16 b) { return vsubq_u8(a, b); }
static inline size_t sum16(bytes16 counts) { return vaddlvq_u8(counts); }

static inline uint64_t bits64(bytes16 a, bytes16 b, bytes16 c, bytes16 d)
{
    /* Each byte keeps the bit of its place among eight; pairwise sums bring eight together. */
    const uint8x16_t place = vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
    uint8x16_t ab = vpaddq_u8(vandq_u8(a, place), vandq_u8(b, place));
    uint8x16_t cd = vpaddq_u8(vandq_u8(c, place), vandq_u8(d, place));
    uint8x16_t abcd = vpaddq_u8(ab, cd);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(abcd, abcd)), 0);
}

#endif

#ifdef CSMTP_SIMD
/* Clang has its builtin also where it replaces Microsoft's compiler, and for 32 bits as well. */
#if defined(_MSC_VER) && !defined(__clang__)
#define CSMTP_BIT_SCAN 1
#include <intrin.h>
#endif

/* Returns the number of the lowest bit that is set. bits must not be 0. */
static inline unsigned lowest_bit(uint64_t bits)
{
#ifdef CSMTP_BIT_SCAN
    unsigned long place;
    _BitScanForward64(&place, bits);
    return (unsigned)place;
#else
    return (unsigned)__builtin_ctzll(bits);
#endif
}
#endif

#endif
