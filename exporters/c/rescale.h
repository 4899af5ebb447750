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
#elif defined(__ARM_FEATURE_DSP)
  int32_t p;
  __asm__("smmulr %0, %1, %2" : "=r"(p) : "r"(acc), "r"(r.m));
  return p;
#else
  return (int32_t)(((int64_t)acc * r.m + 0x80000000LL) >> 32);
#endif
}

#if defined(__ARM_FEATURE_SAT)
#define ET_BYTE(p) __asm__("usat %0, #8, %0" : "+r"(p))
#else
#define ET_BYTE(p) ((p) = et_clamp(p, 0, 255))
#endif

/* Codes of n sums, in turn to q[0] and q[1], `step` apart; q moves on. */
ET_APART static void et_store(const int32_t *s, uint32_t n, uint8_t **q, uint32_t step, et_ratio ratio, const uint8_t *head) {
  const int32_t *end = s + n, offset = head[0], low = head[1], high = head[2];
  uint8_t *q0 = q[0], *q1 = q[1];
  if (low == 0 && high == 255)
    for (; end - s >= 2; s += 2, q0 += step, q1 += step) {
      int32_t a = et_rescale(s[0], ratio) + offset, b = et_rescale(s[1], ratio) + offset;
      ET_BYTE(a);
      ET_BYTE(b);
      *q0 = (uint8_t)a; *q1 = (uint8_t)b;
    }
  for (; s < end; s++) {
    uint8_t *next = q0 + step;
    *q0 = (uint8_t)et_clamp(et_rescale(*s, ratio) + offset, low, high);
    q0 = q1; q1 = next;
  }
  q[0] = q0; q[1] = q1;
}

#ifdef ET_NEEDS_ANY
/* The same for any activation and ratio. */
ET_APART static void et_store_any(const int32_t *s, uint32_t n, uint8_t **q, uint32_t step, const et_activation *activation,
                                  const uint8_t *ratio, const uint8_t *head) {
  for (; n; n--, s++) {
    uint8_t *next = q[0] + step;
    *q[0] = et_code(activation, head, et_scale(*s, ratio));
    q[0] = q[1]; q[1] = next;
  }
}
#endif
