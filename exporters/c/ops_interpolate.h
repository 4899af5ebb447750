/* Resize, linear and align_corners. `bits`: of the shares in each direction. */
static void et_interpolate_SUFFIX(const ELEMENT *in, uint8_t *out, const et_resize *r, const et_share *rows,
                                  int32_t row_bits, const et_share *columns, int32_t column_bits, const uint8_t *k) {
  int32_t channel, i, j, down = (int32_t)1 << row_bits, across = (int32_t)1 << column_bits, zero = k[0] * down * across;
  int32_t m = et_i16(k + 5), e = k[7];
  for (channel = 0; channel < r->channels; channel++, in += r->height * r->width) {
    for (i = 0; i < r->out_height; i++) {
      int32_t below = rows[i].share, above = down - below;
      const ELEMENT *top = in + rows[i].at * r->width, *next = below ? top + r->width : top;
      for (j = 0; j < r->out_width; j++) {
        int32_t right = columns[j].share, a = columns[j].at, b = right ? a + 1 : a;
        int32_t acc = (across - right) * (above * top[a] + below * next[a]) - zero;
        acc += right * (above * top[b] + below * next[b]);
        acc = e > 16 ? et_narrow(acc, m, e) : et_scale(acc, k + 5);
        *out++ = (uint8_t)et_clamp(acc + k[1], 0, 255);
      }
    }
  }
}
