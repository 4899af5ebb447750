#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && !defined(ET_BITWISE) && \
    (!defined(__arm__) || defined(__ARM_FEATURE_UNALIGNED))
#define ET_WORDS
#endif

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
/* a[0..15] += what the lists say, in 16-bit lanes: exact for at most 128 entries of a sign, 128 * 255 < 2^15. */
ET_APART static void et_lists_u8(const uint8_t *p, const et_offset *plus, uint32_t n, const et_offset *minus, uint32_t m, int32_t *a,
                        uint32_t left) {
  (void)left;
  while (n || m) {
    uint32_t i, np = n < 128 ? n : 128, nm = m < 128 ? m : 128;
    uint16x8_t s = vdupq_n_u16(0), t = s;
    for (i = 0; i < nm; i++) { s = vaddq_u16(s, vldrbq_u16(p + minus[i])); t = vaddq_u16(t, vldrbq_u16(p + minus[i] + 8)); }
    s = vsubq_u16(vdupq_n_u16(0), s); t = vsubq_u16(vdupq_n_u16(0), t);
    for (i = 0; i < np; i++) { s = vaddq_u16(s, vldrbq_u16(p + plus[i])); t = vaddq_u16(t, vldrbq_u16(p + plus[i] + 8)); }
    int16_t lane[16];
    vst1q_s16(lane, vreinterpretq_s16_u16(s)); vst1q_s16(lane + 8, vreinterpretq_s16_u16(t));
    for (i = 0; i < 16; i += 4) vst1q_s32(a + i, vaddq_s32(vld1q_s32(a + i), vldrhq_s32(lane + i)));
    plus += np; minus += nm; n -= np; m -= nm;
  }
}

#elif defined(ET_WORDS)
static uint32_t et_load(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}

#ifdef __ARM_FEATURE_DSP
#define ET_ODD(h, w) __asm__("uxtab16 %0, %0, %1, ror #8" : "+r"(h) : "r"(w))
#else
#define ET_ODD(h, w) ((h) += ((w) >> 8) & 0x00FF00FFu)
#endif
#define ET_ADD(q)                                                                                     \
  do {                                                                                                \
    uint32_t w0 = et_load(q), w1 = et_load((q) + 4), w2 = et_load((q) + 8), w3 = et_load((q) + 12);   \
    t0 += w0; t1 += w1; t2 += w2; t3 += w3;                                                           \
    ET_ODD(h0, w0); ET_ODD(h1, w1); ET_ODD(h2, w2); ET_ODD(h3, w3);                                   \
  } while (0)

#define ET_HALF(q)                                     \
  do {                                                 \
    uint32_t w0 = et_load(q), w1 = et_load((q) + 4);   \
    t0 += w0; t1 += w1;                                \
    ET_ODD(h0, w0); ET_ODD(h1, w1);                    \
  } while (0)
#define ET_SUM(entry, end, ADD)                        \
  for (const et_offset *last = end; entry < last;) {   \
    const uint8_t *q = p + *entry++;                   \
    ADD(q);                                            \
  }
#ifdef ET_NEEDS_HALF /* many runs end within the first half of a tile */
#define ET_SUMS(entry, end) if (left <= 8) ET_SUM(entry, end, ET_HALF) else ET_SUM(entry, end, ET_ADD)
#else
#define ET_SUMS(entry, end) ET_SUM(entry, end, ET_ADD)
#endif

/* Four sums from a word of all bytes' sum and a word of the odd bytes' sums. */
static void et_lanes(uint32_t t, uint32_t h, int32_t *a) {
  uint32_t even = t - (h << 8);
  int32_t a0 = (int16_t)even, a1 = (int16_t)h;
  a[0] += a0; a[1] += a1;
  a[2] += (int32_t)(even - (uint32_t)a0) >> 16; a[3] += (int32_t)(h - (uint32_t)a1) >> 16;
}

/* a[0..15] += one pass. A word load brings four positions; their sums live in two words, exact modulo 2^16 a lane: for at most
   128 entries of a sign, 128 * 255 < 2^15. */
ET_APART static void et_pass_u8(const uint8_t *p, const et_offset *plus, const et_offset *minus, const et_offset *const *end,
                                int32_t *a, uint32_t left) {
  uint32_t t0 = 0, t1 = 0, t2 = 0, t3 = 0, h0 = 0, h1 = 0, h2 = 0, h3 = 0, less[8];
  (void)left;
  ET_SUMS(minus, end[1])
  less[0] = t0; less[1] = h0; less[2] = t1; less[3] = h1; less[4] = t2; less[5] = h2; less[6] = t3; less[7] = h3;
  t0 = t1 = t2 = t3 = h0 = h1 = h2 = h3 = 0;
  ET_SUMS(plus, end[0])
  et_lanes(t0 - less[0], h0 - less[1], a); et_lanes(t1 - less[2], h1 - less[3], a + 4);
  et_lanes(t2 - less[4], h2 - less[5], a + 8); et_lanes(t3 - less[6], h3 - less[7], a + 12);
}

static void et_lists_u8(const uint8_t *p, const et_offset *plus, uint32_t n, const et_offset *minus, uint32_t m, int32_t *a,
                        uint32_t left) {
  (void)left;
  while (n || m) {
    uint32_t np = n < 128 ? n : 128, nm = m < 128 ? m : 128;
    const et_offset *const end[2] = {plus + np, minus + nm};
    et_pass_u8(p, plus, minus, end, a, left);
    plus += np; minus += nm; n -= np; m -= nm;
  }
}
#else
#define ET_PLAIN_u8
#endif
