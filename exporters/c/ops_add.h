/* Add of two: |factor * code| <= 2^15 * 255, so the sum and half of 2^e fit 32 bits, and it is 0 codes where e > 30. */
static void et_add(const uint8_t *a, const uint8_t *b, uint8_t *out, const et_pair *p, const et_activation *act,
                   const uint8_t *k) {
  const uint8_t *head = k + 2, *f = head + ET_HEAD(act);
  int32_t fa = et_i32(f), fb = et_i32(f + 4), e = f[8] > 30 ? 30 : f[8], zero = head[0];
  int32_t base = ((int32_t)1 << (e - 1)) - fa * k[0] - fb * k[1], step_a = p->a[2], step_b = p->b[2], i, j;
  for (i = 0; i < p->size[0]; i++) {
    for (j = 0; j < p->size[1]; j++) {
      const uint8_t *x = a + i * p->a[0] + j * p->a[1], *y = b + i * p->b[0] + j * p->b[1], *end = out + p->size[2];
      if (act->kind == ET_CLAMP && head[1] == 0 && head[2] == 255) {
        for (; out < end; x += step_a, y += step_b)
          *out++ = (uint8_t)et_clamp(((fa * *x + fb * *y + base) >> e) + zero, 0, 255);
      }
      for (; out < end; x += step_a, y += step_b) *out++ = et_code(act, head, (fa * *x + fb * *y + base) >> e);
    }
  }
}
