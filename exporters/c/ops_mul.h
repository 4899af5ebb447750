/* Mul of two: |acc * m| <= 255 * 255 * 32767 < 2^31. */
static void et_mul(const uint8_t *a, const uint8_t *b, uint8_t *out, const et_pair *p, const uint8_t *k) {
  int32_t za = k[0], zb = k[1], zero = k[2], m = et_i16(k + 6), e = k[8], step_a = p->a[2], step_b = p->b[2], i, j;
  for (i = 0; i < p->size[0]; i++) {
    for (j = 0; j < p->size[1]; j++) {
      const uint8_t *x = a + i * p->a[0] + j * p->a[1], *y = b + i * p->b[0] + j * p->b[1];
      uint8_t *end = out + p->size[2];
      for (; out < end; x += step_a, y += step_b)
        *out++ = (uint8_t)et_clamp(et_shift((*x - za) * (*y - zb) * m, e) + zero, 0, 255);
    }
  }
}
