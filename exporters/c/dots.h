/* a[0..left - 1], rounded up to LANES, += int8 weights times values, a filter's weights in order. */
ET_APART static void et_dots_SUFFIX(const ELEMENT *p, const et_fan *fan, const int8_t *weights, int32_t *a, uint32_t left) {
#ifdef ET_BITWISE
  enum { LANES = 4 };
#else
  enum { LANES = 8 };
#endif
  for (uint32_t j = 0; j < left; j += LANES, p += LANES, a += LANES) {
    int32_t a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
#ifndef ET_BITWISE
    int32_t a4 = a[4], a5 = a[5], a6 = a[6], a7 = a[7];
#endif
    const ELEMENT *plane = p;
    const int8_t *w = weights;
    for (uint32_t c = 0; c < fan->inputs; c++, plane += fan->plane)
      for (const et_offset *tap = fan->tap, *end = tap + fan->taps; tap < end;) {
        const ELEMENT *q = plane + *tap++;
        int32_t v = *w++;
        a0 += v * q[0]; a1 += v * q[1]; a2 += v * q[2]; a3 += v * q[3];
#ifndef ET_BITWISE
        a4 += v * q[4]; a5 += v * q[5]; a6 += v * q[6]; a7 += v * q[7];
#endif
      }
    a[0] = a0; a[1] = a1; a[2] = a2; a[3] = a3;
#ifndef ET_BITWISE
    a[4] = a4; a[5] = a5; a[6] = a6; a[7] = a7;
#endif
  }
}
