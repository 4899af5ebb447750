/* Norm: a row is the bias, whether v counts (else the channel is constant), m, e. `plane`: elements of a channel. */
static void et_norm_SUFFIX(const ELEMENT *in, uint8_t *out, int32_t channels, int32_t plane, const et_activation *a,
                           const uint8_t *k) {
  const uint8_t *head = k + 1, *row = head + ET_HEAD(a);
  for (; channels > 0; channels--, row += 8) {
    int32_t factor = row[4] * 256, bias = et_i32(row) - factor * k[0], m = et_i16(row + 5), e = row[7], i;
    for (i = 0; i < plane; i++) {
      int32_t acc = bias + factor * *in++;
      *out++ = et_code(a, head, e > 16 ? et_narrow(acc, m, e) : et_scale(acc, row + 5));
    }
  }
}
