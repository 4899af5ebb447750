#if defined(__ARM_ARCH_6M__) || !defined(__GNUC__)
#define ET_BITWISE /* no count of trailing zeros, no long products, no unaligned words */
#endif

/* A loop that has all registers to itself. */
#if defined(__GNUC__)
#define ET_APART __attribute__((noinline))
#define ET_MAYBE __attribute__((unused)) /* not every network needs it */
#else
#define ET_APART
#define ET_MAYBE
#endif

/* Words of the arena, whatever else is read there. */
#if defined(__GNUC__)
typedef uint32_t __attribute__((may_alias)) et_cell;
#else
typedef uint32_t et_cell;
#endif

/* Numbers of the model, little-endian and unaligned, and the end of every layer: a sum becomes a code (edgeticket/integer.py). */
ET_MAYBE static int32_t et_i16(const uint8_t *k) {
  return (int32_t)(((uint32_t)k[0] | (uint32_t)k[1] << 8) ^ 0x8000u) - 0x8000;
}

ET_MAYBE static int32_t et_i32(const uint8_t *k) {
  uint32_t v = (uint32_t)k[0] | (uint32_t)k[1] << 8 | (uint32_t)k[2] << 16 | (uint32_t)k[3] << 24;
  int32_t s;
  memcpy(&s, &v, 4);
  return s;
}

ET_MAYBE static int32_t et_clamp(int32_t v, int32_t low, int32_t high) { return v < low ? low : v > high ? high : v; }

/* (acc * m + 2^(e - 1)) >> e, kept within +-2^29; m, e: int16 and uint8 at k. */
ET_MAYBE static int32_t et_scale(int32_t acc, const uint8_t *k) {
  int64_t p = ((int64_t)acc * et_i16(k) + ((int64_t)1 << (k[2] - 1))) >> k[2];
  return p < -0x20000000 ? -0x20000000 : p > 0x1FFFFFFF ? 0x1FFFFFFF : (int32_t)p;
}

/* What a layer does with p; `table` and `bits` (its knots are 2^bits + 1) of a curve. */
enum { ET_CLAMP, ET_LEAKY, ET_CURVE, ET_RESIDUAL };
typedef struct {
  uint8_t kind, bits;
  const int16_t *table;
} et_activation;

/* Bytes of a head: zero point, lowest and highest code, flags; three more where the activation has a scale of its own. */
#define ET_HEAD(a) ((a)->kind == ET_CLAMP ? 4 : 7)

/* The code of p under the head at k. */
ET_MAYBE static uint8_t et_code(const et_activation *a, const uint8_t *k, int32_t p) {
#ifdef ET_NEEDS_LEAKY
  if (a->kind == ET_LEAKY) {
    p = et_clamp(p, -32768, 32767);
    p = p < 0 ? et_scale(p, k + 4) : p;
  }
#endif
#ifdef ET_NEEDS_CURVE
  if (a->kind == ET_CURVE || a->kind == ET_RESIDUAL) {
    int32_t half = (int32_t)128 << a->bits, t = et_clamp(p, -half, half - 1) + half, f = t & 255;
    const int16_t *knot = a->table + (t >> 8);
    int64_t q = (knot[0] * (256 - f) + knot[1] * f + 128) >> 8;
    q += a->kind == ET_RESIDUAL && p > 0 ? (int64_t)4 * p : 0;
    q = (q * et_i16(k + 4) + ((int64_t)1 << (k[6] - 1))) >> k[6];
    p = q < -32768 ? -32768 : q > 32767 ? 32767 : (int32_t)q;
  }
#endif
  (void)a;
  return (uint8_t)et_clamp(p + k[0], k[1], k[2]);
}
