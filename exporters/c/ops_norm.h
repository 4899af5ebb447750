/* Norm: a row is the bias, whether v counts (else the channel is constant), m, e. `plane`: elements of a channel. */
static void et_norm_SUFFIX(const ELEMENT *in, uint8_t *out, int32_t channels, int32_t plane, const et_activation *a,
                           const uint8_t *k) {
  const uint8_t *head = k + 1, *row = head + ET_HEAD(a);
  for (; channels > 0; channels--, row += 8) {
    int32_t factor = row[4] * 256, bias = et_i32(row) - factor * k[0], i;
    for (i = 0; i < plane; i++) *out++ = et_code(a, head, et_narrow(bias + factor * *in++, head, row + 5));
  }
}
