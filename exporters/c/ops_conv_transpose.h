/* Adds to `acc`, a row of the whole result, what one row of one input adds through one row of its kernel. */
static void et_spread_row_SUFFIX(const ELEMENT *in, const int8_t *w, int32_t *acc, int32_t zero, const et_spread *s) {
  int32_t tap, x, width = s->width, stride = s->stride[1];
  for (tap = 0; tap < s->kernel[1]; tap++) {
    int32_t value = w[tap], *to = acc + tap;
    if (value == 0) continue;
    for (x = 0; x < width; x++, to += stride) *to += value * (in[x] - zero);
  }
}

/* One filter of a ConvTranspose: w: int8 [inputs, kernel], acc: a row of the whole result, row: bias, m, e. */
static void et_conv_transpose_SUFFIX(const ELEMENT *in, uint8_t *out, const int8_t *w, int32_t *acc, const et_spread *s,
                                     int32_t zero, const et_activation *a, const uint8_t *head, const uint8_t *row) {
  int32_t i, j, tap, channel, bias = et_i32(row), taps = s->kernel[0] * s->kernel[1];
  int32_t m = et_i16(row + 4), e = row[6];
  for (i = 0; i < s->out_height; i++) {
    for (j = 0; j < s->whole; j++) acc[j] = bias;
    for (tap = 0; tap < s->kernel[0]; tap++) {
      int32_t y = i + s->pad[0] - tap;
      if (y < 0 || y % s->stride[0] != 0 || y / s->stride[0] >= s->height) continue;
      for (channel = 0; channel < s->inputs; channel++)
        et_spread_row_SUFFIX(in + (channel * s->height + y / s->stride[0]) * s->width,
                             w + channel * taps + tap * s->kernel[1], acc, zero, s);
    }
    for (j = s->pad[1]; j < s->pad[1] + s->out_width; j++)
      *out++ = et_code(a, head, e > 16 ? et_narrow(acc[j], m, e) : et_scale(acc[j], row + 4));
  }
}
