#if defined(ET_PLAIN_SUFFIX)
/* a[0..left - 1], rounded up to fours, += what the lists say, position by position. */
static void et_lists_SUFFIX(const ELEMENT *p, const et_offset *plus, uint32_t n, const et_offset *minus, uint32_t m,
                            int32_t *a, uint32_t left) {
  for (uint32_t j = 0; j < left; j += 4, p += 4, a += 4) {
    int32_t a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
    for (const et_offset *o = plus, *end = plus + n; o < end;) {
      const ELEMENT *q = p + *o++;
      a0 += q[0]; a1 += q[1]; a2 += q[2]; a3 += q[3];
    }
    for (const et_offset *o = minus, *end = minus + m; o < end;) {
      const ELEMENT *q = p + *o++;
      a0 -= q[0]; a1 -= q[1]; a2 -= q[2]; a3 -= q[3];
    }
    a[0] = a0; a[1] = a1; a[2] = a2; a[3] = a3;
  }
}
#endif
