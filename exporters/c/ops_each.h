/* Activation, an operand of Concat: acc = v. |v * m| < 2^30 of both types. */
static void et_each_SUFFIX(const ELEMENT *in, uint8_t *out, int32_t count, int32_t zero, const et_activation *a,
                          const uint8_t *head, const uint8_t *row) {
  int32_t m = et_i16(row), e = row[2];
  for (; count > 0; count--) *out++ = et_code(a, head, et_shift((*in++ - zero) * m, e));
}
