/* (acc * m + 2^(e - 1)) >> e by one multiplication of 32 bits, for what fits it. */
typedef struct {
  int32_t m;
  uint32_t e; /* 0: the general way */
} et_ratio;

static et_ratio et_ratio_of(const uint8_t *k, uint32_t narrow) {
  et_ratio r = {et_i16(k), k[2]};
#ifdef ET_BITWISE
  if (!narrow || r.e < 9 || r.e > 38) r.e = 0;
#else
  (void)narrow;
  if (r.e < 16 || r.e > 32) r.e = 0;
  else r.m *= (int32_t)1 << (32 - r.e);
#endif
  return r;
}

static int32_t et_rescale(int32_t acc, et_ratio r) {
#ifdef ET_BITWISE
  /* |acc| < 2^23: no long multiplication, the sum's low byte apart. */
  return ((acc >> 8) * r.m + ((int32_t)1 << (r.e - 9)) + (((acc & 255) * r.m) >> 8)) >> (r.e - 8);
#elif defined(__ARM_FEATURE_DSP) && !defined(__ARM_FEATURE_MVE)
  int32_t p;
  __asm__("smmulr %0, %1, %2" : "=r"(p) : "r"(acc), "r"(r.m));
  return p;
#else
  return (int32_t)(((int64_t)acc * r.m + 0x80000000LL) >> 32);
#endif
}
